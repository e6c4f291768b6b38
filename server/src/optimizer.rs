//! The server optimizer of a run: `nn`'s optimizer and schedule, as the central module calls them.

use bsp::central;
use nn::optimizer::Optimizer;
use nn::schedule::ScheduleSpec;

use crate::run_file::RunFile;

/// See [`central::ServerOptimizer`].
pub(crate) struct ServerOptimizer {
    optimizer: Optimizer,
    schedule: ScheduleSpec,
}

impl ServerOptimizer {
    /// The optimizer that a run file asks for, for a model of `parameters` parameters.
    pub(crate) fn new(run_file: &RunFile, parameters: usize) -> ServerOptimizer {
        ServerOptimizer {
            optimizer: Optimizer::new(&run_file.training.optimizer, parameters),
            schedule: run_file.training.schedule.clone(),
        }
    }
}

impl central::ServerOptimizer for ServerOptimizer {
    fn step(&mut self, model: &mut [f32], gradient: &[f32], samples_in_model: u64, rate_factor: f32) {
        self.optimizer
            .step(model, gradient, self.schedule.at(samples_in_model) * rate_factor);
    }
}
