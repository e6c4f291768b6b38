//! What the central module knows of one volunteer.

use std::time::Duration;

use crate::central::ConnectionId;
use crate::message::{ReadOut, Report, SessionId, Token};
use crate::shared_memory::{ModelStamp, PhaseTimes};
use crate::time::Time;

/// How long a measured rate is remembered: longer than a hiccup, shorter than a change of the machine's load.
const RATE_MEMORY: Duration = Duration::from_secs(5);

/// In seconds: two frames that were delivered together are one arrival as far as rates go.
const LEAST_INTERVAL: f64 = 1e-3;

/// One session; see [`SessionId`].
#[derive(Debug)]
pub(super) struct Session {
    pub(super) token: Token,
    pub(super) connection: Option<ConnectionId>,
    /// When bytes of a message of its own last came; without a connection, when that ended.
    pub(super) last_seen: Time,
    /// Contributions up to this number are settled.
    pub(super) settled: u64,
    /// The model that was sent and has not been reported as stored.
    pub(super) model_on_its_way: Option<ModelStamp>,
    /// The last model that it reported as stored, on this connection.
    pub(super) stored: Option<ModelStamp>,
    pub(super) report: Report,
    pub(super) refused: u64,
    samples: u64,
    accepted: u64,
    staleness: f64,
    last_arrival: Option<Time>,
    /// Mean time between its contributions, in seconds; weighted by time, like the rate.
    interval: Option<f64>,
    samples_per_second: f64,
}

/// What is told of a volunteer.
#[derive(Clone, Debug, PartialEq)]
pub struct VolunteerStatus {
    /// Its session.
    pub session: SessionId,
    /// ML modules that compute.
    pub ml_modules: u16,
    /// Whether it has paused.
    pub is_paused: bool,
    /// Samples in its accepted contributions.
    pub samples: u64,
    /// Samples per second, over the last few seconds; 0 when it is not live.
    pub samples_per_second: f64,
    /// Mean staleness of its contributions, in versions, weighted towards the last ones.
    pub staleness: f64,
    /// Time of its ML modules, summed over them, in microseconds.
    pub time_us: PhaseTimes,
    /// Contributions that were accepted.
    pub accepted: u64,
    /// Contributions that were refused.
    pub refused: u64,
    /// Gradients that it refused itself, because they were not finite.
    pub not_finite: u64,
    /// Gradients that it lost because an ML module died while it added.
    pub discarded: u64,
    /// Time since its last message.
    pub last_seen: Duration,
}

impl Session {
    pub(super) fn new(now: Time, token: Token) -> Session {
        Session {
            token,
            connection: None,
            last_seen: now,
            settled: 0,
            model_on_its_way: None,
            stored: None,
            report: Report::default(),
            refused: 0,
            samples: 0,
            accepted: 0,
            staleness: 0.0,
            last_arrival: None,
            interval: None,
            samples_per_second: 0.0,
        }
    }

    pub(super) fn on_accepted(&mut self, now: Time, read_out: &ReadOut, staleness: f64) {
        /// The share of the newest contribution in the mean staleness.
        const NEWEST: f64 = 0.1;
        self.samples = self.samples.saturating_add(read_out.samples);
        self.accepted += 1;
        let newest = if self.accepted == 1 { 1.0 } else { NEWEST };
        self.staleness += newest * (staleness - self.staleness);
        if let Some(last) = self.last_arrival {
            let elapsed = now.since(last).as_secs_f64().max(LEAST_INTERVAL);
            let share = match self.interval {
                Some(_) => elapsed / (elapsed + RATE_MEMORY.as_secs_f64()),
                None => 1.0,
            };
            let interval = self.interval.get_or_insert(elapsed);
            *interval += share * (elapsed - *interval);
            self.samples_per_second += share * (read_out.samples as f64 / elapsed - self.samples_per_second);
        }
        self.last_arrival = Some(now);
    }

    /// Whether a contribution can be hoped for: it is connected, computes, and was heard of within `live_for`.
    pub(super) fn is_expected(&self, now: Time, live_for: Duration) -> bool {
        self.connection.is_some()
            && !self.report.is_paused
            && self.report.ml_modules > 0
            && now.since(self.last_seen) <= live_for
    }

    /// Samples per second over the last few seconds; less and less when a contribution is long overdue: a volunteer may be
    /// here and compute nothing.
    pub(super) fn samples_per_second(&self, now: Time) -> f64 {
        /// So many intervals without a contribution happen.
        const USUAL: f64 = 3.0;
        let (Some(last), Some(interval)) = (self.last_arrival, self.interval) else {
            return self.samples_per_second;
        };
        let usual = USUAL * interval.max(LEAST_INTERVAL);
        self.samples_per_second * (usual / now.since(last).as_secs_f64()).min(1.0)
    }

    /// When its next contribution should come, by the mean time between the last ones.
    pub(super) fn predicted_arrival(&self) -> Option<Time> {
        Some(self.last_arrival? + Duration::try_from_secs_f64(self.interval?).ok()?)
    }

    /// Its status, if it is connected.
    pub(super) fn status(&self, session: SessionId, now: Time, live_for: Duration) -> Option<VolunteerStatus> {
        self.connection?;
        let is_expected = self.is_expected(now, live_for);
        Some(VolunteerStatus {
            session,
            ml_modules: self.report.ml_modules,
            is_paused: self.report.is_paused,
            samples: self.samples,
            samples_per_second: if is_expected { self.samples_per_second(now) } else { 0.0 },
            staleness: self.staleness,
            time_us: self.report.time_us,
            accepted: self.accepted,
            refused: self.refused,
            not_finite: self.report.not_finite,
            discarded: self.report.discarded,
            last_seen: now.since(self.last_seen),
        })
    }
}
