//! The invariants, the number of times that each was checked, and the first one that did not hold.

use std::fmt;

use serde::Serialize;

/// What must hold in every run, whatever happens to its server, its disk, its volunteers and their links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedPromise"))]
pub enum Invariant {
    /// Every gradient is in at most one contribution, and each contribution is settled once.
    Once,
    /// What the server counts is what it has accepted.
    Totals,
    /// What was called durable is there after every crash.
    Durable,
    /// Versions and incarnations only grow.
    Versions,
    /// No session's number is given twice.
    Sessions,
    /// What the server holds is bounded.
    Memory,
    /// The run goes on after every crash.
    Start,
    /// When all is quiet, each volunteer was told what the server has accepted of it.
    Agreement,
    /// Lost is only what volunteers that are gone took with them, and the server says how much.
    Books,
}

impl Invariant {
    /// All of them, in the order in which they are declared.
    pub const ALL: [Invariant; 9] = [
        Invariant::Once,
        Invariant::Totals,
        Invariant::Durable,
        Invariant::Versions,
        Invariant::Sessions,
        Invariant::Memory,
        Invariant::Start,
        Invariant::Agreement,
        Invariant::Books,
    ];

    /// The promise, as a sentence.
    pub fn promise(self) -> &'static str {
        match self {
            Invariant::Once => "Every gradient is in at most one accepted contribution.",
            Invariant::Totals => "The server’s totals are the sums of what it has accepted.",
            Invariant::Durable => "What was called durable is there after every crash.",
            Invariant::Versions => "Versions never go back within an incarnation.",
            Invariant::Sessions => "No session’s number is given twice.",
            Invariant::Memory => "The server’s memory is bounded.",
            Invariant::Start => "The server can start again after every crash.",
            Invariant::Agreement => "At rest, each volunteer was told exactly what the server counts for it.",
            Invariant::Books => "Only volunteers that are gone, or a disk that lied, have lost anything.",
        }
    }
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was found.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { invariant, found } = self;
        write!(formatter, "{invariant:?} does not hold: {found}")
    }
}

/// The checks of a run.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    counts: [u64; Invariant::ALL.len()],
    violation: Option<Violation>,
}

impl Checks {
    /// Checks that `holds`; `found` says what was found where it does not.
    pub(super) fn require(&mut self, invariant: Invariant, holds: bool, found: impl FnOnce() -> String) {
        self.counts[invariant as usize] += 1;
        if !holds && self.violation.is_none() {
            self.violation = Some(Violation {
                invariant,
                found: found(),
            });
        }
    }

    /// Checks that two values are equal.
    pub(super) fn require_eq<T: PartialEq + fmt::Debug>(
        &mut self,
        invariant: Invariant,
        is: T,
        expected: T,
        what: impl FnOnce() -> String,
    ) {
        let holds = is == expected;
        self.require(invariant, holds, || {
            format!("{}: {is:?} instead of {expected:?}", what())
        });
    }

    /// How often this one was checked.
    pub fn count(&self, invariant: Invariant) -> u64 {
        self.counts[invariant as usize]
    }

    /// The first one that did not hold. Nothing that was checked after it means anything.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }
}
