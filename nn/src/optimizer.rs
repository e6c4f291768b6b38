//! Optimizers: how a gradient moves the parameters. They agree with `torch.optim` (tests/optimizer_golden.rs).
//!
//! Only additions, subtractions, multiplications, divisions and square roots are used, which IEEE 754 rounds the same
//! everywhere; powers are running products. So the same gradients give the same bits natively and in wasm.

use serde::{Deserialize, Serialize};

/// What a run file says of the optimizer: `kind = "sgd"`, `"adam"` or `"adamw"`, and its settings.
///
/// The learning rate isn't part of it: the schedule gives one for every step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OptimizerSpec {
    /// Stochastic gradient descent, `torch.optim.SGD`.
    Sgd(SgdSpec),
    /// Adam, `torch.optim.Adam`: weight decay is added to the gradient.
    /// With `nesterov` `torch.optim.NAdam`, its momentum constant.
    Adam(AdamSpec),
    /// AdamW, `torch.optim.AdamW`: weight decay shrinks the parameters themselves.
    #[serde(rename = "adamw")]
    AdamW(AdamSpec),
}

/// The settings of stochastic gradient descent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub struct SgdSpec {
    /// How much of the last velocity is kept, from 0 to below 1. 0, the default, is plain descent.
    pub momentum: f64,
    /// Whether to look ahead along the velocity (Nesterov); needs momentum. Off by default.
    pub nesterov: bool,
    /// The L2 penalty that is added to the gradient, per parameter. 0 by default.
    pub weight_decay: f64,
}

/// The settings of Adam and AdamW.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdamSpec {
    /// How much of the gradient's running mean is kept, from 0 to below 1. 0.9 by default.
    pub beta1: f64,
    /// How much of the squared gradient's running mean is kept, from 0 to below 1. 0.999 by default.
    pub beta2: f64,
    /// Added to the divisor, which could be 0 without it. 1e-8 by default.
    pub epsilon: f64,
    /// Adam: the L2 penalty. AdamW: the share by which parameters shrink in a step, per learning rate. 0 by default (in
    /// PyTorch, AdamW's is 0.01).
    pub weight_decay: f64,
    /// Whether to look ahead along the running mean (NAdam; Dozat, 2016), as SGD does with `nesterov`. Off by default.
    ///
    /// Gradients are then computed where the parameters are about to be, which keeps stale ones from feeding an oscillation
    /// (see ARCHITECTURE.md).
    pub nesterov: bool,
}

impl Default for AdamSpec {
    fn default() -> AdamSpec {
        AdamSpec {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            nesterov: false,
        }
    }
}

/// A setting of an optimizer or a schedule that makes no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{key} = {value} is not allowed; set {allowed}")]
pub struct SettingError {
    /// The key in the run file.
    pub key: &'static str,
    /// What it is set to.
    pub value: f64,
    /// What it may be set to, in words.
    pub allowed: &'static str,
}

/// An error unless `is_allowed`. Comparisons with NaN are false, so NaN is never allowed.
pub(crate) fn check(
    key: &'static str,
    value: f64,
    allowed: &'static str,
    is_allowed: bool,
) -> Result<(), SettingError> {
    if is_allowed {
        Ok(())
    } else {
        Err(SettingError { key, value, allowed })
    }
}

/// Whether a number is 0 or more, and finite.
pub(crate) fn is_finite_and_not_negative(value: f64) -> bool {
    (0.0..f64::INFINITY).contains(&value)
}

impl OptimizerSpec {
    /// Finds settings that make no sense.
    pub fn check(&self) -> Result<(), SettingError> {
        const SHARE: &str = "a number from 0 to below 1";
        const NOT_NEGATIVE: &str = "0 or more";
        let is_share = |value| (0.0..1.0).contains(&value);
        match self {
            OptimizerSpec::Sgd(sgd) => {
                check("momentum", sgd.momentum, SHARE, is_share(sgd.momentum))?;
                check(
                    "nesterov",
                    1.0,
                    "momentum above 0 with it",
                    !sgd.nesterov || sgd.momentum > 0.0,
                )?;
                check(
                    "weight_decay",
                    sgd.weight_decay,
                    NOT_NEGATIVE,
                    is_finite_and_not_negative(sgd.weight_decay),
                )
            }
            OptimizerSpec::Adam(adam) | OptimizerSpec::AdamW(adam) => {
                check("beta1", adam.beta1, SHARE, is_share(adam.beta1))?;
                check("beta2", adam.beta2, SHARE, is_share(adam.beta2))?;
                check(
                    "nesterov",
                    1.0,
                    "beta1 above 0 with it",
                    !adam.nesterov || adam.beta1 > 0.0,
                )?;
                let is_positive = adam.epsilon > 0.0 && adam.epsilon.is_finite();
                check("epsilon", adam.epsilon, "a number above 0", is_positive)?;
                check(
                    "weight_decay",
                    adam.weight_decay,
                    NOT_NEGATIVE,
                    is_finite_and_not_negative(adam.weight_decay),
                )
            }
        }
    }
}

/// An optimizer at work: its settings, and what it remembers of past gradients. Both can be stored and loaded, together or what
/// it remembers alone, as an [`OptimizerRecord`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    spec: OptimizerSpec,
    memory: Memory,
}

/// What an optimizer remembers, one element for each parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Memory {
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
pub struct OptimizerRecord(Memory);

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
    fn parameters(&self) -> usize {
        match self {
            Memory::Nothing { parameters } => *parameters,
            Memory::Velocity(velocity) => velocity.len(),
            Memory::Moments { mean, square, .. } => mean.len().min(square.len()),
        }
    }
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

    /// How many parameters it was made for. Whoever loads an optimizer compares this with the model's.
    pub fn parameters(&self) -> usize {
        self.memory.parameters()
    }

    /// What it remembers of past gradients.
    pub fn record(&self) -> OptimizerRecord {
        OptimizerRecord(self.memory.clone())
    }

    /// Goes on from a record.
    ///
    /// # Errors
    /// The record does not fit; then nothing has changed.
    pub fn load(&mut self, record: OptimizerRecord) -> Result<(), RecordMisfit> {
        let OptimizerRecord(memory) = record;
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
    let (of_mean, of_slope) = match spec.nesterov {
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
        let direction = of_mean * *mean + of_slope * slope;
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
    fn settings_left_out_have_their_documented_values() {
        let sgd = SgdSpec {
            momentum: 0.0,
            nesterov: false,
            weight_decay: 0.0,
        };
        assert_eq!(from_toml("kind = 'sgd'").unwrap(), OptimizerSpec::Sgd(sgd));
        let adam = AdamSpec {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            nesterov: false,
        };
        assert_eq!(from_toml("kind = 'adam'").unwrap(), OptimizerSpec::Adam(adam.clone()));
        let decayed = AdamSpec {
            weight_decay: 0.1,
            ..adam
        };
        assert_eq!(
            from_toml("kind = 'adamw'\nweight_decay = 0.1").unwrap(),
            OptimizerSpec::AdamW(decayed)
        );
    }

    #[test]
    fn a_setting_of_another_optimizer_is_refused() {
        for text in [
            "kind = 'sgd'\nbeta1 = 0.9",
            "kind = 'adam'\nmomentum = 0.9",
            "kind = 'adamw'\nmomentum = 0.9",
        ] {
            let error = from_toml(text).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
        }
        assert!(
            from_toml("kind = 'rmsprop'")
                .unwrap_err()
                .to_string()
                .contains("unknown variant `rmsprop`")
        );
        assert!(
            from_toml("momentum = 0.9")
                .unwrap_err()
                .to_string()
                .contains("missing field `kind`")
        );
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let refused = |text: &str| from_toml(text).unwrap().check().unwrap_err().to_string();
        assert_eq!(
            refused("kind = 'sgd'\nmomentum = 1.0"),
            "momentum = 1 is not allowed; set a number from 0 to below 1"
        );
        assert!(refused("kind = 'sgd'\nnesterov = true").contains("nesterov"));
        assert!(refused("kind = 'sgd'\nweight_decay = -1.0").contains("weight_decay"));
        assert!(refused("kind = 'adam'\nbeta1 = nan").contains("beta1"));
        assert!(refused("kind = 'adam'\nbeta1 = 0.0\nnesterov = true").contains("nesterov"));
        assert!(refused("kind = 'adam'\nbeta2 = 1.0").contains("beta2"));
        assert!(refused("kind = 'adamw'\nepsilon = 0.0").contains("epsilon"));
        assert!(refused("kind = 'adamw'\nweight_decay = inf").contains("weight_decay"));
        for kind in ["sgd", "adam", "adamw"] {
            from_toml(&format!("kind = '{kind}'")).unwrap().check().unwrap();
        }
    }

    #[test]
    fn looking_ahead_keeps_stale_gradients_from_feeding_an_oscillation() {
        // On the parabola p²/2 half of every gradient is a step old. η/(1 − μ) = 4 is above the bound of 2 without looking
        // ahead, and below that of 7.6 with it.
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
