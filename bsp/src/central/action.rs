//! The central module's requests to its driver.

use bytes::Bytes;

#[cfg(doc)]
use super::Central;
use super::checkpoint::{Awaited, Checkpoint};
use super::divergence::Divergence;
use super::trainer::ClosedSuperstep;
use crate::protocol::message::{ContributionRefusal, FromCentral, Refusal, SessionId};

/// A connection, as its driver numbers it. A number is never used again for another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the driver has to do next. Returned in order; the driver does not decide anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this frame. A model's frame is one buffer, shared by all.
    Send {
        /// The receiver.
        to: ConnectionId,
        /// The frame.
        frame: Bytes,
    },
    /// Send what is queued for this connection, then close it. A volunteer that is turned away was sent the reason.
    Disconnect {
        /// The connection.
        from: ConnectionId,
        /// The reason; `None` if it left or was replaced by a newer connection of its own session.
        reason: Option<Refusal>,
    },
    /// A contribution was refused; the volunteer stays. For the log.
    ContributionRefused {
        /// Its session.
        session: SessionId,
        /// Its number in the session.
        sequence: u64,
        /// The reason.
        reason: ContributionRefusal,
    },
    /// A volunteer says that it has seen a later incarnation of this run than this one is. So the run goes on from an
    /// older state than it had: a backup, perhaps. For the log.
    LaterIncarnationSeen {
        /// The incarnation.
        incarnation: u32,
    },
    /// A superstep closed and made a version.
    SuperstepClosed(ClosedSuperstep),
    /// In a run with checkpoints: a contribution was accepted that no checkpoint holds yet. Note it where it outlives
    /// this process, before its acknowledgement is sent: so a server that starts again knows what it has lost.
    NoteAccepted(Awaited),
    /// Write this checkpoint, beside the thread that hands in events. The answer is
    /// [`super::Central::on_checkpoint_written`] or [`super::Central::on_checkpoint_failed`]; until then no other one
    /// is made.
    WriteCheckpoint(Box<Checkpoint>),
    /// Nobody contributes, since volunteers say that their gradients are not finite. Compute a few of the current
    /// model, then call [`Central::diverge`] or [`Central::on_gradients_finite`].
    CheckGradients,
    /// The run has diverged. No version follows, every volunteer is told, and none is taken any more.
    Diverged(Divergence),
}

impl Action {
    /// Sends a message without a payload.
    pub(super) fn send(to: ConnectionId, message: &FromCentral) -> Action {
        let frame = message.encode();
        Action::Send { to, frame }
    }
}
