//! What the local module asks of its driver.

use bytes::Bytes;

use super::shutdown::End;
use crate::protocol::message::SessionId;

/// What the driver has to do next. Returned in order; the driver does not decide anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open the link; then call [`super::Local::on_open`] or [`super::Local::on_closed`].
    Connect,
    /// Send this frame.
    Send(Bytes),
    /// Send the contribution [`super::Local::contribution_frame`]; it stays here.
    SendContribution {
        /// Its number.
        sequence: u64,
    },
    /// Close the link. [`super::Local::on_closed`] need not be called for it.
    Disconnect,
    /// A session is open: minibatches can be drawn, ML modules can start.
    SessionOpened(SessionId),
    /// It is over; see [`End`]. The ML modules have been told to stop. Nothing follows.
    Ended(End),
}
