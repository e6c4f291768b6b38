//! The tables `[training]` and `[evaluation]` of a run file.

use bsp::central::LearningRateScaling;
use bsp::codec::Codec;
use bsp::message::Mode;
use nn::optimizer::OptimizerSpec;
use nn::schedule::ScheduleSpec;
use serde::{Deserialize, Serialize};
use volunteer::local_steps::LocalSteps;

use super::{Problem, check};

/// The largest minibatch: an ML module's memory for activations grows with it.
const MAX_MINIBATCH: usize = 4096;
/// The largest superstep: beyond it, one step of the model takes more samples than any data set here has.
const MAX_SUPERSTEP_SAMPLES: u64 = 1 << 24;
/// The longest period: a superstep of an hour is a mistake in the unit.
const MAX_PERIOD_MS: u64 = 3_600_000;
/// The server keeps as many versions of the model.
const MAX_STALENESS: u64 = 1024;
/// The server remembers a session for at most a week.
const MAX_SESSION_TTL_SECONDS: u64 = 7 * 24 * 3600;
/// The longest interval between evaluations, a day.
const MAX_INTERVAL_SECONDS: f64 = 86_400.0;

/// How to train the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Whether computing waits for synchronising.
    #[serde(default)]
    pub mode: Mode,
    /// In lockstep, so many volunteers are not waited for, and what they bring late is dropped. 0 by default.
    #[serde(default)]
    pub backup_workers: usize,
    /// How ML modules move along their own gradients between read-outs. Not at all by default.
    pub local_steps: Option<LocalSteps>,
    /// How contributions are encoded on their way. Plain f32 by default.
    #[serde(default)]
    pub contribution_codec: Codec,
    /// How models are encoded on their way. Plain f32 by default.
    #[serde(default)]
    pub model_codec: Codec,
    /// The share of the time, above 0 to 1, that a volunteer's link is to be busy at the most. 0.5 by default.
    #[serde(default = "communication_share")]
    pub communication_share: f64,
    /// Samples in one gradient of an ML module. 32 by default.
    #[serde(default = "minibatch")]
    pub minibatch: usize,
    /// Samples that a superstep aims at: the batch that the learning rate was chosen for. 256 by default.
    #[serde(default = "superstep_samples")]
    pub superstep_samples: u64,
    /// The share of the expected samples, above 0 to 1, with which a superstep may close. 0.75 by default.
    #[serde(default = "quorum")]
    pub quorum: f64,
    /// The shortest period between read-outs, in milliseconds. 50 by default.
    #[serde(default = "min_period_ms")]
    pub min_period_ms: u64,
    /// The longest period between read-outs, in milliseconds. 10,000 by default.
    #[serde(default = "max_period_ms")]
    pub max_period_ms: u64,
    /// A contribution whose base is more versions old than this is refused. 64 by default.
    #[serde(default = "max_staleness")]
    pub max_staleness: u64,
    /// a in the weight (1 + staleness)^−a of a contribution. 1 by default; 0 weighs all the same.
    #[serde(default = "staleness_exponent")]
    pub staleness_exponent: f64,
    /// The norm of a contribution is bounded at this multiple of the norms' running median, and the local steps that a volunteer claims
    /// at this multiple of the others' running upper quartile. 3 by default; 0 is no bound.
    #[serde(default = "clip")]
    pub clip: f64,
    /// The most samples that one read-out is weighted with; see [`Training::max_read_out_samples`] for the default.
    pub max_read_out_samples: Option<u64>,
    /// How the learning rate follows a superstep with more samples than `superstep_samples`.
    #[serde(default)]
    pub lr_scaling: LearningRateScaling,
    /// How long the server remembers a session that it hears nothing of, in seconds. 600 by default.
    #[serde(default = "session_ttl_seconds")]
    pub session_ttl_seconds: u64,
    /// How a gradient moves the model.
    pub optimizer: OptimizerSpec,
    /// The learning rate over the run.
    pub schedule: ScheduleSpec,
}

/// How the model is evaluated on the held-out samples while it trains.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// From one evaluation to the next, in seconds. 5 by default.
    #[serde(default = "interval_seconds")]
    pub interval_seconds: f64,
    /// How many of the held-out samples an evaluation takes, evenly spread over them. All by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<usize>,
}

impl Default for Evaluation {
    fn default() -> Evaluation {
        Evaluation {
            interval_seconds: interval_seconds(),
            samples: None,
        }
    }
}

fn communication_share() -> f64 {
    0.5
}

fn minibatch() -> usize {
    32
}

fn superstep_samples() -> u64 {
    256
}

fn quorum() -> f64 {
    0.75
}

fn min_period_ms() -> u64 {
    50
}

fn max_period_ms() -> u64 {
    10_000
}

fn max_staleness() -> u64 {
    64
}

fn staleness_exponent() -> f64 {
    1.0
}

fn clip() -> f64 {
    3.0
}

fn session_ttl_seconds() -> u64 {
    600
}

fn interval_seconds() -> f64 {
    5.0
}

impl Training {
    /// The most samples that one read-out is weighted with: 16 supersteps' worth unless the run file says otherwise.
    pub fn max_read_out_samples(&self) -> u64 {
        self.max_read_out_samples.unwrap_or(16 * self.superstep_samples)
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        const TABLE: &str = "[training] ";
        let from_to = |from: u64, to: u64| format!("a number from {from} to {to}");
        let in_table = |table| {
            move |error: nn::optimizer::SettingError| Problem::Setting {
                table,
                setting: error.into(),
            }
        };

        let is_allowed = self.backup_workers == 0 || self.mode == Mode::Lockstep;
        check(
            TABLE,
            "backup_workers",
            self.backup_workers,
            "0, or mode = \"lockstep\" with it",
            is_allowed,
        )?;
        let share = self.communication_share;
        // Below a thousandth a link would carry a model a day.
        let is_allowed = (0.001..=1.0).contains(&share);
        check(
            TABLE,
            "communication_share",
            share,
            "a number from 0.001 to 1",
            is_allowed,
        )?;
        if let Some(local_steps) = &self.local_steps {
            if self.mode != Mode::Decoupled {
                return Err(Problem::Exclusive(
                    "[training.local_steps] is for mode = \"decoupled\"; leave one of them out",
                ));
            }
            local_steps.check().map_err(in_table("[training.local_steps] "))?;
        }
        let is_allowed = (1..=MAX_MINIBATCH).contains(&self.minibatch);
        check(
            TABLE,
            "minibatch",
            self.minibatch,
            from_to(1, MAX_MINIBATCH as u64),
            is_allowed,
        )?;
        let (least, samples) = (self.minibatch as u64, self.superstep_samples);
        let is_allowed = (least..=MAX_SUPERSTEP_SAMPLES).contains(&samples);
        let allowed = format!("a number from minibatch = {least} to {MAX_SUPERSTEP_SAMPLES}");
        check(TABLE, "superstep_samples", samples, allowed, is_allowed)?;
        check(
            TABLE,
            "quorum",
            self.quorum,
            "a number above 0, at most 1",
            self.quorum > 0.0 && self.quorum <= 1.0,
        )?;

        let is_allowed = (1..=MAX_PERIOD_MS).contains(&self.min_period_ms);
        check(
            TABLE,
            "min_period_ms",
            self.min_period_ms,
            from_to(1, MAX_PERIOD_MS),
            is_allowed,
        )?;
        let is_allowed = (self.min_period_ms..=MAX_PERIOD_MS).contains(&self.max_period_ms);
        let allowed = format!(
            "a number from min_period_ms = {} to {MAX_PERIOD_MS}",
            self.min_period_ms
        );
        check(TABLE, "max_period_ms", self.max_period_ms, allowed, is_allowed)?;

        let is_allowed = self.max_staleness <= MAX_STALENESS;
        check(
            TABLE,
            "max_staleness",
            self.max_staleness,
            from_to(0, MAX_STALENESS),
            is_allowed,
        )?;
        let is_allowed = (0.0..=4.0).contains(&self.staleness_exponent);
        check(
            TABLE,
            "staleness_exponent",
            self.staleness_exponent,
            "a number from 0 to 4",
            is_allowed,
        )?;
        // Below the median itself, a clip would shrink most contributions, which is the learning rate's task.
        let is_allowed = self.clip == 0.0 || (1.0..=1e6).contains(&self.clip);
        check(
            TABLE,
            "clip",
            self.clip,
            "0 for none, or a number from 1 to 1000000",
            is_allowed,
        )?;
        let (least, samples) = (self.minibatch as u64, self.max_read_out_samples());
        let allowed = format!("at least minibatch = {least}");
        check(TABLE, "max_read_out_samples", samples, allowed, samples >= least)?;
        let is_allowed = (1..=MAX_SESSION_TTL_SECONDS).contains(&self.session_ttl_seconds);
        check(
            TABLE,
            "session_ttl_seconds",
            self.session_ttl_seconds,
            from_to(1, MAX_SESSION_TTL_SECONDS),
            is_allowed,
        )?;

        self.optimizer.check().map_err(in_table("[training.optimizer] "))?;
        self.schedule.check().map_err(in_table("[training.schedule] "))
    }
}

impl Evaluation {
    pub(super) fn check(&self) -> Result<(), Problem> {
        let is_allowed = (0.1..=MAX_INTERVAL_SECONDS).contains(&self.interval_seconds);
        let allowed = format!("a number from 0.1 to {MAX_INTERVAL_SECONDS}");
        check(
            "[evaluation] ",
            "interval_seconds",
            self.interval_seconds,
            allowed,
            is_allowed,
        )?;
        let samples = self.samples.unwrap_or(1);
        check("[evaluation] ", "samples", samples, "1 or more", samples >= 1)
    }
}
