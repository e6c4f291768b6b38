//! Optimizers: how a gradient moves the parameters. They agree with `torch.optim` (tests/optimizer_golden.rs).
//!
//! Only additions, subtractions, multiplications, divisions and square roots are used, which IEEE 754 rounds the same
//! everywhere; powers are running products. So the same gradients give the same bits natively and in wasm.

mod record;
pub mod schedule;
mod spec;

use serde::{Deserialize, Serialize};

use record::Memory;
pub use record::{OptimizerRecord, RecordMisfit};
pub use spec::{AdamSpec, OptimizerSpec, SettingError, SgdSpec};
pub(crate) use spec::{check, is_finite_and_not_negative};

/// An optimizer at work: its settings, and what it remembers of past gradients. Both can be stored and loaded, together
/// or what it remembers alone, as an [`OptimizerRecord`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    spec: OptimizerSpec,
    memory: Memory,
}

impl Optimizer {
    /// An optimizer that has seen no gradient yet, for a model of this many parameters.
    pub fn new(spec: &OptimizerSpec, parameters: usize) -> Optimizer {
        let memory = match spec {
            OptimizerSpec::Sgd(sgd) if sgd.momentum == 0.0 => Memory::Nothing { parameters },
            OptimizerSpec::Sgd(_) => Memory::Velocity(vec![0.0; parameters]),
            OptimizerSpec::Adam(_) | OptimizerSpec::AdamW(_) => Memory::Moments {
                mean: vec![0.0; parameters],
                square: vec![0.0; parameters],
                beta_powers: [1.0; 2],
            },
        };
        Optimizer {
            spec: spec.clone(),
            memory,
        }
    }

    /// The settings that it was made with.
    pub fn spec(&self) -> &OptimizerSpec {
        &self.spec
    }

    /// How many parameters it was made for. After loading an optimizer, compare this with the model's.
    pub fn parameters(&self) -> usize {
        self.memory.parameters()
    }

    /// What it remembers of past gradients.
    pub fn record(&self) -> OptimizerRecord {
        self.memory.record()
    }

    /// Goes on from a record.
    ///
    /// # Errors
    /// The record does not fit; then nothing has changed.
    pub fn load(&mut self, record: OptimizerRecord) -> Result<(), RecordMisfit> {
        let memory = Memory::from_record(record).ok_or(RecordMisfit::Kind)?;
        if std::mem::discriminant(&memory) != std::mem::discriminant(&self.memory) {
            return Err(RecordMisfit::Kind);
        }
        let (got, expected) = (memory.parameters(), self.parameters());
        if got != expected {
            return Err(RecordMisfit::Parameters { got, expected });
        }
        self.memory = memory;
        Ok(())
    }

    /// Moves the parameters by one step along `gradient`, the **mean** over the samples of a step.
    pub fn step(&mut self, parameters: &mut [f32], gradient: &[f32], learning_rate: f32) {
        assert_eq!(
            parameters.len(),
            gradient.len(),
            "a gradient has one element for each parameter"
        );
        assert_eq!(
            parameters.len(),
            self.parameters(),
            "the optimizer was made for another model"
        );
        match (&self.spec, &mut self.memory) {
            (OptimizerSpec::Sgd(spec), Memory::Nothing { .. }) => {
                descend(parameters, gradient, learning_rate, spec.weight_decay as f32);
            }
            (OptimizerSpec::Sgd(spec), Memory::Velocity(velocity)) => {
                descend_with_momentum(parameters, gradient, velocity, learning_rate, spec);
            }
            (
                OptimizerSpec::Adam(spec),
                Memory::Moments {
                    mean,
                    square,
                    beta_powers,
                },
            ) => {
                adapt(
                    parameters,
                    gradient,
                    mean,
                    square,
                    beta_powers,
                    learning_rate,
                    spec,
                    spec.weight_decay as f32,
                );
            }
            (
                OptimizerSpec::AdamW(spec),
                Memory::Moments {
                    mean,
                    square,
                    beta_powers,
                },
            ) => {
                let kept = 1.0 - learning_rate * spec.weight_decay as f32;
                for parameter in parameters.iter_mut() {
                    *parameter *= kept;
                }
                adapt(
                    parameters,
                    gradient,
                    mean,
                    square,
                    beta_powers,
                    learning_rate,
                    spec,
                    0.0,
                );
            }
            _ => unreachable!("`new` gives every kind of optimizer its own kind of memory"),
        }
    }
}

/// p ← p − η·(g + λ·p)
fn descend(parameters: &mut [f32], gradient: &[f32], learning_rate: f32, weight_decay: f32) {
    for (parameter, &slope) in parameters.iter_mut().zip(gradient) {
        let slope = slope + weight_decay * *parameter;
        *parameter -= learning_rate * slope;
    }
}

/// g ← g + λ·p; v ← μ·v + g; p ← p − η·v, or with Nesterov p ← p − η·(g + μ·v)
fn descend_with_momentum(
    parameters: &mut [f32],
    gradient: &[f32],
    velocity: &mut [f32],
    learning_rate: f32,
    spec: &SgdSpec,
) {
    let (momentum, weight_decay) = (spec.momentum as f32, spec.weight_decay as f32);
    for ((parameter, &slope), velocity) in parameters.iter_mut().zip(gradient).zip(velocity) {
        let slope = slope + weight_decay * *parameter;
        *velocity = momentum * *velocity + slope;
        let direction = if spec.nesterov {
            slope + momentum * *velocity
        } else {
            *velocity
        };
        *parameter -= learning_rate * direction;
    }
}

/// g ← g + λ·p; m ← β₁·m + (1 − β₁)·g; s ← β₂·s + (1 − β₂)·g²; p ← p − η·m̂ / (√ŝ + ε), where the hats divide by what
/// the means have seen of the gradients so far, 1 − βᵗ (Kingma and Ba, 2015). With Nesterov the direction is not m̂ but
/// β₁·m / (1 − β₁ᵗ⁺¹) + (1 − β₁)·g / (1 − β₁ᵗ) (Dozat, 2016).
#[expect(clippy::too_many_arguments, reason = "one formula, and these are its letters")]
fn adapt(
    parameters: &mut [f32],
    gradient: &[f32],
    mean: &mut [f32],
    square: &mut [f32],
    beta_powers: &mut [f64; 2],
    learning_rate: f32,
    spec: &AdamSpec,
    weight_decay: f32,
) {
    beta_powers[0] *= spec.beta1;
    beta_powers[1] *= spec.beta2;
    let learning_rate = f64::from(learning_rate);
    let now = learning_rate / (1.0 - beta_powers[0]);
    let next = learning_rate / (1.0 - beta_powers[0] * spec.beta1);
    // The shares of the running mean and of the gradient itself in the direction.
    let (mean_share, slope_share) = match spec.nesterov {
        true => ((next * spec.beta1) as f32, (now * (1.0 - spec.beta1)) as f32),
        false => (now as f32, 0.0),
    };
    let square_seen_root = (1.0 - beta_powers[1]).sqrt() as f32;
    let (beta1, beta2, epsilon) = (spec.beta1 as f32, spec.beta2 as f32, spec.epsilon as f32);
    // 1 − β is rounded once, from the exact setting: in f32, 1 − 0.999 would be off by 5·10⁻⁵ of itself.
    let (fresh1, fresh2) = ((1.0 - spec.beta1) as f32, (1.0 - spec.beta2) as f32);
    let moments = mean.iter_mut().zip(square);
    for ((parameter, &slope), (mean, square)) in parameters.iter_mut().zip(gradient).zip(moments) {
        let slope = slope + weight_decay * *parameter;
        *mean = beta1 * *mean + fresh1 * slope;
        *square = beta2 * *square + fresh2 * slope * slope;
        let direction = mean_share * *mean + slope_share * slope;
        *parameter -= direction / (square.sqrt() / square_seen_root + epsilon);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> Result<OptimizerSpec, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn looking_ahead_keeps_stale_gradients_from_feeding_an_oscillation() {
        // On the parabola p²/2 half of every gradient is a step old. η/(1 − μ) = 4 is above the bound of 2 without
        // looking ahead, and below that of 7.6 with it.
        let distance_after = |steps: usize, nesterov: bool| {
            let spec = from_toml(&format!("kind = 'sgd'\nmomentum = 0.9\nnesterov = {nesterov}")).unwrap();
            let mut optimizer = Optimizer::new(&spec, 1);
            let (mut parameter, mut before) = ([1.0_f32], 1.0);
            for _ in 0..steps {
                let gradient = [(parameter[0] + before) / 2.0];
                before = parameter[0];
                optimizer.step(&mut parameter, &gradient, 0.4);
            }
            parameter[0].abs()
        };
        assert!(distance_after(200, true) < 1e-3);
        assert!(distance_after(200, false) > 1e3);
    }

    #[test]
    fn an_optimizer_that_was_stored_goes_on_where_it_stopped() {
        for text in [
            "kind = 'sgd'",
            "kind = 'sgd'\nmomentum = 0.9",
            "kind = 'adam'",
            "kind = 'adamw'",
            "kind = 'adam'\nnesterov = true",
        ] {
            let mut optimizer = Optimizer::new(&from_toml(text).unwrap(), 3);
            let mut parameters = [1.0, -2.0, 0.5];
            for _ in 0..5 {
                optimizer.step(&mut parameters, &[0.3, 0.1, -0.2], 0.01);
            }
            let mut loaded: Optimizer = serde_json::from_str(&serde_json::to_string(&optimizer).unwrap()).unwrap();
            let mut again = parameters;
            optimizer.step(&mut parameters, &[0.1, 0.2, 0.3], 0.01);
            loaded.step(&mut again, &[0.1, 0.2, 0.3], 0.01);
            assert_eq!(parameters.map(f32::to_bits), again.map(f32::to_bits), "{text}");
            assert_eq!(loaded, optimizer);
        }
    }

    #[test]
    fn the_same_gradients_give_the_same_bits_everywhere() {
        let bits_after_ten_steps = |text: &str| {
            let mut optimizer = Optimizer::new(&from_toml(text).unwrap(), 2);
            let mut parameters = [1.0_f32, -2.0];
            for step in 1..=10_u8 {
                optimizer.step(&mut parameters, &[0.1 * f32::from(step), -0.3], 0.01);
            }
            parameters.map(f32::to_bits)
        };
        assert_eq!(
            bits_after_ten_steps("kind = 'sgd'\nmomentum = 0.9\nnesterov = true"),
            [1_061_749_245, 3_220_036_564]
        );
        assert_eq!(
            bits_after_ten_steps("kind = 'adam'\nweight_decay = 0.1"),
            [1_063_669_727, 3_220_387_159]
        );
        assert_eq!(
            bits_after_ten_steps("kind = 'adam'\nnesterov = true"),
            [1_063_373_352, 3_220_314_949]
        );
        assert_eq!(
            bits_after_ten_steps("kind = 'adamw'\nweight_decay = 0.1"),
            [1_063_541_680, 3_220_223_359]
        );
    }
}
