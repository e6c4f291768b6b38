//! The open superstep, and when it closes.
//!
//! Decoupled, it closes
//! - when a contribution to the current version has come from every volunteer that one can be expected of; or
//! - when a quorum of the expected samples has come, not all of it late, and the grace window is over: it lasts until the last
//!   arrival that is predicted within a quarter of the interval, and no time at all if none is; or
//! - at its deadline, twice the interval;
//!
//! and never without samples, nor, within the longest period, with less than half of those that it aims at: the optimizer
//! takes a whole step whatever a superstep holds, and before any rate is known it would take dozens of steps along single
//! minibatches. (Under local steps it may hold less: nobody contributes again before a model has settled what they contributed, so
//! that waiting for more would be in vain, and a step is as long as what was moved locally.)
//!
//! A volunteer whose link makes its read-out period longer than the deadline is not waited for; its contributions count in the
//! supersteps that they fall into.
//!
//! What comes later belongs to the next superstep: nobody waits for a straggler. There it counts towards the quorum, but the
//! volunteer's next contribution is still looked for: or whoever was late once, by however little, would be late in every
//! superstep from then on, because each would close just before it. And late contributions alone close nothing before the
//! deadline: after a hiccup of the network everything that it held back comes at once, and step upon step along gradients
//! that do not know of the last steps carries the model off.
//!
//! The interval is the time for which a superstep is open as a rule: the period, and the time that a publish takes to follow
//! the read-outs.
//!
//! In lockstep it closes when every connected volunteer's contribution has come (one that is refused counts as come), however long
//! that takes: plain BSP; with backup workers, when all but so many have. In asynchronous mode every contribution closes one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Config;
use super::session::Session;
use crate::combine::Contribution;
use crate::message::{Mode, SessionId};
use crate::time::Time;

/// A volunteer that was not heard of for so many intervals is not waited for.
const LIVE_INTERVALS: u32 = 3;
/// … but intervals can be shorter than a network's hiccups.
const LIVE_AT_LEAST: Duration = Duration::from_millis(250);
/// In lockstep a read-out takes as long as the slowest minibatch: only silence beyond the pulses counts as absence.
const LIVE_IN_LOCKSTEP: Duration = Duration::from_secs(10);
/// A superstep with samples is open for at most so many intervals.
const DEADLINE_INTERVALS: u32 = 2;
/// The grace window is at most the interval divided by this.
const GRACE_DIVISOR: u32 = 4;
/// A superstep that holds less than the samples it aims at, divided by this, stays open for the longest period.
const SMALLEST_DIVISOR: u64 = 2;

/// The most contributions of one session that an open superstep takes: an honest volunteer has one or two in it, a few when
/// the period has just changed or the superstep was too small to close. Each costs as much memory as the model.
pub(super) const MAX_CONTRIBUTIONS: usize = 16;

/// The contributions of the open superstep.
#[derive(Debug)]
pub(super) struct Superstep {
    pub(super) opened: Time,
    /// When its first contribution came.
    holds_samples_since: Option<Time>,
    pub(super) contributions: Vec<Contribution>,
    pub(super) samples: u64,
    pub(super) loss_sum: f64,
    /// Who has contributed, and how often.
    contributors: BTreeMap<SessionId, usize>,
    /// Whose contributions were not only late ones to earlier versions; in lockstep, refused ones too.
    in_time: BTreeSet<SessionId>,
    quorum_since: Option<Time>,
    /// What `closes_at` said last.
    planned: Option<Time>,
}

/// For how long after its last message a contribution can be expected of a volunteer.
pub(super) fn live_for(config: &Config, interval: Duration) -> Duration {
    match config.mode {
        Mode::Decoupled => interval.saturating_mul(LIVE_INTERVALS).max(LIVE_AT_LEAST),
        Mode::Lockstep | Mode::Asynchronous => LIVE_IN_LOCKSTEP,
    }
}

/// How long a superstep waits at most, after its quorum, for an arrival that is predicted; the baselines have no quorum.
pub(super) fn grace_window(config: &Config, interval: Duration) -> Duration {
    match config.mode {
        Mode::Decoupled => interval / GRACE_DIVISOR,
        Mode::Lockstep | Mode::Asynchronous => Duration::ZERO,
    }
}

impl Superstep {
    pub(super) fn open_at(now: Time) -> Superstep {
        Superstep {
            opened: now,
            holds_samples_since: None,
            contributions: Vec::new(),
            samples: 0,
            loss_sum: 0.0,
            contributors: BTreeMap::new(),
            in_time: BTreeSet::new(),
            quorum_since: None,
            planned: None,
        }
    }

    /// Adds a contribution. `is_in_time` says that the volunteer had the current version when it read out.
    pub(super) fn add(&mut self, now: Time, contribution: Contribution, loss_sum: f64, is_in_time: bool) {
        self.holds_samples_since.get_or_insert(now);
        self.samples = self.samples.saturating_add(contribution.samples);
        self.loss_sum += loss_sum;
        *self.contributors.entry(contribution.session).or_default() += 1;
        if is_in_time {
            self.in_time.insert(contribution.session);
        }
        self.contributions.push(contribution);
    }

    /// It does not wait for this volunteer: in lockstep it has computed its one gradient on the current version, and that is of no use.
    pub(super) fn excuse(&mut self, session: SessionId) {
        self.in_time.insert(session);
    }

    /// How many contributions of a session are in it.
    pub(super) fn contributions_of(&self, session: SessionId) -> usize {
        self.contributors.get(&session).copied().unwrap_or(0)
    }

    /// When it closes if nothing more comes; `None` while that depends on what comes.
    pub(super) fn closes_at(
        &mut self,
        now: Time,
        config: &Config,
        interval: Duration,
        sessions: &BTreeMap<SessionId, Session>,
    ) -> Option<Time> {
        self.planned = self.plan(now, config, interval, sessions);
        self.planned
    }

    fn plan(
        &mut self,
        now: Time,
        config: &Config,
        interval: Duration,
        sessions: &BTreeMap<SessionId, Session>,
    ) -> Option<Time> {
        let holds_samples_since = self.holds_samples_since?;
        if config.mode == Mode::Asynchronous {
            return Some(now);
        }
        let live_for = live_for(config, interval);
        let longest = interval.saturating_mul(DEADLINE_INTERVALS);
        let keeps_step = |session: &Session| config.mode == Mode::Lockstep || session.keeps_step(longest);
        let expected: Vec<_> = sessions
            .iter()
            .filter(|(_, session)| session.is_expected(now, live_for) && keeps_step(session))
            .collect();
        let missing = expected.iter().filter(|(id, _)| !self.in_time.contains(id)).count();
        if config.mode == Mode::Lockstep {
            return (missing <= config.backup_workers).then_some(now);
        }
        let is_complete = missing == 0;
        let closes = if is_complete {
            now
        } else {
            self.closes_without_the_missing(now, config, interval, &expected)
        };
        Some(if self.is_too_small(config) {
            closes.max(holds_samples_since + config.max_period)
        } else {
            closes
        })
    }

    /// Whether it has so few samples that it stays open although all have contributed; unless it would have to refuse what
    /// comes next.
    pub(super) fn is_too_small(&self, config: &Config) -> bool {
        !config.has_local_steps
            && self.samples < config.superstep_samples / SMALLEST_DIVISOR
            && self
                .contributors
                .values()
                .all(|contributions| *contributions < MAX_CONTRIBUTIONS)
    }

    fn closes_without_the_missing(
        &mut self,
        now: Time,
        config: &Config,
        interval: Duration,
        expected: &[(&SessionId, &Session)],
    ) -> Time {
        let deadline = self.opened + interval.saturating_mul(DEADLINE_INTERVALS);
        let rate: f64 = expected
            .iter()
            .map(|(_, session)| session.pace.samples_per_second(now))
            .sum();
        let is_quorum = self.samples as f64 >= config.quorum * rate * interval.as_secs_f64();
        if !is_quorum || self.in_time.is_empty() {
            return deadline;
        }
        let quorum_since = self.quorum_since.unwrap_or(now);
        let grace_end = quorum_since + grace_window(config, interval);
        let last_worth_waiting_for = expected
            .iter()
            .filter(|(id, _)| !self.in_time.contains(id))
            .filter_map(|(_, session)| session.pace.predicted_arrival())
            .filter(|at| *at <= grace_end)
            .max();
        self.quorum_since = Some(quorum_since);
        // Predictions are seldom exact: half the window beyond the predicted arrival is still cheap.
        let slack = grace_window(config, interval) / 2;
        let closes = last_worth_waiting_for.map_or(quorum_since, |at| (at + slack).min(grace_end));
        closes.min(deadline)
    }

    /// When to look again whether it closes, if nothing comes: at its closing, or when a volunteer that is waited for
    /// stops being live.
    pub(super) fn next_look(
        &self,
        now: Time,
        config: &Config,
        interval: Duration,
        sessions: &BTreeMap<SessionId, Session>,
    ) -> Option<Time> {
        self.holds_samples_since?;
        let live_for = live_for(config, interval);
        let absences = sessions
            .values()
            .filter(|session| session.is_expected(now, live_for))
            .map(|session| session.last_seen + live_for + Duration::from_micros(1));
        absences.chain(self.planned).min().map(|at| at.max(now))
    }
}
