//! What the loop of a volunteer asks of its driver.

use std::borrow::Cow;

use bsp::ml_module::MlModule;
use bytes::Bytes;

use crate::engine::CpuEngine;
use crate::fetch::Resource;
use crate::messages::Told;
#[cfg(doc)]
use crate::volunteer_loop::VolunteerLoop;

/// More actions than any event causes: after a death none may be made room for.
pub(crate) const MOST_ACTIONS: usize = 96;

/// What the driver has to do next.
pub enum Action {
    /// Fetch this, then call [`VolunteerLoop::on_fetched`].
    Fetch(Resource),
    /// Open the socket, then call [`VolunteerLoop::on_open`] or [`VolunteerLoop::on_closed`].
    Connect {
        /// No frame is longer, up or down.
        max_frame_bytes: usize,
    },
    /// Send this frame.
    Send(Bytes),
    /// Send the frame [`VolunteerLoop::contribution_frame`].
    SendContribution {
        /// Its number.
        sequence: u64,
    },
    /// Close the socket, once what was sent has left. [`VolunteerLoop::on_closed`] need not be called for it.
    Disconnect,
    /// Run this ML module on a thread of its own.
    StartMlModule {
        /// Its number, for [`VolunteerLoop::on_ml_module_died`].
        number: usize,
        /// The module.
        ml_module: Box<MlModule<CpuEngine>>,
    },
    /// Tell a page what this volunteer is doing, if there is a page.
    Tell(Told),
    /// Write this to the log.
    Log(Level, Cow<'static, str>),
    /// It is over. Nothing follows.
    End(Ending),
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// For a reader who follows what happens.
    Info,
    /// Something is not as it should be, and the volunteer goes on.
    Warning,
}

/// How a loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The volunteer left, at its own wish.
    Left,
    /// The run is finished.
    Finished,
    /// The server refuses it, for this reason, and another try would change nothing.
    Refused(String),
    /// An error that another try would not change.
    Failed(String),
    /// Another loop starts in its place, as was told.
    Restarting,
}
