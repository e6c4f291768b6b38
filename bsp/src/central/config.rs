//! The settings of a run.

use std::time::Duration;

use super::token_key::TokenKey;
use crate::combine::Weighting;
use crate::protocol::codec::Codec;
use crate::protocol::message::{Mode, RunId};

/// Shorter periods are not worth their messages.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

/// The settings of a run, which never change.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The run.
    pub run: RunId,
    /// The hash of its model spec.
    pub spec_hash: u64,
    /// Decoupled, or one of the baselines.
    pub mode: Mode,
    /// In lockstep, a superstep does not wait for this many of the volunteers, and their late contributions are dropped
    /// (Chen et al., arXiv 1604.00981).
    pub backup_workers: usize,
    /// Whether ML modules also move along their own gradients: contributions are displacements then.
    pub has_local_steps: bool,
    /// How contributions are encoded, by volunteers that can.
    pub contribution_codec: Codec,
    /// How models are encoded, for volunteers that can decode them.
    pub model_codec: Codec,
    /// The share of the time that a volunteer's link may be busy with contributions and models, above 0 to 1.
    pub communication_share: f64,
    /// Samples of one gradient, at most.
    pub minibatch: u64,
    /// The number of samples that a superstep aims at.
    pub superstep_samples: u64,
    /// The share of the expected samples after which only a grace window is left to the others.
    pub quorum: f64,
    /// The read-out period is not below this …
    pub min_period: Duration,
    /// … nor above that.
    pub max_period: Duration,
    /// Older contributions are refused, in versions.
    pub max_staleness: u64,
    /// How contributions weigh.
    pub weighting: Weighting,
    /// How the learning rate follows large supersteps.
    pub lr_scaling: LearningRateScaling,
    /// How long a session lives without a connection.
    pub session_ttl: Duration,
    /// The most sessions at a time.
    pub max_sessions: usize,
    /// The key of the sessions' tokens. It stays the same over restarts, and is a secret.
    pub token_key: TokenKey,
    /// The longest time between two checkpoints while contributions come. `None` for a run without checkpoints: what is
    /// settled there counts as durable.
    pub checkpoint_interval: Option<Duration>,
    /// A run that diverges goes back to an earlier model: its driver makes another central module of a checkpoint.
    /// Volunteers are told that the server will be back.
    pub goes_back: bool,
}

impl Config {
    /// A plain run: decoupled, f32 on the wire, supersteps of 256 samples, contributions weighed by their staleness, no
    /// checkpoints, and a key that everybody knows.
    pub fn new(run: RunId, spec_hash: u64) -> Config {
        Config {
            run,
            spec_hash,
            mode: Mode::Decoupled,
            backup_workers: 0,
            has_local_steps: false,
            contribution_codec: Codec::F32,
            model_codec: Codec::F32,
            communication_share: 0.5,
            minibatch: 32,
            superstep_samples: 256,
            quorum: 0.8,
            min_period: Duration::from_millis(50),
            max_period: Duration::from_secs(2),
            max_staleness: 64,
            weighting: Weighting {
                staleness_exponent: 1.0,
                max_read_out_samples: 1 << 20,
                clip: 3.0,
            },
            lr_scaling: LearningRateScaling::None,
            session_ttl: Duration::from_secs(60),
            max_sessions: 64,
            token_key: TokenKey([0; 32]),
            checkpoint_interval: None,
            goes_back: false,
        }
    }

    /// The same with periods in an order that makes sense.
    pub(super) fn with_ordered_periods(self) -> Config {
        let min_period = self.min_period.max(SHORTEST_PERIOD);
        Config {
            min_period,
            max_period: self.max_period.max(min_period),
            ..self
        }
    }
}

/// How the learning rate follows a superstep that holds more samples than `superstep_samples`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearningRateScaling {
    /// Not at all.
    #[default]
    None,
    /// With the square root of the ratio.
    SquareRoot,
    /// With the ratio (Goyal et al., arXiv 1706.02677).
    Linear,
}

impl LearningRateScaling {
    /// The factor for a superstep of `samples` samples where `superstep_samples` are aimed at; 1 or more.
    pub(super) fn factor(self, samples: u64, superstep_samples: u64) -> f32 {
        let ratio = (samples as f64 / superstep_samples as f64).max(1.0);
        match self {
            LearningRateScaling::None => 1.0,
            LearningRateScaling::SquareRoot => libm::sqrt(ratio) as f32,
            LearningRateScaling::Linear => ratio as f32,
        }
    }
}
