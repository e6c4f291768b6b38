//! An ML module's loop, cut in two where virtual time passes: it begins a minibatch, and finishes it.
//!
//! It does what `bsp::ml_module::MlModule::turn` does, with the same shared memory, and keeps books of its time.

use std::time::Duration;

use bsp::message::{Mode, SessionId};
use bsp::shared_memory::{Gradient, MlSide, ModelStamp, State};
use bsp::time::Time;

use crate::gradients::{GradientName, Gradients, Models};

/// An ML module of a simulated tab; `B` is a gradient that has begun.
pub struct SimulatedMl<B> {
    /// Its side of the shared memory; `None` once it has stopped.
    pub side: Option<MlSide>,
    busy: Option<Busy<B>>,
    next_step: u64,
    last_stamp: Option<ModelStamp>,
    /// Time in which it had nothing to compute on although it was told to run, since its first model.
    pub waited: Duration,
    idle_since: Option<Time>,
}

struct Busy<B> {
    name: GradientName,
    stamp: ModelStamp,
    since: Time,
    begun: B,
}

/// A gradient that was finished.
pub(crate) struct Finished {
    pub(crate) name: GradientName,
    pub(crate) samples: u32,
    /// Whether it was added; one that is not finite is refused by the shared memory.
    pub(crate) is_finite: bool,
    pub(crate) took: Duration,
}

impl<B> SimulatedMl<B> {
    pub(crate) fn new(side: MlSide) -> SimulatedMl<B> {
        SimulatedMl {
            side: Some(side),
            busy: None,
            next_step: 0,
            last_stamp: None,
            waited: Duration::ZERO,
            idle_since: None,
        }
    }

    /// For how long it has been computing the gradient that it has not finished yet.
    pub(crate) fn busy_for(&self, now: Time) -> Duration {
        self.busy.as_ref().map_or(Duration::ZERO, |busy| now.since(busy.since))
    }

    /// Nothing is left of it. A gradient that it had begun is lost.
    pub(crate) fn vanish(&mut self) {
        (self.side, self.busy) = (None, None);
    }

    /// Begins a minibatch if it can; whether it did.
    pub(crate) fn begin<G: Gradients<Begun = B>>(
        &mut self,
        now: Time,
        mode: Mode,
        session: SessionId,
        models: &mut Models,
        gradients: &mut G,
    ) -> bool {
        if self.busy.is_some() {
            return false;
        }
        let Some(side) = &mut self.side else { return false };
        match side.control().state {
            State::Stop => {
                self.side = None;
                return false;
            }
            State::Pause => {
                self.idle_since = None;
                return false;
            }
            State::Run => {}
        }
        if mode == Mode::Lockstep && self.last_stamp.is_some() && side.published() == self.last_stamp {
            self.idle_since.get_or_insert(now);
            return false;
        }
        let name = GradientName {
            session,
            ml_module: u16::try_from(side.ml_module()).unwrap_or(u16::MAX),
            step: self.next_step,
        };
        let Some(model) = side.model() else { return false };
        if let Some(since) = self.idle_since.take() {
            self.waited += now.since(since);
        }
        let stamp = model.stamp();
        self.busy = Some(Busy {
            name,
            stamp,
            since: now,
            begun: gradients.begin(name, models.share(stamp, &model)),
        });
        true
    }

    /// Adds the gradient of the minibatch that has begun, if it is still there to do so.
    pub(crate) fn finish<G: Gradients<Begun = B>>(&mut self, now: Time, gradients: &mut G) -> Option<Finished> {
        let busy = self.busy.take()?;
        let side = self.side.as_mut()?;
        let Busy { name, stamp, .. } = busy;
        let (samples, is_finite) = gradients.finish(busy.begun, |gradient, outcome| {
            let of = Gradient {
                stamp,
                step: name.step,
                samples: outcome.samples,
                loss_sum: outcome.loss_sum,
            };
            (outcome.samples, side.add(gradient, of).is_ok())
        });
        self.next_step += 1;
        if is_finite {
            // In lockstep one gradient is due for each version: after a refusal it still is, or all would wait for ever.
            self.last_stamp = Some(stamp);
        }
        Some(Finished {
            name,
            samples,
            is_finite,
            took: now.since(busy.since),
        })
    }
}
