//! A run for the unit tests of sessions and links.

use std::time::Duration;

use super::{Config, LearningRateScaling};
use crate::combine::Weighting;
use crate::protocol::codec::Codec;
use crate::protocol::message::{Mode, RunId};

/// A volunteer's link may be busy for half of the time; periods are from 50 ms to 2 s.
pub(super) fn test_config() -> Config {
    Config {
        run: RunId(1),
        spec_hash: 1,
        mode: Mode::Decoupled,
        backup_workers: 0,
        has_local_steps: false,
        contribution_codec: Codec::F32,
        model_codec: Codec::F32,
        communication_share: 0.5,
        minibatch: 8,
        superstep_samples: 256,
        quorum: 0.8,
        min_period: Duration::from_millis(50),
        max_period: Duration::from_secs(2),
        max_staleness: 10,
        weighting: Weighting {
            staleness_exponent: 0.5,
            max_read_out_samples: 1 << 20,
            clip: 0.0,
        },
        lr_scaling: LearningRateScaling::None,
        session_ttl: Duration::from_secs(60),
        max_sessions: 64,
    }
}
