//! A run with faults, drawn from its seed, whose invariants are checked after each event.
//!
//! The server crashes, alone or with its machine, while it writes a checkpoint or while it starts; its disk tears,
//! fails, fills up and lies; links are cut, stand still and repeat; volunteers freeze, close and die. For twelve
//! seconds of virtual time anything may happen. Then all comes to rest, and the books are closed. The same seed gives
//! the same run, natively and in a browser.
//!
//! [`settings`](self) and [`planned_faults`](self) draw a run, [`Watch`] looks on and hands each event to the
//! invariants, a file for each; [`view`] is what a page shows of it.

use bsp::time::Time;

mod durable;
mod end;
mod invariants;
mod log;
mod memory;
mod once;
mod outcome;
mod planned_faults;
mod sessions;
mod settings;
mod versions;
pub mod view;
mod watch;

pub use invariants::{Checks, Invariant, Violation};
pub use log::{Entry, Log, Subject};
pub use outcome::{Counts, Outcome};
pub use settings::{config, world};
pub use watch::Watch;

use crate::small_model::SmallModel;
use crate::world::World;

/// Faults happen until then.
pub const FAULTS_END: Time = Time::from_micros(12_000_000);

/// A world whose invariants are checked.
pub type FaultWorld = World<SmallModel, Watch>;

/// How far a run has come.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    /// Faults happen, until [`FAULTS_END`].
    Faults,
    /// They are over, and all comes to rest until this time.
    Calm(Time),
    /// These volunteers leave; at this time they are gone.
    Farewell(Vec<usize>, Time),
    /// The books are closed.
    Closed(Outcome),
    /// An invariant did not hold, and the run ends here.
    Violated(Violation),
}

/// A run with faults.
pub struct FaultRun {
    world: FaultWorld,
    phase: Phase,
}

impl FaultRun {
    /// The run of this seed, at its beginning.
    pub fn new(seed: u64) -> FaultRun {
        let mut world = settings::begun(seed);
        planned_faults::plan(&mut world);
        FaultRun {
            world,
            phase: Phase::Faults,
        }
    }

    /// A run whose faults are over: it only has to come to rest.
    pub fn without_further_faults(mut world: FaultWorld) -> FaultRun {
        let quiet = end::begin_calm(&mut world);
        FaultRun {
            world,
            phase: Phase::Calm(quiet),
        }
    }

    /// Lets the next event happen, if it is not after `until`, or the next phase begin. Returns whether there was one.
    pub fn step(&mut self, until: Time) -> bool {
        let phase_ends = match &self.phase {
            Phase::Faults => FAULTS_END,
            Phase::Calm(end) | Phase::Farewell(_, end) => *end,
            Phase::Closed(_) | Phase::Violated(_) => return false,
        };
        if self.world.step(phase_ends.min(until)) {
            watch::check(&mut self.world);
        } else if phase_ends <= until {
            self.world.now = phase_ends;
            self.begin_next_phase();
        } else {
            return false;
        }
        if let Some(violation) = self.world.observer.checks.violation() {
            self.phase = Phase::Violated(violation.clone());
        }
        true
    }

    fn begin_next_phase(&mut self) {
        let world = &mut self.world;
        self.phase = match &self.phase {
            Phase::Faults => Phase::Calm(end::begin_calm(world)),
            Phase::Calm(_) => {
                let (leave, gone) = end::begin_farewell(world);
                Phase::Farewell(leave, gone)
            }
            Phase::Farewell(left, _) => Phase::Closed(end::close_books(world, left)),
            Phase::Closed(_) | Phase::Violated(_) => return,
        };
    }

    /// Lets time pass until `until`, or until the run's end.
    pub fn run_until(&mut self, until: Time) {
        while self.step(until) {}
        if matches!(self.phase, Phase::Faults | Phase::Calm(_) | Phase::Farewell(..)) {
            self.world.now = self.world.now.max(until);
        }
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn finish(mut self) -> Result<Outcome, Violation> {
        const END: Time = Time::from_micros(u64::MAX);
        while self.step(END) {}
        match self.phase {
            Phase::Closed(outcome) => Ok(outcome),
            Phase::Violated(violation) => Err(violation),
            phase => unreachable!("a run ends, and this one is at {phase:?}"),
        }
    }

    /// The world.
    pub fn world(&self) -> &FaultWorld {
        &self.world
    }

    /// How far it has come.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }
}

/// Lets time pass in a world until `end`, and checks after each event.
///
/// # Errors
/// The first invariant that did not hold.
pub fn let_pass(world: &mut FaultWorld, end: Time) -> Result<(), Violation> {
    while world.step(end) {
        watch::check(world);
    }
    world.now = end;
    match world.observer.checks.violation() {
        Some(violation) => Err(violation.clone()),
        None => Ok(()),
    }
}
