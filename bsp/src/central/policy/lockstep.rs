//! Plain BSP: one minibatch for each ML module and version, then a barrier. The baseline.
//!
//! ```text
//! expected = volunteers that compute and sent something within 10 s
//! missing  = expected volunteers without an answer on the current version (a refused one is an answer)
//! close    when missing ≤ backup_workers, however long that takes
//! late     contributions are dropped where there are backup workers (Chen et al., arXiv 1604.00981)
//! ```
//!
//! With one volunteer of one ML module it equals the sequential baseline, bit for bit.

use std::time::Duration;

use super::{LIVE_IN_BASELINES, Receivers};
use crate::central::activity::Activity;
use crate::central::config::Config;
use crate::combine::staleness_weight;
use crate::time::Time;

/// The rules.
#[derive(Debug)]
pub(in crate::central) struct Lockstep {
    backup_workers: usize,
    staleness_exponent: f64,
    period: Duration,
}

impl Lockstep {
    pub(super) fn new(config: &Config) -> Lockstep {
        Lockstep {
            backup_workers: config.backup_workers,
            staleness_exponent: config.weighting.staleness_exponent,
            period: config.min_period,
        }
    }

    pub(super) fn weight_of(&self, staleness: f64) -> f64 {
        staleness_weight(staleness, self.staleness_exponent)
    }

    pub(super) fn has_backup_workers(&self) -> bool {
        self.backup_workers > 0
    }

    pub(super) fn expects(&self, now: Time, volunteer: &Activity) -> bool {
        volunteer.is_expected(now, LIVE_IN_BASELINES)
    }

    /// A contribution to the current version answers it. (After a reconnect its model may not be reported as stored
    /// yet.)
    pub(super) fn is_in_time(&self, is_late: bool) -> bool {
        !is_late
    }

    /// A refused contribution answers the current version, too: its volunteer has computed its one gradient on it, and
    /// that gradient can't be used.
    pub(super) fn is_refused_in_time(&self, is_late: bool) -> bool {
        !is_late
    }

    /// After the barrier all go on with the new version.
    pub(super) fn receivers(&self) -> Receivers {
        Receivers::Everyone
    }

    /// The number of missing volunteers that must still arrive.
    pub(super) fn not_to_wait_without(&self, missing: usize) -> usize {
        missing.saturating_sub(self.backup_workers)
    }

    pub(super) fn closes_at(&self, now: Time, missing: usize) -> Option<Time> {
        (missing <= self.backup_workers).then_some(now)
    }

    /// It has no effect: a volunteer reads out when each of its ML modules has added its gradient.
    pub(super) fn period(&self) -> Duration {
        self.period
    }
}
