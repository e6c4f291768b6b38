//! Asynchronous SGD with a parameter server (Dean et al., 2012): the other baseline.
//!
//! ```text
//! on a contribution:   make a version of it alone, send that to its volunteer
//! on a refusal:        send the newest version to its volunteer, when there is one that it has not
//! ```
//!
//! A volunteer computes one gradient on each model that it is sent, and waits for the next.

use std::time::Duration;

use super::Receivers;
use crate::central::config::Config;
use crate::time::Time;

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

    /// At once: nobody else is waited for.
    pub(super) fn closes_at(&self, now: Time) -> Time {
        now
    }

    /// Nobody is waited for.
    pub(super) fn is_in_time(&self) -> bool {
        true
    }

    /// A version is for the volunteer whose contribution made it. The others get theirs with their own.
    pub(super) fn receivers(&self) -> Receivers {
        Receivers::Contributors
    }

    /// It rules nothing: a volunteer reads out when each of its ML modules has added its gradient.
    pub(super) fn period(&self) -> Duration {
        self.period
    }
}
