//! What a run file says of the optimizer.

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
    /// Gradients are then computed where the parameters are about to be, which keeps stale ones from feeding an
    /// oscillation (docs/decisions/0026).
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
    pub value: String,
    /// What it may be set to, in words.
    pub allowed: &'static str,
}

/// An error unless `is_allowed`. Comparisons with NaN are false, so NaN is never allowed.
pub(crate) fn check(
    key: &'static str,
    value: impl ToString,
    allowed: &'static str,
    is_allowed: bool,
) -> Result<(), SettingError> {
    if is_allowed {
        Ok(())
    } else {
        Err(SettingError {
            key,
            value: value.to_string(),
            allowed,
        })
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
                    sgd.nesterov,
                    "a momentum above 0 beside it, or leave nesterov out",
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
                    adam.nesterov,
                    "a beta1 above 0 beside it, or leave nesterov out",
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
        assert_eq!(
            refused("kind = 'sgd'\nnesterov = true"),
            "nesterov = true is not allowed; set a momentum above 0 beside it, or leave nesterov out"
        );
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
}
