//! The product's own rules: computing never waits for synchronising.
//!
//! ```text
//! interval  = period + overhead                        the usual length of a superstep; see `period`
//! expected  = volunteers that compute, have sent something within max(3 · interval, 250 ms), and have a period of at
//!             most 2 · interval
//! arrived   = volunteers that contributed while they had the current version
//! missing   = expected − arrived
//! quorum    when samples ≥ q · Σ expected rates · interval, and any has arrived
//!
//! close at  now                                          if none is missing
//!           min(last arrival + window / 2, window's end)  if there is a quorum; "last arrival" is the last one of a
//!                                                         missing volunteer that is predicted within the grace window
//!           now                                           if there is a quorum and no such prediction
//!           opened + 2 · interval                         else: the deadline
//! but not   within max_period of its first contribution, if it holds less than superstep_samples / 2
//!
//! grace window = interval / 4, from the quorum on
//! ```
//!
//! **Small supersteps stay open,** since the optimizer takes a whole step for any number of samples. Before any rate is
//! known it would take dozens of steps along single minibatches. Under local steps a superstep may be small. No
//! volunteer contributes again before a model has settled its last contribution, so that waiting for more would be in
//! vain, and a step is as long as the local displacements.
//!
//! **A late contribution does not replace the next one.** It counts towards the quorum of the superstep in which it
//! arrives, but the superstep still waits for its volunteer's next contribution. Otherwise a volunteer that was late
//! once would be late in every superstep from then on, because each would close just before its contribution arrives.
//! Late contributions alone close nothing before the deadline. After a network's hiccup many of them come at once; a
//! step for each of them, along gradients that do not include the last steps, would make the model diverge.

use std::time::Duration;

use super::period::{Period, VolunteerRate};
use super::{Expected, Receivers, missing};
use crate::central::activity::Activity;
use crate::central::config::Config;
use crate::central::link::LinkTimes;
use crate::central::open_superstep::OpenSuperstep;
use crate::combine::staleness_weight;
use crate::time::Time;

/// A superstep does not wait for a volunteer that was silent for more intervals than this, …
const LIVE_INTERVALS: u32 = 3;
/// … or for this time, if that is longer: intervals can be shorter than a network's hiccups.
const LIVE_AT_LEAST: Duration = Duration::from_millis(250);
/// A superstep with samples is open for at most this many intervals.
const DEADLINE_INTERVALS: u32 = 2;
/// The grace window is the interval divided by this.
const GRACE_DIVISOR: u32 = 4;
/// A superstep with fewer samples than it aims at, divided by this, stays open.
const SMALLEST_DIVISOR: u64 = 2;

/// The rules.
#[derive(Debug)]
pub(in crate::central) struct Decoupled {
    quorum: f64,
    superstep_samples: u64,
    max_period: Duration,
    has_local_steps: bool,
    staleness_exponent: f64,
    period: Period,
}

impl Decoupled {
    pub(super) fn new(config: &Config) -> Decoupled {
        Decoupled {
            quorum: config.quorum,
            superstep_samples: config.superstep_samples,
            max_period: config.max_period,
            has_local_steps: config.has_local_steps,
            staleness_exponent: config.weighting.staleness_exponent,
            period: Period::new(config),
        }
    }

    pub(super) fn weight_of(&self, staleness: f64) -> f64 {
        staleness_weight(staleness, self.staleness_exponent)
    }

    pub(super) fn expects(&self, now: Time, volunteer: &Activity) -> bool {
        volunteer.is_expected(now, self.live_for()) && volunteer.fits_deadline(self.longest())
    }

    /// Whether a contribution replaces the next one of its volunteer: only if the volunteer had the current model.
    pub(super) fn is_in_time(&self, has_current: bool) -> bool {
        has_current
    }

    /// Every version is for everyone, as soon as their links have rested.
    pub(super) fn receivers(&self) -> Receivers {
        Receivers::Everyone
    }

    /// A model and its volunteer's contributions leave a slow link to its visitor for the rest of the time.
    pub(super) fn rest_after_model(&self, link: &LinkTimes, config: &Config) -> Duration {
        link.shortest_period(config)
    }

    pub(super) fn has_quorum(&self, now: Time, open: &OpenSuperstep, expected: &[Expected<'_>]) -> bool {
        let is_waiting = open.has_arrivals() && missing(open, expected).next().is_some();
        let rates = expected.iter().map(|(_, v)| v.pace.samples_per_second(now));
        let expected_samples = rates.sum::<f64>() * self.period.interval().as_secs_f64();
        is_waiting && open.samples() as f64 >= self.quorum * expected_samples
    }

    pub(super) fn closes_at(&self, now: Time, open: &OpenSuperstep, expected: &[Expected<'_>]) -> Option<Time> {
        let is_complete = missing(open, expected).next().is_none();
        let closes = match (is_complete, open.quorum().since) {
            (true, _) => now,
            (false, Some(since)) if open.quorum().is_there => self.grace_ends_at(since, open, expected),
            (false, _) => self.deadline(open),
        };
        let stays_open_until = open.holds_samples_since()? + self.max_period;
        Some(match self.is_too_small(open) {
            true => closes.max(stays_open_until),
            false => closes,
        })
    }

    /// When the wait for the missing volunteers ends, if there has been a quorum since `quorum_since`.
    fn grace_ends_at(&self, quorum_since: Time, open: &OpenSuperstep, expected: &[Expected<'_>]) -> Time {
        let window_ends = quorum_since + self.grace_window();
        let last_worth_waiting_for = missing(open, expected)
            .filter_map(|volunteer| volunteer.pace.predicted_arrival())
            .filter(|at| *at <= window_ends)
            .max();
        // Predictions are seldom exact, and half a window beyond the predicted arrival costs little.
        let slack = self.grace_window() / 2;
        let closes = last_worth_waiting_for.map_or(quorum_since, |at| (at + slack).min(window_ends));
        closes.min(self.deadline(open))
    }

    fn deadline(&self, open: &OpenSuperstep) -> Time {
        open.opened() + self.longest()
    }

    fn longest(&self) -> Duration {
        self.period.interval().saturating_mul(DEADLINE_INTERVALS)
    }

    /// Whether it holds too few samples to close when all have contributed. A superstep that would have to refuse the
    /// next contribution is not too small.
    pub(super) fn is_too_small(&self, open: &OpenSuperstep) -> bool {
        !self.has_local_steps && open.samples() < self.superstep_samples / SMALLEST_DIVISOR && open.has_room_for_all()
    }

    pub(super) fn on_contribution(&mut self, now: Time, opened: Time) {
        self.period.on_contribution(now, opened);
    }

    pub(super) fn adapt<'a>(&mut self, now: Time, volunteers: impl Iterator<Item = &'a Activity>, config: &Config) {
        let live_for = self.live_for();
        let present = volunteers.filter(|volunteer| volunteer.is_present(now, live_for));
        let rates = present.map(|volunteer| VolunteerRate {
            samples_per_second: volunteer.pace.samples_per_second(now),
            measured_for: volunteer.pace.measured_for(),
            shortest_period: volunteer.link.shortest_period(config),
        });
        self.period.adapt(rates.collect());
    }

    pub(super) fn period(&self) -> Duration {
        self.period.current()
    }

    pub(super) fn live_for(&self) -> Duration {
        let live_for = self.period.interval().saturating_mul(LIVE_INTERVALS);
        live_for.max(LIVE_AT_LEAST)
    }

    pub(super) fn grace_window(&self) -> Duration {
        self.period.interval() / GRACE_DIVISOR
    }
}
