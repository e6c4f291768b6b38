//! Why the central module refuses a volunteer, or a contribution.

use serde::{Deserialize, Serialize};

use super::SessionId;
use crate::protocol::codec::Codec;

/// Why a volunteer is turned away.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// It speaks another version of the protocol.
    #[error(
        "protocol version {theirs} is not ours ({ours}); reload the page, or use the volunteer of the server's version"
    )]
    Protocol {
        /// The volunteer's version.
        theirs: u16,
        /// The server's version.
        ours: u16,
    },
    /// It names another run.
    #[error("the server trains another run now; join again")]
    AnotherRun,
    /// It computes gradients of another model.
    #[error("the volunteer's model is not the one of this run; join again")]
    AnotherModel,
    /// Its session is unknown here, or over.
    #[error("session {} is over; join again", .0.0)]
    SessionOver(SessionId),
    /// The server has as many sessions as it takes.
    #[error("{max} volunteers are here already, the most that this server takes; try again later")]
    Full {
        /// The limit.
        max: usize,
    },
    /// It sent something before its hello.
    #[error("a hello comes first")]
    HelloFirst,
    /// A contribution's number is not the next one.
    #[error("contribution {got} came where {expected} was due")]
    OutOfOrder {
        /// The number that came.
        got: u64,
        /// The number that was due.
        expected: u64,
    },
    /// A contribution names a session that isn't the connection's own.
    #[error("a contribution of session {} came on another session's connection", .0.0)]
    AnotherSession(SessionId),
    /// A frame that can't be read.
    #[error("a frame can't be read: {0}")]
    Malformed(String),
    /// The run is over.
    #[error("the run is finished; thank you")]
    Finished,
    /// The run has diverged: nothing that is computed for it is finite.
    #[error("the run has diverged: its numbers are no longer finite, until its operator changes something")]
    Diverged,
}

/// Why a contribution was refused. The volunteer stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum ContributionRefusal {
    /// It was computed on models that are too old.
    #[error("it is {staleness} versions old; at most {max} are taken")]
    TooStale {
        /// Its staleness, rounded down.
        staleness: u64,
        /// The run's `max_staleness`.
        max: u64,
    },
    /// Its base version does not exist yet.
    #[error("it says that it was computed on version {version}, which does not exist yet")]
    FromTheFuture {
        /// The mean version that it claims, rounded down.
        version: u64,
    },
    /// Its payload is not as long as the codec in its header makes the model.
    #[error("its payload has {got} bytes; {expected} are needed for the model's parameters")]
    WrongLength {
        /// Bytes of the payload.
        got: usize,
        /// Bytes that it should have.
        expected: usize,
    },
    /// Its payload can't be decoded.
    #[error("its payload can't be decoded: {0}")]
    Undecodable(String),
    /// Its codec is not the one that the welcome named.
    #[error("it is encoded as {got:?}; the welcome asked for {expected:?}")]
    AnotherCodec {
        /// The codec that it uses.
        got: Codec,
        /// The codec of its session.
        expected: Codec,
    },
    /// In lockstep with backup workers: its superstep has closed without it.
    #[error("it was computed for version {version}, and that superstep has closed without it")]
    Dropped {
        /// The version that it was computed on, rounded down.
        version: u64,
    },
    /// Its gradient or loss is infinite or not a number.
    #[error("its gradient or its loss is not finite")]
    NotFinite,
    /// It claims no samples, or fewer samples than gradients.
    #[error("it says that it holds {gradients} gradients of {samples} samples, which can't be")]
    Implausible {
        /// Samples that it claims.
        samples: u64,
        /// Gradients that it claims.
        gradients: u64,
    },
    /// It belongs to another run, model or incarnation.
    #[error("it belongs to another run, model or incarnation")]
    AnotherRun,
    /// The open superstep holds the most contributions of its session that it may hold.
    #[error("{max} contributions of this volunteer are in the open superstep already, the most that it takes")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// It was computed on a model that led to a divergence; the run has gone back to an earlier one.
    #[error("it was computed on a model that has diverged; the run has gone back to an earlier one")]
    Diverged,
}
