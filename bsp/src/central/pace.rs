//! A volunteer's speed, measured by the arrival of its messages.

use std::time::Duration;

use crate::estimators::MovingAverage;
use crate::time::Time;

/// The memory of a measured rate: longer than a network's hiccup, shorter than the seconds in which a browser optimizes
/// a page's code.
const RATE_MEMORY: Duration = Duration::from_secs(2);

/// Two first contributions that arrive together must not give an infinite rate.
const LEAST_SECONDS: f64 = 1e-3;

/// The pace of one volunteer.
#[derive(Debug)]
pub(super) struct Pace {
    first_arrival: Option<Time>,
    last_arrival: Option<Time>,
    /// Sums over the contributions of the last few seconds, older ones with less weight: the seconds between them,
    /// their number, and their samples. Sums instead of a mean of rates: when a network's hiccup holds contributions
    /// back and then delivers them at once, no sum changes.
    recent_seconds: f64,
    recent_contributions: f64,
    recent_samples: f64,
    /// When it reported its last model as stored; `None` after the contribution that follows.
    stored_at: Option<Time>,
    /// Mean time from such a report to the contribution that follows, in seconds.
    response: MovingAverage,
}

impl Default for Pace {
    fn default() -> Pace {
        /// The mean must follow a new period soon.
        const NEWEST: f64 = 0.25;
        Pace {
            first_arrival: None,
            last_arrival: None,
            recent_seconds: 0.0,
            recent_contributions: 0.0,
            recent_samples: 0.0,
            stored_at: None,
            response: MovingAverage::new(NEWEST),
        }
    }
}

impl Pace {
    pub(super) fn on_connected(&mut self) {
        self.stored_at = None;
    }

    pub(super) fn on_stored(&mut self, now: Time) {
        self.stored_at = Some(now);
    }

    /// A contribution has come. Returns whether it is the first since the volunteer stored its last model.
    pub(super) fn on_contribution(&mut self, now: Time, samples: u64) -> bool {
        if let Some(last) = self.last_arrival {
            let (elapsed, memory) = (now.since(last).as_secs_f64(), RATE_MEMORY.as_secs_f64());
            let kept = memory / (memory + elapsed);
            // A pause of minutes would outweigh the seconds that follow it. So it counts as no longer than the memory.
            let share = (memory / elapsed).min(1.0);
            self.recent_seconds = kept * self.recent_seconds + share * elapsed;
            self.recent_contributions = kept * self.recent_contributions + share;
            self.recent_samples = kept * self.recent_samples + share * samples as f64;
        }
        self.first_arrival.get_or_insert(now);
        self.last_arrival = Some(now);
        let Some(stored_at) = self.stored_at.take() else {
            return false;
        };
        self.response.push(now.since(stored_at).as_secs_f64());
        true
    }

    /// Samples per second over the last few seconds. The rate falls when a contribution is long overdue: a volunteer
    /// may be connected and compute nothing.
    pub(super) fn samples_per_second(&self, now: Time) -> f64 {
        /// This many cycles without a contribution are usual.
        const USUAL: f64 = 3.0;
        let (Some(last), Some(cycle)) = (self.last_arrival, self.cycle()) else {
            return 0.0;
        };
        let rate = self.recent_samples / self.recent_seconds.max(LEAST_SECONDS);
        rate * (USUAL * cycle / now.since(last).as_secs_f64()).min(1.0)
    }

    /// The time over which its rate was measured.
    pub(super) fn measured_for(&self) -> Duration {
        match (self.first_arrival, self.last_arrival) {
            (Some(first), Some(last)) => last.since(first),
            _ => Duration::ZERO,
        }
    }

    /// The expected arrival of its next contribution: the mean response time after the model that it has stored, or
    /// else the mean time between contributions after the last one.
    pub(super) fn predicted_arrival(&self) -> Option<Time> {
        let (since, seconds) = match (self.stored_at, self.response.get()) {
            (Some(stored_at), Some(response)) => (stored_at, response),
            _ => (self.last_arrival?, self.cycle()?),
        };
        Some(since + Duration::try_from_secs_f64(seconds).ok()?)
    }

    /// Mean time between its contributions, in seconds, if there was more than one.
    fn cycle(&self) -> Option<f64> {
        let is_known = self.recent_contributions > 0.0;
        is_known.then(|| self.recent_seconds.max(LEAST_SECONDS) / self.recent_contributions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    /// The pace of a volunteer whose contributions, of 100 samples each, arrived at these milliseconds.
    fn after(arrivals: &[u64]) -> Pace {
        let mut pace = Pace::default();
        for at in arrivals {
            pace.on_contribution(ms(*at), 100);
        }
        pace
    }

    #[test]
    fn two_first_contributions_that_arrive_together_do_not_pass_for_a_rate() {
        let rate = after(&[1000, 1001, 2000, 3000]).samples_per_second(ms(3000));
        assert!((100.0..180.0).contains(&rate), "{rate} samples a second");
    }

    #[test]
    fn contributions_that_were_held_back_and_delivered_at_once_change_no_rate() {
        let steady: Vec<u64> = (1..=50).map(|tenth| 100 * tenth).collect();
        let held_back: Vec<u64> = steady
            .iter()
            .map(|at| if (4000..4700).contains(at) { 4700 } else { *at })
            .collect();
        let rate = |arrivals: &[u64]| after(arrivals).samples_per_second(ms(5000));
        let change = rate(&held_back) / rate(&steady) - 1.0;
        assert!(change.abs() < 0.05, "{change}");
    }

    #[test]
    fn soon_after_a_long_pause_the_rate_is_right_again() {
        let tenths_from = |second: u64| (1..=30).map(move |tenth| 1000 * second + 100 * tenth);
        let arrivals: Vec<u64> = tenths_from(0).chain(tenths_from(600)).collect();
        let rate = after(&arrivals).samples_per_second(ms(603_000));
        assert!((700.0..1000.0).contains(&rate), "{rate} of 1,000 samples a second");
    }

    #[test]
    fn a_volunteer_that_contributes_seldom_has_a_rate_too() {
        let rate = after(&[0, 10_000, 20_000, 30_000]).samples_per_second(ms(30_000));
        assert!((9.9..10.1).contains(&rate), "{rate} samples a second");
    }

    #[test]
    fn a_contribution_that_is_long_overdue_makes_the_rate_fall() {
        let pace = after(&[1000, 2000, 3000]);
        assert_eq!(pace.samples_per_second(ms(5000)), pace.samples_per_second(ms(3000)));
        assert!(pace.samples_per_second(ms(60_000)) < 0.1 * pace.samples_per_second(ms(3000)));
    }

    #[test]
    fn the_next_contribution_is_predicted_by_how_long_it_took_after_a_model() {
        let mut pace = after(&[]);
        assert_eq!(pace.predicted_arrival(), None);
        for second in [1000, 2000, 3000] {
            pace.on_stored(ms(second));
            assert!(pace.on_contribution(ms(second + 200), 100));
            assert!(
                !pace.on_contribution(ms(second + 500), 100),
                "the second one after this model"
            );
        }
        pace.on_stored(ms(7000));
        assert_eq!(pace.predicted_arrival(), Some(ms(7200)), "long after a gap, too");
        pace.on_connected();
        assert!(pace.predicted_arrival().is_some_and(|at| at < ms(5000)), "by its cycle");
    }
}
