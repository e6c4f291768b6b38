//! An ML module of a simulated tab: the real training loop, and the account of its time. Virtual time passes between
//! the two halves of a step.

use std::time::Duration;

use bsp::ml_module::Duty;
use bsp::ml_module::training_loop::{Next, TrainingLoop};
use bsp::ml_module::working_copy::LocalOptimizer;
use bsp::protocol::message::{Mode, SessionId};
use bsp::shared_memory::{Control, MlSide};
use bsp::time::Time;

use crate::gradients::{Computing, GradientName, Gradients};

/// An ML module of a simulated tab; `B` is a gradient that has begun.
pub struct SimulatedMl<B> {
    /// Its loop; `None` once it has stopped.
    pub training: Option<TrainingLoop>,
    busy: Option<Busy<B>>,
    duty: Duty,
    /// Until when it rests, while this is its control.
    rest: Option<(Time, Control)>,
    /// Time since its first model in which it was to run and had nothing to compute on.
    pub waited: Duration,
    idle_since: Option<Time>,
}

struct Busy<B> {
    name: GradientName,
    since: Time,
    begun: B,
}

/// A gradient that was finished.
pub(crate) struct Finished {
    pub(crate) name: GradientName,
    pub(crate) samples: u32,
    /// Whether it was added: the shared memory refuses a gradient that is not finite.
    pub(crate) is_finite: bool,
    pub(crate) took: Duration,
}

impl<B> SimulatedMl<B> {
    pub(crate) fn new(side: MlSide, mode: Mode, local_steps: Option<Box<dyn LocalOptimizer>>) -> SimulatedMl<B> {
        SimulatedMl {
            training: Some(TrainingLoop::new(side, mode, local_steps)),
            busy: None,
            duty: Duty::default(),
            rest: None,
            waited: Duration::ZERO,
            idle_since: None,
        }
    }

    /// The time that it has spent so far on an unfinished gradient.
    pub(crate) fn busy_for(&self, now: Time) -> Duration {
        self.busy.as_ref().map_or(Duration::ZERO, |busy| now.since(busy.since))
    }

    /// Nothing of it is left. A gradient that had begun is lost.
    pub(crate) fn vanish(&mut self) {
        (self.training, self.busy) = (None, None);
    }

    /// Begins a minibatch if it can. Returns whether it did.
    pub(crate) fn begin<G: Gradients<Begun = B>>(
        &mut self,
        now: Time,
        session: SessionId,
        computing: &mut Computing<G>,
    ) -> bool {
        if self.busy.is_some() {
            return false;
        }
        let Some(training) = &mut self.training else {
            return false;
        };
        let control = training.memory().control();
        match self.rest {
            Some((until, during)) if now < until && control == during => return false,
            Some((_, during)) if control != during => self.duty.forget(),
            _ => {}
        }
        self.rest = None;
        match training.begin() {
            Next::Stop => {
                self.training = None;
                return false;
            }
            Next::Pause(_) => {
                self.idle_since = None;
                return false;
            }
            Next::AwaitModel => {
                if training.stamp().is_some() {
                    self.idle_since.get_or_insert(now);
                }
                return false;
            }
            Next::Compute(_) => {}
        }
        if let Some(since) = self.idle_since.take() {
            self.waited += now.since(since);
        }
        let name = GradientName {
            session,
            ml_module: u16::try_from(training.memory().ml_module()).unwrap_or(u16::MAX),
            step: training.next_step(),
        };
        let begun = computing.begin(name, &training.model());
        let since = now;
        self.busy = Some(Busy { name, since, begun });
        true
    }

    /// Rests after a minibatch that took `computing`, as `MlModule` does. Returns the end of the rest, if there is one.
    pub(crate) fn begin_rest(&mut self, now: Time, computing: Duration) -> Option<Time> {
        let control = self.training.as_ref()?.memory().control();
        let rest = self.duty.on_computed(computing, control.duty_percent)?;
        self.duty.on_rested(rest);
        self.rest = Some((now + rest, control));
        Some(now + rest)
    }

    /// Adds the gradient of the minibatch that has begun, if the ML module still runs.
    pub(crate) fn finish<G: Gradients<Begun = B>>(&mut self, now: Time, gradients: &mut G) -> Option<Finished> {
        let busy = self.busy.take()?;
        let training = self.training.as_mut()?;
        let name = busy.name;
        let (samples, is_finite) = gradients.finish(busy.begun, |gradient, outcome| {
            (outcome.samples, training.finish(name.step, outcome, gradient).is_ok())
        });
        Some(Finished {
            name,
            samples,
            is_finite,
            took: now.since(busy.since),
        })
    }
}
