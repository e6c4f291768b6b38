//! What a volunteer's link takes for a contribution and a model, and the period that follows from it.
//!
//! A contribution and a model travel once a period. So that a link is busy with them for a set share of the time and no more,
//! its volunteer's period is at least the time that both take, divided by that share; models keep that distance, too. The round
//! trip of an empty message is not counted: it keeps nobody's line busy. On a fast link the rest is far below the run's period, and
//! changes nothing.

use std::time::Duration;

use super::Config;
use crate::message::Report;
use crate::time::Time;

/// The times of one volunteer's link.
#[derive(Debug, Default)]
pub(super) struct LinkTimes {
    /// Mean time from sending a model until it is reported as stored, beyond the round trip, in seconds, if one was.
    download: Option<f64>,
    /// Mean time from sending a contribution until it is settled, beyond the round trip, as the volunteer reports it.
    upload: Duration,
    /// As the volunteer reports it.
    round_trip: Duration,
}

impl LinkTimes {
    /// A model that was sent at `sent_at` is stored.
    pub(super) fn on_stored(&mut self, now: Time, sent_at: Time) {
        /// The share of the newest model in the mean: a link changes within seconds, when somebody calls.
        const NEWEST: f64 = 0.25;
        let newest = now.since(sent_at).saturating_sub(self.round_trip).as_secs_f64();
        let download = self.download.get_or_insert(newest);
        *download += NEWEST * (newest - *download);
    }

    /// What the volunteer says of its link.
    pub(super) fn on_report(&mut self, report: &Report) {
        self.upload = Duration::from_micros(report.upload_us);
        self.round_trip = Duration::from_micros(report.round_trip_us);
    }

    /// What a model takes, beyond the round trip.
    pub(super) fn download(&self) -> Duration {
        Duration::try_from_secs_f64(self.download.unwrap_or_default()).unwrap_or_default()
    }

    /// What a contribution takes, beyond the round trip.
    pub(super) fn upload(&self) -> Duration {
        self.upload
    }

    /// What the shortest message and its answer take.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// The shortest period that leaves the link free for its share of the time.
    pub(super) fn shortest_period(&self, config: &Config) -> Duration {
        let busy = self.download().saturating_add(self.upload).as_secs_f64();
        Duration::try_from_secs_f64(busy / config.communication_share)
            .unwrap_or(config.max_period)
            .min(config.max_period)
    }
}
