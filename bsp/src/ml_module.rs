//! The loop of an ML module (105): read the local model, compute a gradient, add it to the aggregate, again.
//!
//! It never waits for synchronising. In decoupled mode it sleeps only in a pause, and at the start, until a first model
//! and first samples are there. In the baselines, lockstep and asynchronous, it computes one gradient for each model
//! that it is sent and then waits for the next: that is the barrier.
//!
//! - [`training_loop`]: the loop as a state machine, without the engine: the next step, and the handling of a gradient.
//! - [`working_copy`]: under local steps, the model that the ML module moves by itself.

use std::time::Duration;

use crate::protocol::message::Mode;
use crate::shared_memory::{Control, MlSide, Phase};
use crate::time::{Time, duration_micros};

mod duty;
pub mod training_loop;
pub mod working_copy;

pub use duty::Duty;
use training_loop::{Next, TrainingLoop};
use working_copy::LocalOptimizer;

/// Computes gradients: `nn` on a CPU, and other engines later.
pub trait Engine {
    /// The first step at or after `step` that can be computed now, if any: a step's samples must have arrived.
    fn next_step(&mut self, step: u64) -> Option<u64>;

    /// Computes step `step` on the model `parameters` and overwrites `gradient` with the sum of its samples' gradients.
    fn gradient(&mut self, parameters: &[f32], step: u64, gradient: &mut [f32]) -> Outcome;
}

/// The outcome of one gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Samples in the minibatch.
    pub samples: u32,
    /// Sum of their losses.
    pub loss_sum: f64,
}

/// The time between two looks for first samples, whose arrival wakes no sleeper.
const NAP: Duration = Duration::from_millis(5);

/// One ML module.
pub struct MlModule<E> {
    training: TrainingLoop,
    engine: E,
    gradient: Box<[f32]>,
    duty: Duty,
}

/// The outcome of one turn of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A gradient was computed, and added or refused.
    Computed,
    /// There was nothing to compute on, or it was to pause: it slept.
    Slept,
    /// It is to stop.
    Stopped,
}

impl<E: Engine> MlModule<E> {
    /// An ML module over its side of the shared memory. With `local_steps` it also moves along its own gradients.
    pub fn new(memory: MlSide, mode: Mode, local_steps: Option<Box<dyn LocalOptimizer>>, engine: E) -> MlModule<E> {
        let gradient = vec![0.0; memory.parameters()].into_boxed_slice();
        MlModule {
            training: TrainingLoop::new(memory, mode, local_steps),
            engine,
            gradient,
            duty: Duty::default(),
        }
    }

    /// Computes until it is told to stop. It reads `clock` a few times a step.
    pub fn run(&mut self, mut clock: impl FnMut() -> Time) {
        while self.turn(&mut clock) != Turn::Stopped {}
    }

    /// One turn of the loop: at most one gradient.
    pub fn turn(&mut self, clock: &mut impl FnMut() -> Time) -> Turn {
        let begin = clock();
        let control = match self.training.begin() {
            Next::Stop => return Turn::Stopped,
            // A pause is the volunteer's own wish, and does not count as waiting.
            Next::Pause(control) => {
                self.training.memory().wait_while(control, None);
                return Turn::Slept;
            }
            Next::AwaitModel => {
                self.training.memory().wait_for_publish(None);
                return self.slept(begin, clock());
            }
            Next::Compute(control) => control,
        };
        let Some(step) = self.engine.next_step(self.training.next_step()) else {
            self.training.memory().wait_while(control, Some(NAP));
            return self.slept(begin, clock());
        };
        let read = clock();
        let outcome = self.engine.gradient(&self.training.model(), step, &mut self.gradient);
        let computed = clock();
        // The shared memory refuses and counts a gradient that is not finite. The next one may be finite.
        let _ = self.training.finish(step, outcome, &mut self.gradient);
        let added = clock();
        let memory = self.training.memory();
        memory.account(Phase::Read, duration_micros(read.since(begin)));
        memory.account(Phase::Gradient, duration_micros(computed.since(read)));
        memory.account(Phase::Add, duration_micros(added.since(computed)));
        self.rest(control, added.since(begin), clock);
        Turn::Computed
    }

    /// Sleeps until computing has taken the share of the time that the volunteer allows, or until the control changes.
    /// This rest does not count as waiting.
    fn rest(&mut self, control: Control, computing: Duration, clock: &mut impl FnMut() -> Time) {
        let Some(rest) = self.duty.on_computed(computing, control.duty_percent) else {
            return;
        };
        let begin = clock();
        self.training.memory().wait_while(control, Some(rest));
        self.duty.on_rested(clock().since(begin));
        if self.training.memory().control() != control {
            self.duty.forget();
        }
    }

    fn slept(&self, begin: Time, end: Time) -> Turn {
        let memory = self.training.memory();
        memory.account(Phase::Wait, duration_micros(end.since(begin)));
        Turn::Slept
    }
}
