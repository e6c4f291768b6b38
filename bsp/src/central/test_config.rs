//! A run for the unit tests of the central module.

use super::{Config, OptimizerMemory, RecordError, ServerOptimizer};
use crate::combine::{Admitted, Weighting};
use crate::protocol::codec::{Codec, Encoded};
use crate::protocol::message::{RunId, SessionId};

/// A volunteer's link may be busy for half of the time; periods are from 50 ms to 2 s; no gradient is clipped.
pub(super) fn test_config() -> Config {
    Config {
        minibatch: 8,
        max_staleness: 10,
        weighting: Weighting {
            staleness_exponent: 0.5,
            max_read_out_samples: 1 << 20,
            clip: 0.0,
        },
        ..Config::new(RunId(1), 1)
    }
}

/// Subtracts the mean gradient, times the factor of the learning rate.
pub(super) struct Descent;

impl ServerOptimizer for Descent {
    fn step(&mut self, model: &mut [f32], gradient: &[f32], _: u64, rate_factor: f32) {
        for (parameter, slope) in model.iter_mut().zip(gradient) {
            *parameter -= rate_factor * slope;
        }
    }

    fn record(&self) -> OptimizerMemory {
        OptimizerMemory::default()
    }

    fn load(&mut self, _: OptimizerMemory) -> Result<(), RecordError> {
        Ok(())
    }
}

/// The first contribution of session 1 to a model of one parameter: 8 samples, computed on version 0.
pub(super) fn test_contribution() -> Admitted {
    Admitted {
        session: SessionId(1),
        sequence: 1,
        samples: 8,
        version: 0.0,
        steps: None,
        gradient: Encoded::new(Codec::F32, 8f32.to_le_bytes().to_vec().into(), 1).unwrap(),
    }
}
