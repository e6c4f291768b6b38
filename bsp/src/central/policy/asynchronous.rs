//! Asynchronous SGD with a parameter server (Dean et al., 2012): the other baseline.
//!
//! ```text
//! on a contribution:   make a version of it alone, send that to its volunteer
//! on a refusal:        send the newest version to its volunteer, when there is one that it has not
//! ```
//!
//! A volunteer computes one gradient on each model that it is sent, and waits for the next.

use std::time::Duration;

use crate::central::config::Config;

/// The rules.
#[derive(Debug)]
pub(in crate::central) struct Asynchronous {
    period: Duration,
}

impl Asynchronous {
    pub(super) fn new(config: &Config) -> Asynchronous {
        Asynchronous {
            period: config.min_period,
        }
    }

    /// There are no others in its superstep, so each sample counts in full.
    pub(super) fn weight_of(&self, _staleness: f64) -> f64 {
        1.0
    }

    /// It rules nothing: a volunteer reads out when each of its ML modules has added its gradient.
    pub(super) fn period(&self) -> Duration {
        self.period
    }
}
