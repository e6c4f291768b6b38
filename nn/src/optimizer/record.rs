//! What an optimizer remembers, and what of it a checkpoint holds.

use serde::{Deserialize, Serialize};

/// What an optimizer remembers, one element for each parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Memory {
    Nothing {
        parameters: usize,
    },
    Velocity(Vec<f32>),
    Moments {
        /// Running mean of the gradient.
        mean: Vec<f32>,
        /// Running mean of the squared gradient.
        square: Vec<f32>,
        /// β₁ and β₂ to the power of the steps done: how much of the means is still their start at 0.
        beta_powers: [f64; 2],
    },
}

/// What an optimizer remembers of past gradients, without its settings: an operator may change these in a restart.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimizerRecord {
    /// The kind of memory: `nothing`, `velocity` or `moments`.
    pub kind: String,
    /// Its vectors, with an element for each parameter: none, the velocity, or both moments.
    pub vectors: Vec<Vec<f32>>,
    /// Its numbers: the count of parameters, none, or both powers of β.
    pub numbers: Vec<f64>,
}

/// Why an optimizer can't go on from a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordMisfit {
    /// It remembers other things than this optimizer does.
    #[error("the record is of another kind of optimizer")]
    Kind,
    /// It is of a model of another size.
    #[error("the record is of a model of {got} parameters; this one has {expected}")]
    Parameters {
        /// Parameters of the record's model.
        got: usize,
        /// Parameters of this optimizer's model.
        expected: usize,
    },
}

impl Memory {
    /// A copy in the form of a record.
    pub(super) fn record(&self) -> OptimizerRecord {
        let (kind, vectors, numbers) = match self {
            Memory::Nothing { parameters } => ("nothing", Vec::new(), vec![*parameters as f64]),
            Memory::Velocity(velocity) => ("velocity", vec![velocity.clone()], Vec::new()),
            Memory::Moments {
                mean,
                square,
                beta_powers,
            } => ("moments", vec![mean.clone(), square.clone()], beta_powers.to_vec()),
        };
        OptimizerRecord {
            kind: kind.to_owned(),
            vectors,
            numbers,
        }
    }

    /// The memory that a record holds, if it is of this kind.
    pub(super) fn from_record(record: OptimizerRecord) -> Option<Memory> {
        let OptimizerRecord { kind, vectors, numbers } = record;
        let mut vectors = vectors.into_iter();
        match (kind.as_str(), vectors.next(), vectors.next(), &numbers[..]) {
            ("nothing", None, None, [parameters]) => Some(Memory::Nothing {
                parameters: *parameters as usize,
            }),
            ("velocity", Some(velocity), None, []) => Some(Memory::Velocity(velocity)),
            ("moments", Some(mean), Some(square), [first, second]) if mean.len() == square.len() => {
                Some(Memory::Moments {
                    mean,
                    square,
                    beta_powers: [*first, *second],
                })
            }
            _ => None,
        }
    }

    /// Parameters of the model that it is of.
    pub(super) fn parameters(&self) -> usize {
        match self {
            Memory::Nothing { parameters } => *parameters,
            Memory::Velocity(velocity) => velocity.len(),
            Memory::Moments { mean, square, .. } => mean.len().min(square.len()),
        }
    }
}
