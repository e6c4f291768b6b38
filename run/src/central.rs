//! What a run file fixes for the central BSP module (102): its settings, and the server optimizer, which is `nn`'s
//! optimizer and schedule as the central module calls them.

use std::time::Duration;

use bsp::central::{self, OptimizerMemory, RecordError, TokenKey};
use bsp::combine::Weighting;
use bsp::protocol::message::{Mode, RunId};
use nn::optimizer::schedule::ScheduleSpec;
use nn::optimizer::{Optimizer, OptimizerRecord, RecordMisfit};

use crate::run_file::RunFile;

/// Sessions at a time. Each takes a few hundred bytes, and a contribution while its superstep is open.
const MAX_SESSIONS: usize = 10_000;

/// The settings of the central module for a run of a model whose specification has this hash.
pub fn central_config(run_file: &RunFile, spec_hash: u64, run: RunId) -> central::Config {
    let training = &run_file.training;
    central::Config {
        run,
        spec_hash,
        mode: training.mode,
        backup_workers: training.backup_workers,
        has_local_steps: training.local_steps.is_some(),
        contribution_codec: training.contribution_codec,
        model_codec: training.model_codec,
        communication_share: training.communication_share,
        minibatch: training.minibatch as u64,
        superstep_samples: training.superstep_samples,
        quorum: training.quorum,
        min_period: Duration::from_millis(training.min_period_ms),
        max_period: Duration::from_millis(training.max_period_ms),
        max_staleness: training.max_staleness,
        weighting: Weighting {
            staleness_exponent: training.staleness_exponent,
            max_read_out_samples: training.max_read_out_samples(),
            // The baselines are plain BSP and plain asynchronous SGD, which bound no gradient.
            clip: if training.mode == Mode::Decoupled {
                training.clip
            } else {
                0.0
            },
        },
        lr_scaling: training.lr_scaling,
        session_ttl: Duration::from_secs(training.session_ttl_seconds),
        max_sessions: MAX_SESSIONS,
        // Of a run without a state folder; a server has its own.
        token_key: TokenKey([0; 32]),
        checkpoint_interval: None,
        goes_back: false,
    }
}

/// A run's optimizer with its schedule; see [`central::ServerOptimizer`].
pub struct ServerOptimizer {
    optimizer: Optimizer,
    schedule: ScheduleSpec,
}

impl ServerOptimizer {
    /// The optimizer that a run file sets, at the beginning of a run of a model of `parameters` parameters.
    pub fn new(run_file: &RunFile, parameters: usize) -> ServerOptimizer {
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

    fn record(&self) -> OptimizerMemory {
        let OptimizerRecord { kind, vectors, numbers } = self.optimizer.record();
        OptimizerMemory { kind, vectors, numbers }
    }

    fn load(&mut self, memory: OptimizerMemory) -> Result<(), RecordError> {
        let OptimizerMemory { kind, vectors, numbers } = memory;
        let record = OptimizerRecord { kind, vectors, numbers };
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
    fn the_protocols_document_states_for_how_many_sessions_there_is_room() {
        let (thousands, rest) = (MAX_SESSIONS / 1000, MAX_SESSIONS % 1000);
        let row = format!("| sessions | {thousands},{rest:03} (`MAX_SESSIONS`) |");
        assert!(include_str!("../../docs/protocol.md").contains(&row), "{row}");
    }

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
        after.load(record.clone()).unwrap();
        trained(&mut after, &mut part, 4..10);
        assert_eq!(part.map(f32::to_bits), whole.map(f32::to_bits));

        let misfit = RecordError::AnotherModel { got: 2, expected: 3 };
        assert_eq!(ServerOptimizer::new(&run_file, 3).load(record.clone()), Err(misfit));
        let cut = OptimizerMemory {
            vectors: Vec::new(),
            ..record
        };
        assert_eq!(after.load(cut), Err(RecordError::AnotherOptimizer));
        assert_eq!(after.record(), {
            let mut same = ServerOptimizer::new(&run_file, 2);
            trained(&mut same, &mut [1.0, 2.0], 0..10);
            same.record()
        });
    }
}
