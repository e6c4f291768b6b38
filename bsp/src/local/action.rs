//! The local module's requests to its driver.

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
    /// Send the contribution [`super::Local::contribution_frame`]. The local module keeps it.
    SendContribution {
        /// Its number.
        sequence: u64,
    },
    /// Close the link. This needs no call of [`super::Local::on_closed`].
    Disconnect,
    /// A session is open: minibatches can be drawn, ML modules can start.
    SessionOpened(SessionId),
    /// The membership is over; see [`End`]. The ML modules have been told to stop. No action follows.
    Ended(End),
}
