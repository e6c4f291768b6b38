//! The server optimizer of a run: `nn`'s optimizer and schedule, as the central module calls them.

use bsp::central::{self, RecordError};
use nn::optimizer::schedule::ScheduleSpec;
use nn::optimizer::{Optimizer, OptimizerRecord, RecordMisfit};

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

    fn record(&self) -> Vec<u8> {
        // Plain data into a growing vector: there is nothing that could fail.
        postcard::to_allocvec(&self.optimizer.record()).unwrap_or_default()
    }

    fn load(&mut self, record: &[u8]) -> Result<(), RecordError> {
        let record: OptimizerRecord =
            postcard::from_bytes(record).map_err(|error| RecordError::Unreadable(error.to_string()))?;
        self.optimizer.load(record).map_err(|misfit| match misfit {
            RecordMisfit::Kind => RecordError::AnotherOptimizer,
            RecordMisfit::Parameters { got, expected } => RecordError::AnotherModel { got, expected },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bsp::central::ServerOptimizer as _;

    #[test]
    fn an_optimizer_that_goes_on_from_a_record_makes_the_same_bits_and_takes_no_other_record() {
        let run_file = RunFile::digits().unwrap();
        let trained = |optimizer: &mut ServerOptimizer, model: &mut [f32], steps: std::ops::Range<u64>| {
            for step in steps {
                let gradient = [0.25 * step as f32, 1.0];
                optimizer.step(model, &gradient, 256 * (step + 1), 1.0);
            }
        };
        let (mut whole, mut part) = ([1.0f32, 2.0], [1.0f32, 2.0]);
        trained(&mut ServerOptimizer::new(&run_file, 2), &mut whole, 0..10);
        let mut before = ServerOptimizer::new(&run_file, 2);
        trained(&mut before, &mut part, 0..4);
        let record = before.record();
        let mut after = ServerOptimizer::new(&run_file, 2);
        after.load(&record).unwrap();
        trained(&mut after, &mut part, 4..10);
        assert_eq!(part.map(f32::to_bits), whole.map(f32::to_bits));

        let misfit = RecordError::AnotherModel { got: 2, expected: 3 };
        assert_eq!(ServerOptimizer::new(&run_file, 3).load(&record), Err(misfit));
        let cut = after.load(&record[..record.len() - 1]);
        assert!(matches!(cut, Err(RecordError::Unreadable(_))), "{cut:?}");
        assert_eq!(after.record(), {
            let mut same = ServerOptimizer::new(&run_file, 2);
            trained(&mut same, &mut [1.0, 2.0], 0..10);
            same.record()
        });
    }
}
