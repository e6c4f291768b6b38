//! Leaving, and the end.

use std::time::Duration;

use crate::protocol::message::Refusal;
use crate::time::Time;

/// A leaving volunteer waits at most this long for the acknowledgement of its last contribution.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a membership ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The session is over: the server restarted, or the session expired. A fresh start may help.
    StartAfresh(Refusal),
    /// An ML module died. The others were read out, and this memory is not used any more. A fresh start may help.
    MlModuleDied,
    /// It was turned away, and trying again does not help.
    Refused(Refusal),
    /// It left, at its own wish.
    Left,
}

impl End {
    /// The end of a volunteer that was turned away for this reason.
    pub(super) fn of_refusal(refusal: Refusal) -> End {
        match refusal {
            // Of the last, the operator may change something.
            Refusal::AnotherRun | Refusal::AnotherModel | Refusal::SessionOver(_) | Refusal::Diverged => {
                End::StartAfresh(refusal)
            }
            refusal => End::Refused(refusal),
        }
    }
}

/// A membership that ends when all contributions are acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Shutdown {
    /// When it ends at the latest.
    pub(super) until: Time,
    /// How it ends.
    pub(super) end: End,
}

impl Shutdown {
    /// A shutdown that begins now.
    pub(super) fn new(now: Time, end: End) -> Shutdown {
        Shutdown {
            until: now + FAREWELL,
            end,
        }
    }
}
