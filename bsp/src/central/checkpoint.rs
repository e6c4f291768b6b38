//! A checkpoint: all that a run needs to go on after a restart, as plain data. How it is stored is its driver's matter.
//!
//! It is made between two events, so that its parts belong together: each contribution that its sessions have settled
//! is in its model, in its open superstep, or was refused. So all of them are durable as soon as it is.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::totals::Totals;
use super::trainer::Record;
use crate::protocol::codec::Codec;
use crate::protocol::message::SessionId;

/// All that a run needs to go on after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its number within its incarnation, counted from 1.
    pub number: u64,
    /// The model, its optimizer, and the usual norms and steps of contributions.
    pub trainer: Record,
    /// For each incarnation before this one, the last of its versions that this model goes on from.
    pub last_versions: Vec<u64>,
    /// Incarnations that have diverged: work on their versions beyond those counts for nothing.
    pub diverged: Vec<u32>,
    /// The model as volunteers hold it; empty where models travel as they are.
    pub replica: Vec<f32>,
    /// The open superstep.
    pub open: OpenRecord,
    /// All sessions.
    pub sessions: SessionsRecord,
    /// Contributions that an earlier incarnation had accepted, that no checkpoint held, and that have not come again.
    pub awaited: Vec<Awaited>,
    /// Totals of the run.
    pub totals: Totals,
}

/// The contributions of the open superstep.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenRecord {
    /// The contributions, in the order in which they came.
    pub contributions: Vec<ContributionRecord>,
    /// Sum of the losses of their samples.
    pub loss_sum: f64,
}

/// One contribution of the open superstep; see [`crate::combine::Admitted`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContributionRecord {
    /// Its session.
    pub session: SessionId,
    /// Its number in the session.
    pub sequence: u64,
    /// Its samples.
    pub samples: u64,
    /// The mean version that it was computed on.
    pub version: f64,
    /// Its local steps, under local steps.
    pub steps: Option<f64>,
    /// How its payload is encoded.
    pub codec: Codec,
    /// Its payload, as it came.
    pub payload: Bytes,
}

/// All sessions, connected or not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SessionsRecord {
    /// For each incarnation before this one, the last session that a checkpoint knew of. Later ones of that incarnation
    /// were opened, and nothing of them is known.
    pub last_known: Vec<u64>,
    /// The last session that was opened.
    pub last_session: u64,
    /// The sessions, by their numbers.
    pub sessions: Vec<SessionRecord>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Its number.
    pub session: SessionId,
    /// Contributions up to this number are settled.
    pub settled: u64,
    /// Contributions up to this number were settled when version `since` was made …
    pub settled_before: u64,
    /// … which is this one.
    pub since: u64,
    /// Whether the last settled contribution was refused.
    pub is_last_refused: bool,
    /// Samples in its accepted contributions.
    pub samples: u64,
    /// Its accepted contributions.
    pub accepted: u64,
    /// Its refused contributions.
    pub refused: u64,
}

/// A contribution that was accepted, and then lost with its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// Its session.
    pub session: SessionId,
    /// Its number in the session.
    pub sequence: u64,
    /// Its samples.
    pub samples: u64,
}
