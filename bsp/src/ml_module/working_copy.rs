//! Local steps: the model that an ML module moves by itself between read-outs (docs/internals/local-steps.md).
//!
//! ```text
//! W = M − (the displacements that this ML module has added and M has not settled)
//! ```
//!
//! M is the model that the ML module holds, pinned, and W the working copy, on which it computes. A step is a
//! displacement d: W becomes W − d, and d is added to the aggregate in place of a gradient. So a read-out holds the
//! displacement U over its steps, as in local SGD (Stich, arXiv 1805.09767) and DiLoCo (Douillard et al., arXiv
//! 2311.08105), without any barrier. When a newer model is published, the displacements that it has settled leave the
//! difference, and the others stay in it.
//!
//! At most one contribution of a tab is read out and not settled in the model that was published to it (`local.rs`
//! ensures that). So one vector beside W is enough: F, the displacement that was read out. M − W is everything
//! unsettled: F and the content of the aggregate. An ML module learns of a flip when it adds: the aggregate returns the
//! read-out's number.

use crate::shared_memory::{Gradient, MlSide, NotFinite};

/// How a minibatch's gradient moves an ML module's working copy.
pub trait LocalOptimizer: Send {
    /// Turns `gradient`, a sum over `samples` samples, into the displacement that is subtracted from `parameters`.
    fn displace(&mut self, parameters: &[f32], gradient: &mut [f32], samples: u32);
}

/// The working copy of one ML module.
pub struct WorkingCopy {
    optimizer: Box<dyn LocalOptimizer>,
    /// W.
    parameters: Box<[f32]>,
    /// F, while `in_flight` says so.
    read_out: Box<[f32]>,
    /// The number of the read-out that F is in, until a model settles it.
    in_flight: Option<u64>,
    /// The number of the read-out that the last displacement went to.
    collecting: u64,
}

impl WorkingCopy {
    pub(super) fn new(optimizer: Box<dyn LocalOptimizer>, parameters: usize) -> WorkingCopy {
        WorkingCopy {
            optimizer,
            parameters: vec![0.0; parameters].into_boxed_slice(),
            read_out: vec![0.0; parameters].into_boxed_slice(),
            in_flight: None,
            collecting: 1,
        }
    }

    pub(super) fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// Goes over to the newest model, and keeps the displacements that it has not settled.
    pub(super) fn follow(&mut self, memory: &mut MlSide) {
        // W turns into M − W where it lies: a model can't be held while the next one is read.
        match memory.held_model() {
            Some(base) => {
                for (own, base) in self.parameters.iter_mut().zip(base.iter()) {
                    *own = base - *own;
                }
            }
            None => self.parameters.fill(0.0),
        }
        let Some(model) = memory.model() else { return };
        if self.collecting <= model.settled_read_outs() {
            // It has added nothing since: a rest, or a pause, lasted longer than the way of a contribution and a model.
            self.in_flight = None;
            self.parameters.copy_from_slice(&model);
            return;
        }
        let own = self.parameters.iter_mut().zip(model.iter());
        if self.in_flight.is_some_and(|number| number <= model.settled_read_outs()) {
            self.in_flight = None;
            for ((own, model), settled) in own.zip(&self.read_out) {
                *own = model - (*own - settled);
            }
        } else {
            for (own, model) in own {
                *own = model - *own;
            }
        }
    }

    /// One local step along the gradient `values`, which become the displacement. A gradient that is not finite moves
    /// nothing.
    pub(super) fn step(
        &mut self,
        memory: &mut MlSide,
        gradient: Gradient,
        values: &mut [f32],
    ) -> Result<(), NotFinite> {
        self.optimizer.displace(&self.parameters, values, gradient.samples);
        let number = memory.add(values, gradient)?;
        if number != self.collecting {
            self.on_flip(memory);
            self.collecting = number;
        }
        for (parameter, displacement) in self.parameters.iter_mut().zip(values.iter()) {
            *parameter -= displacement;
        }
        Ok(())
    }

    /// Its displacements so far are read out.
    fn on_flip(&mut self, memory: &mut MlSide) {
        // An earlier read-out was settled by a model that was published before this flip. It leaves the difference
        // first, or both would leave together, with the later one.
        if self.in_flight.is_some() {
            self.follow(memory);
        }
        let Some(base) = memory.held_model() else { return };
        for ((own, base), working) in self.read_out.iter_mut().zip(base.iter()).zip(&self.parameters) {
            *own = base - working;
        }
        self.in_flight = Some(self.collecting);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::shared_memory::{LocalSide, ModelStamp, Taken, shared_memory};

    const GRADIENT: Gradient = Gradient {
        stamp: ModelStamp {
            incarnation: 1,
            version: 1,
        },
        step: 0,
        samples: 1,
        loss_sum: 0.0,
    };

    /// Moves along the gradient itself.
    struct Plain;

    impl LocalOptimizer for Plain {
        fn displace(&mut self, _: &[f32], _: &mut [f32], _: u32) {}
    }

    fn start() -> (LocalSide, MlSide, WorkingCopy) {
        let (mut local, mut sides) = shared_memory(1, 1);
        publish(&mut local, 1, 0, 100.0);
        let mut side = sides.remove(0);
        let mut working_copy = WorkingCopy::new(Box::new(Plain), 1);
        working_copy.follow(&mut side);
        (local, side, working_copy)
    }

    fn publish(local: &mut LocalSide, version: u64, settled_read_outs: u64, value: f32) {
        let stamp = ModelStamp {
            incarnation: 1,
            version,
        };
        local.publish(stamp, settled_read_outs, |_, slot| slot.fill(value));
    }

    fn step(working_copy: &mut WorkingCopy, side: &mut MlSide, displacement: f32) {
        assert_eq!(working_copy.step(side, GRADIENT, &mut [displacement]), Ok(()));
    }

    fn read_out(local: &mut LocalSide) -> f32 {
        local.flip(0);
        match local.take(0, |_, sum| sum[0]) {
            Taken::Read(sum) => sum,
            taken => panic!("{taken:?}"),
        }
    }

    #[test]
    fn own_steps_stay_in_the_working_copy_until_a_model_settles_them_and_no_longer() {
        let (mut local, mut side, mut working_copy) = start();
        step(&mut working_copy, &mut side, 1.0);
        step(&mut working_copy, &mut side, 2.0);
        assert_eq!(working_copy.parameters(), [97.0]);
        assert_eq!(read_out(&mut local), 3.0);
        step(&mut working_copy, &mut side, 4.0);
        assert_eq!(working_copy.parameters(), [93.0]);
        // A model of the others alone: nothing of this one's is in it.
        publish(&mut local, 2, 0, 50.0);
        working_copy.follow(&mut side);
        assert_eq!(working_copy.parameters(), [43.0]);
        // One that has settled the first read-out, as the server saw fit.
        publish(&mut local, 3, 1, 48.0);
        working_copy.follow(&mut side);
        assert_eq!(working_copy.parameters(), [44.0]);
        assert_eq!(read_out(&mut local), 4.0);
    }

    #[test]
    fn a_flip_that_is_noticed_after_the_next_model_was_published_loses_nothing() {
        let (mut local, mut side, mut working_copy) = start();
        step(&mut working_copy, &mut side, 1.0);
        assert_eq!(read_out(&mut local), 1.0);
        step(&mut working_copy, &mut side, 2.0);
        // While the next minibatch is computed, the first read-out is settled and the second begins.
        publish(&mut local, 2, 1, 99.0);
        assert_eq!(read_out(&mut local), 2.0);
        step(&mut working_copy, &mut side, 4.0);
        assert_eq!(working_copy.parameters(), [93.0]);
        publish(&mut local, 3, 2, 97.0);
        working_copy.follow(&mut side);
        assert_eq!(working_copy.parameters(), [93.0]);
        assert_eq!(read_out(&mut local), 4.0);
    }

    #[test]
    fn a_read_out_that_is_settled_before_its_ml_module_adds_again_is_not_counted_twice() {
        let (mut local, mut side, mut working_copy) = start();
        step(&mut working_copy, &mut side, 1.0);
        assert_eq!(read_out(&mut local), 1.0);
        step(&mut working_copy, &mut side, 2.0);
        // While it rests, the first is settled, and the second is read out and settled.
        publish(&mut local, 2, 1, 99.0);
        assert_eq!(read_out(&mut local), 2.0);
        publish(&mut local, 3, 2, 97.0);
        working_copy.follow(&mut side);
        assert_eq!(working_copy.parameters(), [97.0]);
        step(&mut working_copy, &mut side, 4.0);
        publish(&mut local, 4, 2, 96.0);
        working_copy.follow(&mut side);
        assert_eq!(working_copy.parameters(), [92.0]);
        assert_eq!(read_out(&mut local), 4.0);
    }

    #[test]
    fn a_step_that_is_not_finite_moves_nothing() {
        let (mut local, mut side, mut working_copy) = start();
        assert!(working_copy.step(&mut side, GRADIENT, &mut [f32::NAN]).is_err());
        assert_eq!(working_copy.parameters(), [100.0]);
        assert_eq!(read_out(&mut local), 0.0);
    }
}
