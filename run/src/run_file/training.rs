//! The tables `[training]`, `[evaluation]` and `[checkpoints]` of a run file.

use bsp::central::LearningRateScaling;
use bsp::protocol::codec::Codec;
use bsp::protocol::message::Mode;
use nn::optimizer::OptimizerSpec;
use nn::optimizer::schedule::ScheduleSpec;
use serde::{Deserialize, Serialize};
use volunteer::local_steps::LocalSteps;

use super::{OnDivergence, Problem, Setting};
use crate::keys::{defaults, largest};

/// How to train the model.
#[expect(missing_docs, reason = "the table of keys says what each means")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    #[serde(default = "training_default::mode")]
    pub mode: Mode,
    #[serde(default = "training_default::backup_workers")]
    pub backup_workers: usize,
    pub local_steps: Option<LocalSteps>,
    #[serde(default = "training_default::contribution_codec")]
    pub contribution_codec: Codec,
    #[serde(default = "training_default::model_codec")]
    pub model_codec: Codec,
    #[serde(default = "training_default::communication_share")]
    pub communication_share: f64,
    #[serde(default = "training_default::minibatch")]
    pub minibatch: usize,
    #[serde(default = "training_default::superstep_samples")]
    pub superstep_samples: u64,
    #[serde(default = "training_default::quorum")]
    pub quorum: f64,
    #[serde(default = "training_default::min_period_ms")]
    pub min_period_ms: u64,
    #[serde(default = "training_default::max_period_ms")]
    pub max_period_ms: u64,
    #[serde(default = "training_default::max_staleness")]
    pub max_staleness: u64,
    #[serde(default = "training_default::staleness_exponent")]
    pub staleness_exponent: f64,
    #[serde(default = "training_default::clip")]
    pub clip: f64,
    pub max_read_out_samples: Option<u64>,
    #[serde(default = "training_default::lr_scaling")]
    pub lr_scaling: LearningRateScaling,
    #[serde(default = "training_default::session_ttl_seconds")]
    pub session_ttl_seconds: u64,
    #[serde(default = "training_default::on_divergence")]
    pub on_divergence: OnDivergence,
    pub optimizer: OptimizerSpec,
    pub schedule: ScheduleSpec,
}

/// How the model is evaluated on the held-out samples while it trains.
#[expect(missing_docs, reason = "the table of keys says what each means")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    #[serde(default = "evaluation_default::interval_seconds")]
    pub interval_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
}

/// What is kept of a run for the next start of its server.
#[expect(missing_docs, reason = "the table of keys says what each means")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoints {
    #[serde(default = "checkpoints_default::interval_seconds")]
    pub interval_seconds: f64,
    #[serde(default = "checkpoints_default::keep")]
    pub keep: usize,
    #[serde(default = "checkpoints_default::best")]
    pub best: bool,
}

/// What the table of keys says.
mod training_default {
    use super::*;

    defaults! { "[training]" "":
        mode: Mode,
        backup_workers: usize,
        contribution_codec: Codec,
        model_codec: Codec,
        communication_share: f64,
        minibatch: usize,
        superstep_samples: u64,
        quorum: f64,
        min_period_ms: u64,
        max_period_ms: u64,
        max_staleness: u64,
        staleness_exponent: f64,
        clip: f64,
        lr_scaling: LearningRateScaling,
        session_ttl_seconds: u64,
        on_divergence: OnDivergence,
    }
}

mod evaluation_default {
    use super::*;

    defaults! { "[evaluation]" "": interval_seconds: f64 }
}

mod checkpoints_default {
    use super::*;

    defaults! { "[checkpoints]" "": interval_seconds: f64, keep: usize, best: bool }
}

impl Default for Checkpoints {
    fn default() -> Checkpoints {
        Checkpoints {
            interval_seconds: checkpoints_default::interval_seconds(),
            keep: checkpoints_default::keep(),
            best: checkpoints_default::best(),
        }
    }
}

impl Default for Evaluation {
    fn default() -> Evaluation {
        Evaluation {
            interval_seconds: evaluation_default::interval_seconds(),
            samples: None,
        }
    }
}

impl Training {
    /// The most samples that one read-out is weighted with: 16 supersteps' worth unless the run file says otherwise.
    pub fn max_read_out_samples(&self) -> u64 {
        self.max_read_out_samples.unwrap_or(16 * self.superstep_samples)
    }

    /// Finds keys that make no sense together. Each by itself is in its range.
    pub(super) fn check(&self) -> Result<(), Problem> {
        const TABLE: &str = "[training]";
        let in_table = |table| {
            move |error: nn::optimizer::SettingError| Problem::Setting {
                table,
                setting: error.into(),
            }
        };
        if self.backup_workers > 0 && self.mode != Mode::Lockstep {
            let allowed = "0, or mode = \"lockstep\" with it";
            Setting::check(TABLE, "backup_workers", self.backup_workers, allowed, false)?;
        }
        if let Some(local_steps) = &self.local_steps {
            if self.mode != Mode::Decoupled {
                return Err(Problem::Exclusive(
                    "[training.local_steps] is for mode = \"decoupled\"; leave one of them out",
                ));
            }
            local_steps.check().map_err(in_table("[training.local_steps]"))?;
        }
        let (least, samples) = (self.minibatch as u64, self.superstep_samples);
        let allowed = format!(
            "a number from minibatch = {least} to {}",
            largest(TABLE, "superstep_samples")
        );
        Setting::check(TABLE, "superstep_samples", samples, allowed, samples >= least)?;
        let (shortest, longest) = (self.min_period_ms, self.max_period_ms);
        let allowed = format!(
            "a number from min_period_ms = {shortest} to {}",
            largest(TABLE, "max_period_ms")
        );
        Setting::check(TABLE, "max_period_ms", longest, allowed, longest >= shortest)?;
        let samples = self.max_read_out_samples();
        let allowed = format!("at least minibatch = {least}");
        Setting::check(TABLE, "max_read_out_samples", samples, allowed, samples >= least)?;
        self.optimizer.check().map_err(in_table("[training.optimizer]"))?;
        self.schedule.check().map_err(in_table("[training.schedule]"))
    }
}
