//! Local steps: how an ML module moves along its own gradients between read-outs (docs/internals/local-steps.md).
//!
//! The optimizer here is the inner one, of which each ML module has its own; the run's optimizer is the outer one,
//! whose gradient is the mean displacement. That is local SGD (Stich, arXiv 1805.09767) with plain descent inside and
//! the outer learning rate 1; with an outer Nesterov momentum of 0.9 and a learning rate of 0.7, and AdamW inside,
//! DiLoCo (Douillard et al., arXiv 2311.08105).

use bsp::ml_module::working_copy::LocalOptimizer;
use nn::optimizer::{Optimizer, OptimizerSpec, SettingError, SgdSpec};
use serde::{Deserialize, Serialize};

/// What a run file says of local steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalSteps {
    /// The learning rate of a local step; constant, since what shrinks over a run is the outer one's task.
    pub learning_rate: f64,
    /// How a minibatch's mean gradient moves an ML module's working copy. Plain descent by default.
    #[serde(default = "plain_descent")]
    pub optimizer: OptimizerSpec,
}

fn plain_descent() -> OptimizerSpec {
    OptimizerSpec::Sgd(SgdSpec::default())
}

impl LocalSteps {
    /// Finds settings that make no sense.
    ///
    /// # Errors
    /// Which key, and what it may be.
    pub fn check(&self) -> Result<(), SettingError> {
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return Err(SettingError {
                key: "learning_rate",
                value: self.learning_rate.to_string(),
                allowed: "a number above 0",
            });
        }
        self.optimizer.check()
    }

    /// What each ML module needs for it, in vectors as long as the model: the working copy, what is read out of it, the
    /// optimizer's next parameters, and its memory.
    pub fn vectors(&self) -> u64 {
        let of_optimizer = match &self.optimizer {
            OptimizerSpec::Sgd(sgd) if sgd.momentum == 0.0 => 0,
            OptimizerSpec::Sgd(_) => 1,
            OptimizerSpec::Adam(_) | OptimizerSpec::AdamW(_) => 2,
        };
        3 + of_optimizer
    }
}

/// The inner optimizer of one ML module.
pub struct InnerOptimizer {
    optimizer: Optimizer,
    learning_rate: f32,
    /// Where the optimizer moves the parameters to.
    moved: Vec<f32>,
}

impl InnerOptimizer {
    /// For a model of `parameters` parameters.
    pub fn new(spec: &LocalSteps, parameters: usize) -> InnerOptimizer {
        InnerOptimizer {
            optimizer: Optimizer::new(&spec.optimizer, parameters),
            learning_rate: spec.learning_rate as f32,
            moved: vec![0.0; parameters],
        }
    }
}

impl LocalOptimizer for InnerOptimizer {
    fn displace(&mut self, parameters: &[f32], gradient: &mut [f32], samples: u32) {
        let mean = 1.0 / samples.max(1) as f32;
        for value in gradient.iter_mut() {
            *value *= mean;
        }
        self.moved.copy_from_slice(parameters);
        self.optimizer.step(&mut self.moved, gradient, self.learning_rate);
        for ((value, parameter), moved) in gradient.iter_mut().zip(parameters).zip(&self.moved) {
            *value = parameter - moved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_descent_is_displaced_by_the_learning_rate_times_the_mean_gradient() {
        let spec = LocalSteps {
            learning_rate: 0.5,
            optimizer: plain_descent(),
        };
        let mut gradient = [8.0, -4.0];
        InnerOptimizer::new(&spec, 2).displace(&[1.0, 2.0], &mut gradient, 4);
        assert_eq!(gradient, [1.0, -0.5]);
    }
}
