//! The loop of an ML module (105): read the local model, compute a gradient, add it to the aggregate, again.
//!
//! It never waits for synchronising. In decoupled mode it sleeps only while it is told to pause, and at the start, until a
//! first model and first samples are there. In lockstep, the baseline, it computes one gradient for each model version and
//! then waits for the next: that is the barrier.

use std::time::Duration;

use crate::message::Mode;
use crate::shared_memory::{Control, Gradient, MlSide, ModelStamp, Phase, State};
use crate::time::{Time, duration_micros};

/// What computes gradients. A CPU in `nn`; something else can stand behind it later.
pub trait Engine {
    /// The first step at or after `step` that can be computed now, if any: a step's samples must have arrived.
    fn next_step(&mut self, step: u64) -> Option<u64>;

    /// Computes step `step` on the model `parameters` and overwrites `gradient` with the sum of its samples' gradients.
    fn gradient(&mut self, parameters: &[f32], step: u64, gradient: &mut [f32]) -> Outcome;
}

/// What one gradient was computed from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// Samples in the minibatch.
    pub samples: u32,
    /// Sum of their losses.
    pub loss_sum: f64,
}

/// How long an ML module sleeps at a time when there is no first model or no samples yet; it is woken by what it waits for
/// where that can wake it, so this only bounds the wait for samples.
const NAP: Duration = Duration::from_millis(5);

/// One ML module.
pub struct MlModule<E> {
    memory: MlSide,
    engine: E,
    mode: Mode,
    gradient: Box<[f32]>,
    next_step: u64,
    last_stamp: Option<ModelStamp>,
}

/// What came of one turn of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A gradient was computed, and added or refused.
    Computed,
    /// There was nothing to compute on, or it is told to pause: it slept.
    Slept,
    /// It is told to stop.
    Stopped,
}

impl<E: Engine> MlModule<E> {
    /// An ML module over its side of the shared memory of `parameters` parameters.
    pub fn new(memory: MlSide, parameters: usize, mode: Mode, engine: E) -> MlModule<E> {
        let gradient = vec![0.0; parameters].into_boxed_slice();
        MlModule {
            memory,
            engine,
            mode,
            gradient,
            next_step: 0,
            last_stamp: None,
        }
    }

    /// Computes until it is told to stop. `clock` is read a few times a step.
    pub fn run(&mut self, mut clock: impl FnMut() -> Time) {
        while self.turn(&mut clock) != Turn::Stopped {}
    }

    /// One turn of the loop: at most one gradient.
    pub fn turn(&mut self, clock: &mut impl FnMut() -> Time) -> Turn {
        let control = self.memory.control();
        match control.state {
            State::Stop => return Turn::Stopped,
            // The volunteer's own wish: not counted as waiting.
            State::Pause => {
                self.memory.wait_while(control, None);
                return Turn::Slept;
            }
            State::Run => {}
        }
        let begin = clock();
        if self.mode == Mode::Lockstep && self.last_stamp.is_some() && self.memory.published() == self.last_stamp {
            self.memory.wait_for_publish(self.last_stamp, None);
            return self.slept(begin, clock());
        }
        let Some(step) = self.engine.next_step(self.next_step) else {
            self.memory.wait_while(control, Some(NAP));
            return self.slept(begin, clock());
        };
        let Some(model) = self.memory.model() else {
            self.memory.wait_for_publish(None, None);
            return self.slept(begin, clock());
        };
        let stamp = model.stamp();
        let read = clock();
        let outcome = self.engine.gradient(&model, step, &mut self.gradient);
        drop(model);
        let computed = clock();
        // A gradient that is not finite is refused and counted by the shared memory; the next minibatch may do better.
        let added_to_aggregate = self.memory.add(
            &self.gradient,
            Gradient {
                stamp,
                step,
                samples: outcome.samples,
                loss_sum: outcome.loss_sum,
            },
        );
        let added = clock();
        self.next_step = step + 1;
        if added_to_aggregate.is_ok() {
            // In lockstep one gradient is due for each version: after a refusal it still is, or all would wait for ever.
            self.last_stamp = Some(stamp);
        }
        self.memory.account(Phase::Read, duration_micros(read.since(begin)));
        self.memory
            .account(Phase::Gradient, duration_micros(computed.since(read)));
        self.memory.account(Phase::Add, duration_micros(added.since(computed)));
        self.rest(control, added.since(begin));
        Turn::Computed
    }

    /// Sleeps so long that computing takes the share of the time that the volunteer allows. Its wish: not counted as waiting.
    fn rest(&self, control: Control, computing: Duration) {
        let duty = u32::from(control.duty_percent.clamp(1, 100));
        if duty < 100 {
            self.memory.wait_while(control, Some(computing * (100 - duty) / duty));
        }
    }

    fn slept(&self, begin: Time, end: Time) -> Turn {
        self.memory.account(Phase::Wait, duration_micros(end.since(begin)));
        Turn::Slept
    }
}
