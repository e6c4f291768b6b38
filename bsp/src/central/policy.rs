//! The rules of a run's mode: when a superstep closes, the weight of a late contribution, the receivers of a model, and
//! the read-out period. No other part of the central module asks for the mode.

use std::time::Duration;

use super::activity::Activity;
use super::config::Config;
use super::link::LinkTimes;
use super::open_superstep::OpenSuperstep;
use crate::protocol::message::{Mode, SessionId};
use crate::time::Time;

mod asynchronous;
mod decoupled;
mod lockstep;
mod period;

use asynchronous::Asynchronous;
use decoupled::Decoupled;
use lockstep::Lockstep;

/// In a baseline a read-out takes as long as the slowest minibatch. So only silence without heartbeats counts as
/// absence.
const LIVE_IN_BASELINES: Duration = Duration::from_secs(10);

/// A volunteer from which a contribution is expected.
pub(super) type Expected<'a> = (SessionId, &'a Activity);

/// The mode's rules.
#[derive(Debug)]
pub(super) enum Policy {
    /// Computing never waits for synchronising.
    Decoupled(Decoupled),
    /// Plain BSP, with a barrier.
    Lockstep(Lockstep),
    /// A parameter server: each contribution makes a version.
    Asynchronous(Asynchronous),
}

/// Which volunteers are sent a new version, as soon as they can take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receivers {
    /// All volunteers.
    Everyone,
    /// The volunteers that have contributed to it, and those whose contribution was refused.
    Contributors,
}

impl Policy {
    /// The policy of a run.
    pub(super) fn new(config: &Config) -> Policy {
        match config.mode {
            Mode::Decoupled => Policy::Decoupled(Decoupled::new(config)),
            Mode::Lockstep => Policy::Lockstep(Lockstep::new(config)),
            Mode::Asynchronous => Policy::Asynchronous(Asynchronous::new(config)),
        }
    }

    /// The weight of a sample by its staleness, relative to the others of its superstep.
    pub(super) fn weight_of(&self, staleness: f64) -> f64 {
        match self {
            Policy::Decoupled(policy) => policy.weight_of(staleness),
            Policy::Lockstep(policy) => policy.weight_of(staleness),
            Policy::Asynchronous(policy) => policy.weight_of(staleness),
        }
    }

    /// Whether a contribution that missed its superstep is dropped.
    pub(super) fn drops_late_ones(&self) -> bool {
        matches!(self, Policy::Lockstep(policy) if policy.has_backup_workers())
    }

    /// Whether a superstep stops waiting for a volunteer whose contribution was accepted. `has_current` says that it
    /// had stored the current model, `is_late` that a part of the contribution was computed on an earlier one.
    pub(super) fn is_in_time(&self, has_current: bool, is_late: bool) -> bool {
        match self {
            Policy::Decoupled(policy) => policy.is_in_time(has_current),
            Policy::Lockstep(policy) => policy.is_in_time(is_late),
            Policy::Asynchronous(policy) => policy.is_in_time(),
        }
    }

    /// Whether a superstep stops waiting for a volunteer whose contribution was refused.
    pub(super) fn is_refused_in_time(&self, is_late: bool) -> bool {
        matches!(self, Policy::Lockstep(policy) if policy.is_refused_in_time(is_late))
    }

    /// Which volunteers are sent a new version.
    pub(super) fn receivers(&self) -> Receivers {
        match self {
            Policy::Decoupled(policy) => policy.receivers(),
            Policy::Lockstep(policy) => policy.receivers(),
            Policy::Asynchronous(policy) => policy.receivers(),
        }
    }

    /// The rest of a link after a model. The baselines send a model as soon as there is one.
    pub(super) fn rest_after_model(&self, link: &LinkTimes, config: &Config) -> Duration {
        match self {
            Policy::Decoupled(policy) => policy.rest_after_model(link, config),
            Policy::Lockstep(_) | Policy::Asynchronous(_) => Duration::ZERO,
        }
    }

    /// The volunteers that a superstep waits for now.
    pub(super) fn expected<'a>(&self, now: Time, volunteers: impl Iterator<Item = Expected<'a>>) -> Vec<Expected<'a>> {
        match self {
            Policy::Decoupled(policy) => volunteers.filter(|(_, v)| policy.expects(now, v)).collect(),
            Policy::Lockstep(policy) => volunteers.filter(|(_, v)| policy.expects(now, v)).collect(),
            Policy::Asynchronous(_) => Vec::new(),
        }
    }

    /// The number of volunteers that a review looks at, of `connected` ones.
    pub(super) fn looks_of_a_review(&self, connected: usize) -> usize {
        match self {
            Policy::Decoupled(_) | Policy::Lockstep(_) => connected,
            Policy::Asynchronous(_) => 0,
        }
    }

    /// The number of expected volunteers that must still arrive before the superstep is complete.
    pub(super) fn missing(&self, open: &OpenSuperstep, expected: &[Expected<'_>]) -> usize {
        let missing = missing(open, expected).count();
        match self {
            Policy::Decoupled(_) | Policy::Asynchronous(_) => missing,
            Policy::Lockstep(policy) => policy.not_to_wait_without(missing),
        }
    }

    /// Whether enough has come in to leave the missing volunteers a grace window only.
    pub(super) fn has_quorum(&self, now: Time, open: &OpenSuperstep, expected: &[Expected<'_>]) -> bool {
        match self {
            Policy::Decoupled(policy) => policy.has_quorum(now, open, expected),
            Policy::Lockstep(_) | Policy::Asynchronous(_) => false,
        }
    }

    /// When the open superstep closes if nothing more comes; `None` if it then stays open.
    pub(super) fn closes_at(&self, now: Time, open: &OpenSuperstep, expected: &[Expected<'_>]) -> Option<Time> {
        open.holds_samples_since()?;
        match self {
            Policy::Decoupled(policy) => policy.closes_at(now, open, expected),
            Policy::Lockstep(policy) => policy.closes_at(now, missing(open, expected).count()),
            Policy::Asynchronous(policy) => Some(policy.closes_at(now)),
        }
    }

    /// Whether the open superstep holds too few samples to close when all have contributed.
    pub(super) fn is_too_small(&self, open: &OpenSuperstep) -> bool {
        matches!(self, Policy::Decoupled(policy) if policy.is_too_small(open))
    }

    /// A volunteer's first contribution to the current version has come; that version was made at `opened`.
    pub(super) fn on_contribution(&mut self, now: Time, opened: Time) {
        if let Policy::Decoupled(policy) = self {
            policy.on_contribution(now, opened);
        }
    }

    /// Lets the period follow the volunteers. Returns whether the policy has such a period.
    pub(super) fn adapt<'a>(
        &mut self,
        now: Time,
        volunteers: impl Iterator<Item = Expected<'a>>,
        config: &Config,
    ) -> bool {
        match self {
            Policy::Decoupled(policy) => policy.adapt(now, volunteers.map(|(_, activity)| activity), config),
            Policy::Lockstep(_) | Policy::Asynchronous(_) => return false,
        }
        true
    }

    /// The read-out period that volunteers are told.
    pub(super) fn period(&self) -> Duration {
        match self {
            Policy::Decoupled(policy) => policy.period(),
            Policy::Lockstep(policy) => policy.period(),
            Policy::Asynchronous(policy) => policy.period(),
        }
    }

    /// The time after a volunteer's last message in which a contribution of it is expected.
    pub(super) fn live_for(&self) -> Duration {
        match self {
            Policy::Decoupled(policy) => policy.live_for(),
            Policy::Lockstep(_) | Policy::Asynchronous(_) => LIVE_IN_BASELINES,
        }
    }

    /// The longest wait after the quorum for a predicted arrival; zero in the baselines.
    pub(super) fn grace_window(&self) -> Duration {
        match self {
            Policy::Decoupled(policy) => policy.grace_window(),
            Policy::Lockstep(_) | Policy::Asynchronous(_) => Duration::ZERO,
        }
    }
}

/// The expected volunteers that have not arrived.
fn missing<'a>(open: &OpenSuperstep, expected: &'a [Expected<'a>]) -> impl Iterator<Item = &'a Activity> {
    let missing = expected.iter().filter(|(session, _)| !open.has_arrived(*session));
    missing.map(|(_, activity)| *activity)
}
