//! What the central module asks of its driver.

use bytes::Bytes;

use super::trainer::ClosedSuperstep;
use crate::protocol::message::{ContributionRefusal, FromCentral, Refusal, SessionId};

/// A connection, as its driver numbers it. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the driver has to do next. Returned in order; the driver does not decide anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this frame. A model's frame is one buffer, shared by all.
    Send {
        /// To whom.
        to: ConnectionId,
        /// What.
        frame: Bytes,
    },
    /// Send what there is for this connection, then close it. The reason was sent, where there was somebody to tell.
    Disconnect {
        /// Whom.
        from: ConnectionId,
        /// Why; `None` if it left or was replaced by a newer connection of its own.
        reason: Option<Refusal>,
    },
    /// A contribution was refused; the volunteer stays. For the log.
    ContributionRefused {
        /// Whose.
        session: SessionId,
        /// Which.
        sequence: u64,
        /// Why.
        reason: ContributionRefusal,
    },
    /// A superstep closed and made a version.
    SuperstepClosed(ClosedSuperstep),
    /// The model is not finite any more: the optimizer diverged. No version was made, and none will be.
    Diverged,
}

impl Action {
    /// Sends a message without a payload.
    pub(super) fn send(to: ConnectionId, message: &FromCentral) -> Action {
        let frame = message.encode();
        Action::Send { to, frame }
    }
}
