//! The times that a contribution and a model need on a volunteer's link, and the period that follows from them.
//!
//! ```text
//! shortest period = min((upload + download) / communication_share, max_period)
//! ```
//!
//! A contribution and a model travel once a period, so that the link is busy for `communication_share` of the time at
//! most. Models keep that distance, too. The round trip of an empty message is subtracted, since it keeps no link busy.
//! Of the last few times the shortest counts, since a busy machine makes some of them longer. On a fast link the
//! shortest period is far below the run's, and changes nothing.

use std::time::Duration;

use super::config::Config;
use crate::estimators::WindowedMin;
use crate::protocol::message::Report;
use crate::time::Time;

/// The times of one volunteer's link.
#[derive(Debug, Default)]
pub(super) struct LinkTimes {
    /// From sending a model to the report that it is stored, less the round trip.
    download: WindowedMin,
    /// From sending a contribution to its acknowledgement, less the round trip, as the volunteer reports it.
    upload: Duration,
    /// As the volunteer reports it.
    round_trip: Duration,
}

impl LinkTimes {
    /// A model that was sent at `sent_at` is stored.
    pub(super) fn on_stored(&mut self, now: Time, sent_at: Time) {
        self.download.push(now.since(sent_at).saturating_sub(self.round_trip));
    }

    /// A report has come.
    pub(super) fn on_report(&mut self, report: &Report) {
        self.upload = Duration::from_micros(report.upload_us);
        self.round_trip = Duration::from_micros(report.round_trip_us);
    }

    /// The time of a model, less the round trip.
    pub(super) fn download(&self) -> Duration {
        self.download.get()
    }

    /// The time of a contribution, less the round trip.
    pub(super) fn upload(&self) -> Duration {
        self.upload
    }

    /// The time that the shortest message and its answer take.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::central::test_config::test_config;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// The times of a link on which a contribution takes `upload_ms`, and models are stored after these milliseconds.
    fn after(upload_ms: u64, round_trip_ms: u64, stored_after_ms: &[u64]) -> LinkTimes {
        let mut link = LinkTimes::default();
        link.on_report(&Report {
            upload_us: 1000 * upload_ms,
            round_trip_us: 1000 * round_trip_ms,
            ..Report::default()
        });
        for stored in stored_after_ms {
            link.on_stored(Time::ZERO + ms(*stored), Time::ZERO);
        }
        link
    }

    fn shortest_period(link: &LinkTimes, communication_share: f64) -> Duration {
        link.shortest_period(&Config {
            communication_share,
            max_period: Duration::from_secs(10),
            ..test_config()
        })
    }

    #[test]
    fn a_period_leaves_the_link_free_for_its_share_of_the_time() {
        let link = after(300, 0, &[100]);
        for (share, period) in [(1.0, 400), (0.5, 800), (0.1, 4000)] {
            assert_eq!(shortest_period(&link, share), ms(period));
        }
    }

    #[test]
    fn time_that_no_bandwidth_shortens_does_not_count() {
        let link = after(0, 600, &[600, 590, 605]);
        assert!(shortest_period(&link, 0.1) < ms(50));
        assert_eq!((link.upload(), link.round_trip()), (ms(0), ms(600)));
    }

    #[test]
    fn nothing_is_known_before_the_first_model_and_then_the_shortest_of_the_last_counts() {
        assert_eq!(shortest_period(&LinkTimes::default(), 0.1), ms(0));
        assert_eq!(after(0, 0, &[80]).download(), ms(80));
        assert_eq!(after(0, 0, &[160, 80, 90]).download(), ms(80));
    }

    #[test]
    fn no_report_makes_a_period_longer_than_the_longest() {
        let link = after(u64::MAX / 1000, 0, &[u64::MAX / 2000]);
        assert_eq!(shortest_period(&link, 0.5), Duration::from_secs(10));
        assert_eq!(shortest_period(&link, f64::MIN_POSITIVE), Duration::from_secs(10));
    }
}
