//! What the central module knows of one volunteer.

use std::time::Duration;

use super::pace::Pace;
use crate::central::ConnectionId;
use crate::message::{ReadOut, Report, SessionId, Token};
use crate::shared_memory::{ModelStamp, PhaseTimes};
use crate::time::Time;

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
    pub(super) pace: Pace,
    pub(super) report: Report,
    pub(super) refused: u64,
    samples: u64,
    accepted: u64,
    staleness: f64,
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
            pace: Pace::default(),
            report: Report::default(),
            refused: 0,
            samples: 0,
            accepted: 0,
            staleness: 0.0,
        }
    }

    /// A connection is new: whatever model was on its way may not have arrived, or be in another memory.
    pub(super) fn on_connected(&mut self) {
        (self.model_on_its_way, self.stored) = (None, None);
        self.pace.on_connected();
    }

    pub(super) fn on_stored(&mut self, now: Time, stamp: ModelStamp) {
        self.model_on_its_way = None;
        self.stored = Some(stamp);
        self.pace.on_stored(now);
    }

    /// Says whether it is the first contribution since the volunteer stored its last model.
    pub(super) fn on_accepted(&mut self, now: Time, read_out: &ReadOut, staleness: f64) -> bool {
        /// The share of the newest contribution in the mean staleness.
        const NEWEST: f64 = 0.1;
        self.samples = self.samples.saturating_add(read_out.samples);
        self.accepted += 1;
        let newest = if self.accepted == 1 { 1.0 } else { NEWEST };
        self.staleness += newest * (staleness - self.staleness);
        self.pace.on_contribution(now, read_out.samples)
    }

    /// Whether a contribution can be hoped for: it is connected, computes, and was heard of within `live_for`.
    pub(super) fn is_expected(&self, now: Time, live_for: Duration) -> bool {
        self.connection.is_some()
            && !self.report.is_paused
            && self.report.ml_modules > 0
            && now.since(self.last_seen) <= live_for
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
            samples_per_second: if is_expected {
                self.pace.samples_per_second(now)
            } else {
                0.0
            },
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
