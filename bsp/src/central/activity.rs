//! A volunteer as the policies see it: its last report, its speed, and the times of its link.

use std::time::Duration;

use super::config::Config;
use super::link::LinkTimes;
use super::pace::Pace;
use crate::local::HEARTBEAT;
use crate::protocol::message::Report;
use crate::time::Time;

/// A smaller relative change of the period is not worth a message. So while rates rise or fall, a superstep holds up to
/// this share more or fewer samples than it aims at.
pub(super) const WORTH_TELLING: f64 = 0.03;

/// How one volunteer works.
#[derive(Debug)]
pub(super) struct Activity {
    /// The time of its last message; without a connection, the time at which the connection ended.
    pub(super) last_heard: Time,
    /// Its last report.
    report: Report,
    /// Its speed, by the arrival of its contributions.
    pub(super) pace: Pace,
    /// The times of its link.
    pub(super) link: LinkTimes,
    /// The read-out period that it was told.
    period: Duration,
}

impl Activity {
    /// The activity of a volunteer that has just sent its first message.
    pub(super) fn new(now: Time) -> Activity {
        Activity {
            last_heard: now,
            report: Report::default(),
            pace: Pace::default(),
            link: LinkTimes::default(),
            period: Duration::ZERO,
        }
    }

    /// A report has come.
    pub(super) fn on_report(&mut self, report: Report) {
        self.report = report;
        self.link.on_report(&report);
    }

    /// Its last report.
    pub(super) fn report(&self) -> &Report {
        &self.report
    }

    /// Whether it says that it computes.
    pub(super) fn is_computing(&self) -> bool {
        !self.report.is_paused && self.report.ml_modules > 0
    }

    /// Whether a contribution of this connected volunteer is expected: it computes, and sent something within
    /// `live_for`.
    pub(super) fn is_expected(&self, now: Time, live_for: Duration) -> bool {
        self.is_computing() && now.since(self.last_heard) <= live_for
    }

    /// Whether the run's period follows this connected volunteer: it is expected, or its own longer period explains its
    /// silence. (Its rate falls when a contribution is overdue.)
    pub(super) fn is_present(&self, now: Time, live_for: Duration) -> bool {
        /// This many periods without a contribution are usual. A volunteer with nothing to contribute sends heartbeats.
        const USUAL: u32 = 3;
        let explained = self.period.max(HEARTBEAT).saturating_mul(USUAL);
        self.is_expected(now, live_for.max(explained))
    }

    /// Whether a superstep that is open for `longest` at most can wait for it. No superstep waits for a volunteer whose
    /// link makes its period longer than that.
    pub(super) fn fits_deadline(&self, longest: Duration) -> bool {
        self.period <= longest
    }

    /// The read-out period that it was told.
    pub(super) fn period(&self) -> Duration {
        self.period
    }

    /// Sets its read-out period by the run's, `run_period`. The welcome tells it this period.
    pub(super) fn set_period(&mut self, run_period: Duration, config: &Config) -> Duration {
        self.period = run_period.max(self.link.shortest_period(config));
        self.period
    }

    /// Adapts its read-out period to the run's. Returns the new one, if the change is worth a message.
    pub(super) fn adapt_period(&mut self, run_period: Duration, config: &Config) -> Option<Duration> {
        let told = self.period.as_secs_f64();
        let wanted = run_period.max(self.link.shortest_period(config));
        let is_worth_telling = (wanted.as_secs_f64() / told - 1.0).abs() >= WORTH_TELLING;
        is_worth_telling.then(|| self.set_period(run_period, config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::central::test_config::test_config;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A volunteer that was told the run's period, 100 ms, and whose contributions now take this long.
    fn with_upload(upload_ms: u64) -> Activity {
        let mut activity = Activity::new(Time::ZERO);
        assert_eq!(activity.set_period(ms(100), &test_config()), ms(100));
        activity.on_report(Report {
            upload_us: 1000 * upload_ms,
            ml_modules: 1,
            ..Report::default()
        });
        activity
    }

    #[test]
    fn a_period_is_told_when_it_has_changed_by_three_percent_and_once() {
        let config = test_config();
        let mut activity = with_upload(0);
        for (run_period, told) in [(102, None), (98, None), (104, Some(104)), (104, None), (99, Some(99))] {
            let change = activity.adapt_period(ms(run_period), &config);
            assert_eq!(change, told.map(ms), "{run_period}");
        }
    }

    #[test]
    fn a_slow_link_has_a_longer_period_and_a_fast_one_the_runs() {
        // Busy for half of the time at most.
        let config = test_config();
        assert_eq!(with_upload(50).adapt_period(ms(100), &config), None);
        let mut slow = with_upload(200);
        assert_eq!(slow.adapt_period(ms(100), &config), Some(ms(400)));
        assert_eq!(slow.adapt_period(ms(300), &config), None, "its own is longer still");
        assert_eq!(slow.adapt_period(ms(500), &config), Some(ms(500)));
        slow.on_report(Report::default());
        assert_eq!(slow.adapt_period(ms(100), &config), Some(ms(100)));
    }

    #[test]
    fn the_period_follows_a_slow_link_between_its_contributions_too() {
        let config = test_config();
        let mut slow = with_upload(2000);
        assert_eq!(slow.adapt_period(ms(100), &config), Some(ms(2000)));
        let after = |silence: u64| Time::ZERO + ms(silence);
        assert!(!slow.is_expected(after(1900), ms(300)) && slow.is_present(after(1900), ms(300)));
        assert!(!slow.is_present(after(6001), ms(300)), "it has gone");
    }

    #[test]
    fn only_a_volunteer_that_contributes_within_a_superstep_fits_its_deadline() {
        let mut activity = with_upload(200);
        assert!(activity.fits_deadline(ms(200)));
        activity.adapt_period(ms(100), &test_config());
        assert!(!activity.fits_deadline(ms(399)) && activity.fits_deadline(ms(400)));
    }
}
