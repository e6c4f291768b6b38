//! The learning rate over a run, counted in samples: how far a run has come doesn't depend on how its work was cut into
//! supersteps.

use serde::{Deserialize, Serialize};

use super::{SettingError, check, is_finite_and_not_negative};
use crate::whole::{whole, whole_if_set};

/// What a run file says of the learning rate.
///
/// `learning_rate` and `warmup_samples` go with every `kind`; the other keys each with the kind that uses them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct ScheduleSpec {
    /// The learning rate after the warm-up, before anything lowers it.
    pub learning_rate: f64,
    /// Over how many samples the learning rate rises from 0. 0, the default, is no warm-up.
    pub warmup_samples: u64,
    /// What happens after the warm-up.
    pub kind: ScheduleKind,
}

/// How the learning rate changes after the warm-up.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleKind {
    /// It stays.
    Constant,
    /// It falls along half a cosine, and then stays.
    Cosine {
        /// Where the fall ends, in samples from the start of the run.
        total_samples: u64,
        /// What is left of the learning rate then, from 0 to 1; 0 if the run file doesn't say.
        final_fraction: f64,
    },
    /// It is multiplied by a factor again and again.
    Step {
        /// After how many samples each time.
        every_samples: u64,
        /// By what.
        factor: f64,
    },
}

impl ScheduleSpec {
    /// Finds settings that make no sense.
    pub fn check(&self) -> Result<(), SettingError> {
        // As it multiplies gradients: beyond 3.4e38 infinite, and nearest to 0 nothing.
        let rate = self.learning_rate as f32;
        check(
            "learning_rate",
            self.learning_rate,
            "a number above 0",
            rate > 0.0 || self.learning_rate.is_infinite(),
        )?;
        check(
            "learning_rate",
            self.learning_rate,
            "1e38 or less",
            self.learning_rate <= 1e38,
        )?;
        match self.kind {
            ScheduleKind::Constant => Ok(()),
            ScheduleKind::Cosine {
                total_samples,
                final_fraction,
            } => {
                let is_after_warmup = total_samples > self.warmup_samples;
                check(
                    "total_samples",
                    total_samples as f64,
                    "more than warmup_samples",
                    is_after_warmup,
                )?;
                let is_fraction = (0.0..=1.0).contains(&final_fraction);
                check("final_fraction", final_fraction, "a number from 0 to 1", is_fraction)
            }
            ScheduleKind::Step { every_samples, factor } => {
                check("every_samples", every_samples as f64, "1 or more", every_samples > 0)?;
                check(
                    "factor",
                    factor,
                    "a number from 0 to 1",
                    is_finite_and_not_negative(factor) && factor <= 1.0,
                )
            }
        }
    }

    /// The learning rate of the step after which the run has counted `samples` samples, those of the step included.
    ///
    /// The same bits everywhere: the cosine is `libm`'s, and powers are products.
    pub fn at(&self, samples: u64) -> f32 {
        let warmed_up = if samples < self.warmup_samples {
            samples as f64 / self.warmup_samples as f64
        } else {
            1.0
        };
        let left = match self.kind {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Cosine {
                total_samples,
                final_fraction,
            } => {
                let fall_samples = total_samples.saturating_sub(self.warmup_samples).max(1);
                let progress = samples.saturating_sub(self.warmup_samples) as f64 / fall_samples as f64;
                let height = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * progress.min(1.0)));
                final_fraction + (1.0 - final_fraction) * height
            }
            ScheduleKind::Step { every_samples, factor } => power(factor, samples / every_samples.max(1)),
        };
        (self.learning_rate * warmed_up * left) as f32
    }
}

/// `base` to the power of `exponent`, by squaring.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut product = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            product *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    product
}

/// The schedule as it is written. Serde can't refuse unknown keys in a flattened enum, so the keys of all kinds lie
/// side by side here, and are sorted out afterwards.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    kind: Kind,
    learning_rate: f64,
    #[serde(default, deserialize_with = "whole")]
    warmup_samples: u64,
    #[serde(default, deserialize_with = "whole_if_set", skip_serializing_if = "Option::is_none")]
    total_samples: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    final_fraction: Option<f64>,
    #[serde(default, deserialize_with = "whole_if_set", skip_serializing_if = "Option::is_none")]
    every_samples: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Constant,
    Cosine,
    Step,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Constant => "constant",
            Kind::Cosine => "cosine",
            Kind::Step => "step",
        }
    }
}

impl TryFrom<Keys> for ScheduleSpec {
    type Error = String;

    fn try_from(keys: Keys) -> Result<ScheduleSpec, String> {
        let keys_of_kinds = [
            ("total_samples", Kind::Cosine, keys.total_samples.is_some()),
            ("final_fraction", Kind::Cosine, keys.final_fraction.is_some()),
            ("every_samples", Kind::Step, keys.every_samples.is_some()),
            ("factor", Kind::Step, keys.factor.is_some()),
        ];
        let is_misplaced = |(_, kind, is_set): &&(&str, Kind, bool)| *is_set && *kind != keys.kind;
        if let Some((key, owner, _)) = keys_of_kinds.iter().find(is_misplaced) {
            let (kind, owner) = (keys.kind.name(), owner.name());
            return Err(format!(
                "`{key}` is a key of the {owner} schedule, not of the {kind} one; remove it, or set kind = \
                 \"{owner}\""
            ));
        }
        let missing = |key: &str| format!("the {} schedule needs the key `{key}`; add it", keys.kind.name());
        let kind = match keys.kind {
            Kind::Constant => ScheduleKind::Constant,
            Kind::Cosine => ScheduleKind::Cosine {
                total_samples: keys.total_samples.ok_or_else(|| missing("total_samples"))?,
                final_fraction: keys.final_fraction.unwrap_or(0.0),
            },
            Kind::Step => ScheduleKind::Step {
                every_samples: keys.every_samples.ok_or_else(|| missing("every_samples"))?,
                factor: keys.factor.ok_or_else(|| missing("factor"))?,
            },
        };
        Ok(ScheduleSpec {
            learning_rate: keys.learning_rate,
            warmup_samples: keys.warmup_samples,
            kind,
        })
    }
}

impl From<ScheduleSpec> for Keys {
    fn from(spec: ScheduleSpec) -> Keys {
        let mut keys = Keys {
            kind: Kind::Constant,
            learning_rate: spec.learning_rate,
            warmup_samples: spec.warmup_samples,
            total_samples: None,
            final_fraction: None,
            every_samples: None,
            factor: None,
        };
        match spec.kind {
            ScheduleKind::Constant => {}
            ScheduleKind::Cosine {
                total_samples,
                final_fraction,
            } => {
                keys.kind = Kind::Cosine;
                keys.total_samples = Some(total_samples);
                keys.final_fraction = Some(final_fraction);
            }
            ScheduleKind::Step { every_samples, factor } => {
                keys.kind = Kind::Step;
                keys.every_samples = Some(every_samples);
                keys.factor = Some(factor);
            }
        }
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_toml(text: &str) -> Result<ScheduleSpec, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn a_constant_rate_stays() {
        let schedule = from_toml("kind = 'constant'\nlearning_rate = 0.1").unwrap();
        assert_eq!(
            [0, 1, 1_000_000, u64::MAX].map(|samples| schedule.at(samples)),
            [0.1; 4]
        );
    }

    #[test]
    fn the_warm_up_rises_in_a_straight_line() {
        let schedule = from_toml("kind = 'constant'\nlearning_rate = 0.5\nwarmup_samples = 1000").unwrap();
        assert_eq!(
            [0, 250, 500, 1000, 2000].map(|samples| schedule.at(samples)),
            [0.0, 0.125, 0.25, 0.5, 0.5]
        );
    }

    #[test]
    fn the_cosine_falls_to_its_final_fraction_and_stays() {
        let text =
            "kind = 'cosine'\nlearning_rate = 1.0\nwarmup_samples = 100\ntotal_samples = 1100\nfinal_fraction = 0.2";
        let schedule = from_toml(text).unwrap();
        for (samples, rate) in [(50, 0.5), (100, 1.0), (600, 0.6), (1100, 0.2), (u64::MAX, 0.2)] {
            assert!(
                (schedule.at(samples) - rate).abs() < 1e-6,
                "{samples} samples: {}",
                schedule.at(samples)
            );
        }
        // A third of the way, cos(π/3) = 1/2.
        let third = from_toml("kind = 'cosine'\nlearning_rate = 1.0\ntotal_samples = 3000")
            .unwrap()
            .at(1000);
        assert!((third - 0.75).abs() < 1e-6, "{third}");
    }

    #[test]
    fn the_step_schedule_multiplies_again_and_again() {
        let text = "kind = 'step'\nlearning_rate = 0.8\nevery_samples = 100\nfactor = 0.5";
        let schedule = from_toml(text).unwrap();
        assert_eq!(
            [0, 99, 100, 250, 300].map(|samples| schedule.at(samples)),
            [0.8, 0.8, 0.4, 0.2, 0.1]
        );
        assert_eq!(schedule.at(u64::MAX), 0.0);
    }

    #[test]
    fn the_same_schedule_gives_the_same_bits_everywhere() {
        let schedule = from_toml("kind = 'cosine'\nlearning_rate = 0.1\ntotal_samples = 7919").unwrap();
        let bits = [1, 1000, 5000, 7918].map(|samples| schedule.at(samples).to_bits());
        assert_eq!(bits, [1_036_831_948, 1_036_310_747, 1_022_707_950, 830_943_484]);
    }

    #[test]
    fn keys_that_do_not_belong_are_refused_with_a_hint() {
        let refused = |text: &str| from_toml(text).unwrap_err().to_string();
        assert!(
            refused("kind = 'constant'\nlearning_rate = 0.1\nfactor = 0.5").contains(
                "`factor` is a key of the step schedule, not of the constant one; remove it, or set kind = \"step\""
            ),
            "{}",
            refused("kind = 'constant'\nlearning_rate = 0.1\nfactor = 0.5")
        );
        assert!(refused("kind = 'step'\nlearning_rate = 0.1\nfactor = 0.5").contains("needs the key `every_samples`"));
        assert!(refused("kind = 'cosine'\nlearning_rate = 0.1").contains("needs the key `total_samples`"));
        assert!(refused("kind = 'constant'\nlearning_rate = 0.1\nmomentum = 0.9").contains("unknown field `momentum`"));
        assert!(refused("kind = 'constant'").contains("missing field `learning_rate`"));
        assert!(refused("kind = 'linear'\nlearning_rate = 0.1").contains("unknown variant `linear`"));
    }

    #[test]
    fn a_number_of_samples_that_is_none_is_refused_in_the_readers_words() {
        for (kind, key) in [
            ("constant", "warmup_samples"),
            ("cosine", "total_samples"),
            ("step", "every_samples"),
        ] {
            for value in ["[12, 7]", "\"12\"", "-1", "2.5"] {
                let text = format!("kind = '{kind}'\nlearning_rate = 0.1\n{key} = {value}");
                let error = from_toml(&text).unwrap_err().to_string();
                assert!(error.contains("expected a whole number, 0 or more"), "{error}");
            }
        }
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        let refused = |text: &str| from_toml(text).unwrap().check().unwrap_err().key;
        assert_eq!(refused("kind = 'constant'\nlearning_rate = 0.0"), "learning_rate");
        assert_eq!(refused("kind = 'constant'\nlearning_rate = nan"), "learning_rate");
        assert_eq!(refused("kind = 'constant'\nlearning_rate = 1e39"), "learning_rate");
        assert_eq!(refused("kind = 'constant'\nlearning_rate = 1e-60"), "learning_rate");
        let cosine = "kind = 'cosine'\nlearning_rate = 0.1\nwarmup_samples = 10\n";
        assert_eq!(refused(&format!("{cosine}total_samples = 10")), "total_samples");
        assert_eq!(
            refused(&format!("{cosine}total_samples = 20\nfinal_fraction = 1.5")),
            "final_fraction"
        );
        let step = "kind = 'step'\nlearning_rate = 0.1\n";
        assert_eq!(
            refused(&format!("{step}every_samples = 0\nfactor = 0.5")),
            "every_samples"
        );
        assert_eq!(refused(&format!("{step}every_samples = 1\nfactor = 2.0")), "factor");
    }

    #[test]
    fn a_schedule_that_was_written_reads_the_same() {
        for text in [
            "kind = 'constant'\nlearning_rate = 0.1\nwarmup_samples = 5",
            "kind = 'cosine'\nlearning_rate = 0.1\ntotal_samples = 7\nfinal_fraction = 0.25",
            "kind = 'step'\nlearning_rate = 0.1\nevery_samples = 7\nfactor = 0.5",
        ] {
            let schedule = from_toml(text).unwrap();
            assert_eq!(from_toml(&toml::to_string(&schedule).unwrap()).unwrap(), schedule);
        }
    }
}
