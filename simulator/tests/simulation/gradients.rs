//! The gradients of ML modules in the simulation, and the server's optimizers.

use bsp::central::{OptimizerMemory, RecordError, ServerOptimizer};
pub(super) use simulator::small_model::{
    LOCAL_RATE, MINIBATCH, Name, PARAMETERS, Sgd, SmallModel as Gradients, floats, name, samples,
};

/// Steps well until step `good_steps`, then makes a model that is not finite.
pub(super) struct Diverging {
    pub(super) good_steps: u32,
}

impl ServerOptimizer for Diverging {
    fn step(&mut self, model: &mut [f32], _: &[f32], _: u64, _: f32) {
        match self.good_steps.checked_sub(1) {
            Some(left) => self.good_steps = left,
            None => model[PARAMETERS - 1] = f32::NAN,
        }
    }

    fn record(&self) -> OptimizerMemory {
        OptimizerMemory::default()
    }

    fn load(&mut self, _: OptimizerMemory) -> Result<(), RecordError> {
        Ok(())
    }
}
