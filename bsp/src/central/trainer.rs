//! The model and all that makes its next version: exactly the content of a checkpoint.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::config::{Config, LearningRateScaling};
use crate::combine::{Admitted, Combiner, Usual};
use crate::protocol::codec::CodecError;
use crate::shared_memory::ModelStamp;

/// Makes the next version of the model out of the combined gradient.
pub trait ServerOptimizer: Send {
    /// Moves `model` along the mean gradient `gradient`.
    ///
    /// `samples_in_model` counts the samples in all supersteps, this one included; schedules follow it. `rate_factor`
    /// multiplies the learning rate; it follows from `lr_scaling` and this superstep's size.
    fn step(&mut self, model: &mut [f32], gradient: &[f32], samples_in_model: u64, rate_factor: f32);

    /// What it remembers of past gradients.
    fn record(&self) -> OptimizerMemory;

    /// Goes on from what [`ServerOptimizer::record`] gave.
    ///
    /// # Errors
    /// It belongs to another optimizer or model; then nothing has changed.
    fn load(&mut self, memory: OptimizerMemory) -> Result<(), RecordError>;
}

/// What an optimizer remembers of past gradients, in a form that can be stored without knowing the optimizer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OptimizerMemory {
    /// The name of the kind of memory.
    pub kind: String,
    /// Vectors with an element for each parameter.
    pub vectors: Vec<Vec<f32>>,
    /// Single numbers.
    pub numbers: Vec<f64>,
}

/// Why a record can't be loaded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RecordError {
    /// It belongs to another optimizer.
    #[error("the record is of another optimizer than the run's; set the optimizer that it was trained with")]
    AnotherOptimizer,
    /// It belongs to a model of another size.
    #[error("the record is of a model of {got} parameters; the run's has {expected}")]
    AnotherModel {
        /// Parameters in the record.
        got: usize,
        /// Parameters of the run's model.
        expected: usize,
    },
    /// A contribution of its open superstep does not fit the model.
    #[error("a contribution in the record does not fit the model: {0}")]
    Contribution(#[from] CodecError),
    /// Its totals belong to another model.
    #[error("the record's totals don't belong to its model; take an older checkpoint")]
    Totals,
}

/// The optimizer diverged: the model would not be finite. The version before stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Diverged;

/// The summary of a superstep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClosedSuperstep {
    /// The version that it made.
    pub version: u64,
    /// Contributions in it.
    pub contributions: usize,
    /// Samples in it.
    pub samples: u64,
    /// Mean loss of these samples, each on the version that it was computed on.
    pub loss: f64,
    /// Mean staleness of these samples, in versions.
    pub staleness: f64,
    /// Mean weight of these samples by their staleness, from 0 to 1.
    pub weight: f64,
    /// The time for which it was open.
    pub open_for: Duration,
}

/// What divergences have cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setbacks {
    /// How often the run has gone back to an earlier model.
    pub count: u32,
    /// What multiplies the learning rate since.
    pub rate_factor: f32,
}

impl Default for Setbacks {
    fn default() -> Setbacks {
        Setbacks {
            count: 0,
            rate_factor: 1.0,
        }
    }
}

/// All that training needs to go on after a restart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The model's incarnation.
    pub incarnation: u32,
    /// The model's version.
    pub version: u64,
    /// The model.
    pub model: Vec<f32>,
    /// Samples in closed supersteps.
    pub samples_in_model: u64,
    /// What the optimizer remembers.
    pub optimizer: OptimizerMemory,
    /// The usual norms and steps of contributions.
    pub usual: Usual,
    /// What divergences have cost.
    pub setbacks: Setbacks,
}

/// The model, its optimizer, and the combiner of contributions.
pub struct Trainer {
    model: Vec<f32>,
    optimizer: Box<dyn ServerOptimizer>,
    combiner: Combiner,
    stamp: ModelStamp,
    samples_in_model: u64,
    setbacks: Setbacks,
    rate: RateScaling,
    gradient: Vec<f32>,
    /// The model before the last step, which stays if that step diverges.
    model_before: Vec<f32>,
}

/// How the learning rate follows a superstep's size.
#[derive(Clone, Copy, Debug)]
struct RateScaling {
    rule: LearningRateScaling,
    superstep_samples: u64,
    /// Samples of one contribution beyond this number weigh nothing, and don't lengthen the step.
    max_read_out_samples: u64,
}

impl Trainer {
    /// Training that begins with the model `model`, as incarnation 1, version 0.
    pub fn new(config: &Config, model: Vec<f32>, optimizer: Box<dyn ServerOptimizer>) -> Trainer {
        Trainer {
            combiner: Combiner::new(config.weighting, model.len()),
            gradient: vec![0.0; model.len()],
            model_before: model.clone(),
            model,
            optimizer,
            stamp: ModelStamp {
                incarnation: 1,
                version: 0,
            },
            samples_in_model: 0,
            setbacks: Setbacks::default(),
            rate: RateScaling {
                rule: config.lr_scaling,
                superstep_samples: config.superstep_samples,
                max_read_out_samples: config.weighting.max_read_out_samples,
            },
        }
    }

    /// The current model's parameters.
    pub fn model(&self) -> &[f32] {
        &self.model
    }

    /// The current model's stamp.
    pub fn stamp(&self) -> ModelStamp {
        self.stamp
    }

    /// Samples in closed supersteps.
    pub fn samples_in_model(&self) -> u64 {
        self.samples_in_model
    }

    /// What divergences have cost.
    pub fn setbacks(&self) -> Setbacks {
        self.setbacks
    }

    /// Makes the next version out of a superstep's contributions, which it sorts by session and number.
    ///
    /// `rate_share` multiplies the learning rate. It is 1, or less for a last superstep with too few samples for a
    /// whole step.
    ///
    /// # Errors
    /// A parameter is not finite after the step; no version was made.
    pub fn step(&mut self, contributions: &mut [Admitted], rate_share: f32) -> Result<(), Diverged> {
        let samples: u64 = contributions.iter().map(|c| c.samples).fold(0, u64::saturating_add);
        let weighed = contributions
            .iter()
            .map(|c| c.samples.min(self.rate.max_read_out_samples));
        let factor =
            self.rate.rule.factor(weighed.sum(), self.rate.superstep_samples) * rate_share * self.setbacks.rate_factor;
        self.combiner
            .combine(contributions, self.stamp.version, &mut self.gradient);
        let samples_in_model = self.samples_in_model.saturating_add(samples);
        self.model_before.copy_from_slice(&self.model);
        self.optimizer
            .step(&mut self.model, &self.gradient, samples_in_model, factor);
        if !self.model.iter().all(|parameter| parameter.is_finite()) {
            self.model.copy_from_slice(&self.model_before);
            return Err(Diverged);
        }
        self.samples_in_model = samples_in_model;
        self.stamp.version += 1;
        Ok(())
    }

    /// All that training needs to go on.
    pub fn record(&self) -> Record {
        Record {
            incarnation: self.stamp.incarnation,
            version: self.stamp.version,
            model: self.model.clone(),
            samples_in_model: self.samples_in_model,
            optimizer: self.optimizer.record(),
            usual: self.combiner.usual().clone(),
            setbacks: self.setbacks,
        }
    }

    /// Goes on from a record, as incarnation `incarnation`.
    ///
    /// # Errors
    /// The record does not fit this model or its optimizer; then nothing has changed.
    pub fn load(&mut self, record: Record, incarnation: u32) -> Result<(), RecordError> {
        let (got, expected) = (record.model.len(), self.model.len());
        if got != expected {
            return Err(RecordError::AnotherModel { got, expected });
        }
        self.optimizer.load(record.optimizer)?;
        self.combiner.set_usual(record.usual);
        self.model.copy_from_slice(&record.model);
        self.samples_in_model = record.samples_in_model;
        self.setbacks = record.setbacks;
        let version = record.version;
        self.stamp = ModelStamp { incarnation, version };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::central::test_config::test_config;
    use crate::combine::Weighting;
    use crate::protocol::codec::{Codec, Encoded};
    use crate::protocol::message::SessionId;

    /// Descent along a velocity, at a rate that falls with the samples.
    struct Momentum {
        velocity: Vec<f32>,
    }

    impl ServerOptimizer for Momentum {
        fn step(&mut self, model: &mut [f32], gradient: &[f32], samples_in_model: u64, rate_factor: f32) {
            let rate = rate_factor / (1 + samples_in_model) as f32;
            for ((parameter, slope), velocity) in model.iter_mut().zip(gradient).zip(&mut self.velocity) {
                *velocity = 0.5 * *velocity + slope;
                *parameter -= rate * *velocity;
            }
        }

        fn record(&self) -> OptimizerMemory {
            OptimizerMemory {
                vectors: vec![self.velocity.clone()],
                ..OptimizerMemory::default()
            }
        }

        fn load(&mut self, memory: OptimizerMemory) -> Result<(), RecordError> {
            let mut vectors = memory.vectors.into_iter();
            match vectors.next() {
                Some(velocity) if velocity.len() == self.velocity.len() => self.velocity = velocity,
                _ => return Err(RecordError::AnotherOptimizer),
            }
            Ok(())
        }
    }

    fn trainer() -> Trainer {
        let config = Config {
            weighting: Weighting {
                clip: 3.0,
                ..test_config().weighting
            },
            ..test_config()
        };
        let velocity = vec![0.0; 2];
        Trainer::new(&config, vec![1.0, -1.0], Box::new(Momentum { velocity }))
    }

    fn contribution(number: u64) -> Admitted {
        let gradient = [number as f32, 0.25 * number as f32];
        let bytes: Vec<u8> = gradient.iter().flat_map(|value| value.to_le_bytes()).collect();
        Admitted {
            session: SessionId(1 + number % 3),
            sequence: number,
            samples: 8,
            version: 0.0,
            steps: None,
            gradient: Encoded::new(Codec::F32, bytes.into(), 2).unwrap(),
        }
    }

    fn train(trainer: &mut Trainer, numbers: std::ops::Range<u64>) {
        for number in numbers {
            trainer.step(&mut [contribution(number)], 1.0).unwrap();
        }
    }

    fn bits(trainer: &Trainer) -> Vec<u32> {
        trainer.model().iter().map(|parameter| parameter.to_bits()).collect()
    }

    #[test]
    fn training_that_goes_on_from_a_record_makes_the_same_bits() {
        let mut whole = trainer();
        train(&mut whole, 0..40);
        let mut before = trainer();
        train(&mut before, 0..25);
        let record = before.record();
        let bytes = postcard::to_allocvec(&record).unwrap();
        let mut after = trainer();
        after.load(postcard::from_bytes(&bytes).unwrap(), 1).unwrap();
        assert_eq!(after.record(), record);
        train(&mut after, 25..40);
        assert_eq!(bits(&after), bits(&whole));
        assert_eq!(after.record(), whole.record());
    }

    #[test]
    fn a_record_that_does_not_fit_changes_nothing() {
        let mut trainer = trainer();
        train(&mut trainer, 0..3);
        let record = trainer.record();
        let other_model = Record {
            model: vec![0.0; 3],
            ..record.clone()
        };
        let misfit = RecordError::AnotherModel { got: 3, expected: 2 };
        assert_eq!(trainer.load(other_model, 1), Err(misfit));
        let other_optimizer = Record {
            optimizer: OptimizerMemory::default(),
            model: vec![7.0; 2],
            ..record.clone()
        };
        assert_eq!(trainer.load(other_optimizer, 1), Err(RecordError::AnotherOptimizer));
        assert_eq!(trainer.record(), record);
    }

    #[test]
    fn a_step_that_is_not_finite_leaves_the_version_before() {
        let mut trainer = trainer();
        train(&mut trainer, 0..2);
        let (model, stamp) = (bits(&trainer), trainer.stamp());
        assert_eq!(trainer.step(&mut [contribution(3)], f32::INFINITY), Err(Diverged));
        assert_eq!((bits(&trainer), trainer.stamp()), (model, stamp));
    }

    #[test]
    fn a_share_of_a_step_moves_the_model_by_that_share() {
        let (mut whole, mut half) = (trainer(), trainer());
        whole.step(&mut [contribution(4)], 1.0).unwrap();
        half.step(&mut [contribution(4)], 0.5).unwrap();
        let moved = |trainer: &Trainer| 1.0 - trainer.model()[0];
        assert!((moved(&half) / moved(&whole) - 0.5).abs() < 1e-5);
    }
}
