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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OptimizerRecord(pub(super) Memory);

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
    /// Parameters of the model that it is of.
    pub(super) fn parameters(&self) -> usize {
        match self {
            Memory::Nothing { parameters } => *parameters,
            Memory::Velocity(velocity) => velocity.len(),
            Memory::Moments { mean, square, .. } => mean.len().min(square.len()),
        }
    }
}
