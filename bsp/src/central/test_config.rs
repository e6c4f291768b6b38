//! A run for the unit tests of the central module.

use super::Config;
use crate::combine::Weighting;
use crate::protocol::message::RunId;

/// A volunteer's link may be busy for half of the time; periods are from 50 ms to 2 s; no gradient is clipped.
pub(super) fn test_config() -> Config {
    Config {
        minibatch: 8,
        max_staleness: 10,
        weighting: Weighting {
            staleness_exponent: 0.5,
            max_read_out_samples: 1 << 20,
            clip: 0.0,
        },
        ..Config::new(RunId(1), 1)
    }
}
