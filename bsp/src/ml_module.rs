//! The loop of an ML module (105): read the local model, compute a gradient, add it to the aggregate, again.
//!
//! It never waits for synchronising. In decoupled mode it sleeps only while it is told to pause, and at the start, until a
//! first model and first samples are there. In lockstep, the baseline, it computes one gradient for each model version and
//! then waits for the next: that is the barrier.

use std::time::Duration;

use crate::message::Mode;
use crate::shared_memory::{Control, Gradient, MlSide, ModelStamp, Phase, State};
use crate::time::{Time, duration_micros};

mod duty;

pub use duty::Duty;

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
    duty: Duty,
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
            duty: Duty::default(),
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
        self.rest(control, added.since(begin), clock);
        Turn::Computed
    }

    /// Sleeps so long that computing takes the share of the time that the volunteer allows, or until the volunteer wishes
    /// something else. Its wish: not counted as waiting.
    fn rest(&mut self, control: Control, computing: Duration, clock: &mut impl FnMut() -> Time) {
        let Some(rest) = self.duty.on_computed(computing, control.duty_percent) else {
            return;
        };
        let begin = clock();
        self.memory.wait_while(control, Some(rest));
        self.duty.on_rested(clock().since(begin));
        if self.memory.control() != control {
            self.duty.forget();
        }
    }

    fn slept(&self, begin: Time, end: Time) -> Turn {
        self.memory.account(Phase::Wait, duration_micros(end.since(begin)));
        Turn::Slept
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use std::cell::Cell;
    use std::time::Instant;

    use super::*;
    use crate::shared_memory::{LocalSide, shared_memory};

    /// Each gradient takes `step` of a clock that goes on by itself, too: sleeps are real.
    struct SlowEngine<'a> {
        step: Duration,
        computed: &'a Cell<Duration>,
    }

    impl Engine for SlowEngine<'_> {
        fn next_step(&mut self, step: u64) -> Option<u64> {
            Some(step)
        }

        fn gradient(&mut self, _: &[f32], _: u64, gradient: &mut [f32]) -> Outcome {
            self.computed.set(self.computed.get() + self.step);
            gradient.fill(1.0);
            Outcome {
                samples: 1,
                loss_sum: 1.0,
            }
        }
    }

    fn with_model(duty_percent: u8) -> (LocalSide, MlSide) {
        let (mut local, mut sides) = shared_memory(1, 1);
        let stamp = ModelStamp {
            incarnation: 0,
            version: 0,
        };
        local.publish(stamp, |slot| slot.fill(0.0));
        let state = State::Run;
        local.set_control(0, Control { state, duty_percent });
        (local, sides.remove(0))
    }

    #[test]
    fn a_duty_of_a_tenth_computes_for_a_tenth_of_the_time_at_most_and_what_it_rests_is_not_waiting() {
        let (local, side) = with_model(10);
        let (computed, began) = (Cell::new(Duration::ZERO), Instant::now());
        let step = Duration::from_micros(900);
        let engine = SlowEngine {
            step,
            computed: &computed,
        };
        let mut ml_module = MlModule::new(side, 1, Mode::Decoupled, engine);
        let mut clock = || Time::ZERO + computed.get() + began.elapsed();
        for _ in 0..20 {
            assert_eq!(ml_module.turn(&mut clock), Turn::Computed);
        }
        // What a sleep was too long by is made up for once; a busy machine only makes the share smaller.
        let share = computed.get().as_secs_f64() / clock().since(Time::ZERO).as_secs_f64();
        assert!(share < 0.115, "{share}");
        let progress = local.progress(0);
        assert_eq!((progress.steps, progress.time_us.wait), (20, 0));
        assert!(progress.time_us.gradient >= duration_micros(20 * step));
    }

    #[test]
    fn a_new_wish_of_the_volunteer_ends_a_long_rest() {
        let (local, side) = with_model(1);
        std::thread::scope(|scope| {
            let resting = scope.spawn(move || {
                let computed = Cell::new(Duration::ZERO);
                let engine = SlowEngine {
                    step: Duration::from_secs(3600),
                    computed: &computed,
                };
                let mut ml_module = MlModule::new(side, 1, Mode::Decoupled, engine);
                ml_module.run(|| Time::ZERO + computed.get());
            });
            while local.progress(0).steps == 0 {
                std::thread::yield_now();
            }
            let state = State::Run;
            local.set_control(0, Control { state, duty_percent: 2 });
            while local.progress(0).steps == 1 {
                std::thread::yield_now();
            }
            drop(local);
            resting.join().expect("it leaves its loop");
        });
    }
}
