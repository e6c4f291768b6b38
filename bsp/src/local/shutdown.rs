//! Leaving, and the end.

use std::time::Duration;

use crate::protocol::message::Refusal;
use crate::time::Time;

/// A leaving volunteer waits at most this long for its last contribution to settle.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a membership ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The session is over, but a fresh start may do: the server restarted, or the session expired.
    StartAfresh(Refusal),
    /// An ML module died. The others were read out; this memory is of no more use, but a fresh start may do.
    MlModuleDied,
    /// Trying again is of no use.
    Refused(Refusal),
    /// It left, at its own wish.
    Left,
}

impl End {
    /// The end of a volunteer that was turned away for this reason.
    pub(super) fn of_refusal(refusal: Refusal) -> End {
        match refusal {
            Refusal::AnotherRun | Refusal::AnotherModel | Refusal::SessionOver(_) => End::StartAfresh(refusal),
            refusal => End::Refused(refusal),
        }
    }
}

/// A membership that ends once everything is settled.
#[derive(Clone, Debug)]
pub(super) struct Shutdown {
    /// When it ends at the latest.
    pub(super) until: Time,
    /// How it ends.
    pub(super) end: End,
}

impl Shutdown {
    /// One that begins now.
    pub(super) fn new(now: Time, end: End) -> Shutdown {
        Shutdown {
            until: now + FAREWELL,
            end,
        }
    }
}
