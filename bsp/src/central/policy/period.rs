//! The read-out period, and how it follows the volunteers' throughput, so that a superstep holds `superstep_samples`.
//!
//! ```text
//! interval = period + overhead          the usual length of a superstep
//! overhead = mean of min(max(0, arrival − publish − period), period) over first contributions to a version: the way of
//!            a contribution up and of a model down, since read-outs follow publishes
//! aim      = superstep_samples / Σ r_v − overhead      r_v: samples per second of volunteer v
//! links    ← clamp(links, L(0.4), L(0.6))              L(s): the shortest period that the links of those volunteers
//!                                                      allow that compute the share s of the samples, fast ones first
//! longest  = clamp(max_v measured_for_v / 8, min_period, max_period)
//! period   ← clamp(max(aim, links), min_period, longest), if that is a change of 3 % or more
//! ```
//!
//! **Links.** The period is not below the need of the median link, weighted by samples: a volunteer with a longer
//! period of its own contributes out of step, and most contributions should be in step. Between L(0.4) and L(0.6) the
//! bound stays where it was, so that it does not jump to and fro where half of the links are slow.
//!
//! **Longest.** Rates must have been measured for eight periods. The first minibatches, while a page still loads and
//! its code is not optimized, are much slower than later ones, and would make the first supersteps thousands of samples
//! large.

use std::time::Duration;

use crate::central::activity::WORTH_TELLING;
use crate::central::config::Config;
use crate::estimators::MovingAverage;
use crate::time::Time;

/// Rates must have been measured for this many periods.
const MEASURED_PERIODS: u32 = 8;
/// Shares of the samples: a bit less than half, and a bit more.
const MEDIAN_BAND: [f64; 2] = [0.4, 0.6];
/// The share of the newest contribution in the mean overhead.
const NEWEST: f64 = 0.03;

/// The measurements of one volunteer that the period follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct VolunteerRate {
    pub(super) samples_per_second: f64,
    /// The time over which the rate was measured.
    pub(super) measured_for: Duration,
    /// The shortest period that its link allows.
    pub(super) shortest_period: Duration,
}

/// L(s): the shortest period that suits links of `samples_per_second` together; `volunteers` are sorted by shortest
/// period.
fn weighted_quantile(volunteers: &[VolunteerRate], samples_per_second: f64) -> Duration {
    let mut sum = 0.0;
    let last = volunteers.iter().find(|volunteer| {
        sum += volunteer.samples_per_second;
        sum >= samples_per_second
    });
    // The last volunteer, if rounding keeps the sum below: a larger share never gives less than a smaller one.
    last.or(volunteers.last())
        .map_or(Duration::ZERO, |volunteer| volunteer.shortest_period)
}

/// The period.
#[derive(Debug)]
pub(super) struct Period {
    superstep_samples: u64,
    min_period: Duration,
    max_period: Duration,
    current: Duration,
    /// The bound by the links.
    links: Duration,
    /// In seconds.
    overhead: MovingAverage,
}

impl Period {
    pub(super) fn new(config: &Config) -> Period {
        Period {
            superstep_samples: config.superstep_samples,
            min_period: config.min_period,
            max_period: config.max_period,
            current: config.min_period,
            links: Duration::ZERO,
            overhead: MovingAverage::starting_at(0.0, NEWEST),
        }
    }

    /// The period.
    pub(super) fn current(&self) -> Duration {
        self.current
    }

    /// The usual length of a superstep.
    pub(super) fn interval(&self) -> Duration {
        self.current + Duration::try_from_secs_f64(self.overhead()).unwrap_or_default()
    }

    fn overhead(&self) -> f64 {
        self.overhead.get().unwrap_or_default()
    }

    /// A volunteer's first contribution to the current version has arrived; that version was made at `opened`.
    pub(super) fn on_contribution(&mut self, now: Time, opened: Time) {
        // A hiccup counts as one period at most.
        let overhead = now.since(opened).saturating_sub(self.current).min(self.current);
        self.overhead.push(overhead.as_secs_f64());
    }

    /// Follows the volunteers: their rates together, and their links.
    pub(super) fn adapt(&mut self, mut volunteers: Vec<VolunteerRate>) {
        let samples_per_second: f64 = volunteers.iter().map(|v| v.samples_per_second).sum();
        if samples_per_second <= 0.0 {
            return;
        }
        let measured_for = volunteers.iter().map(|v| v.measured_for).max().unwrap_or_default();
        let longest = (measured_for / MEASURED_PERIODS).clamp(self.min_period, self.max_period);
        let aim = self.superstep_samples as f64 / samples_per_second - self.overhead();
        volunteers.sort_by_key(|v| v.shortest_period);
        let [least, most] = MEDIAN_BAND.map(|share| weighted_quantile(&volunteers, share * samples_per_second));
        self.links = self.links.clamp(least, most);
        let wanted = aim.max(self.links.as_secs_f64());
        let wanted = wanted.clamp(self.min_period.as_secs_f64(), longest.as_secs_f64());
        let change = wanted / self.current.as_secs_f64() - 1.0;
        if change.abs() >= WORTH_TELLING {
            self.current = Duration::try_from_secs_f64(wanted).unwrap_or(self.max_period);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::central::test_config::test_config;

    const SECOND: Duration = Duration::from_secs(1);

    fn volunteer(samples_per_second: f64, shortest_period: Duration) -> VolunteerRate {
        VolunteerRate {
            samples_per_second,
            measured_for: 1000 * SECOND,
            shortest_period,
        }
    }

    /// The periods that follow, one after the other, where a superstep aims at 1,000 samples.
    fn adapted<const TIMES: usize>(to: [&[VolunteerRate]; TIMES]) -> [Duration; TIMES] {
        let config = Config {
            superstep_samples: 1000,
            min_period: SECOND / 100,
            max_period: 60 * SECOND,
            ..test_config()
        };
        let mut period = Period::new(&config);
        to.map(|volunteers| {
            period.adapt(volunteers.to_vec());
            period.current()
        })
    }

    #[test]
    fn a_superstep_lasts_until_it_holds_what_it_aims_at() {
        let (one, another) = (volunteer(150.0, Duration::ZERO), volunteer(100.0, Duration::ZERO));
        assert_eq!(adapted([&[one, another], &[another]]), [4 * SECOND, 10 * SECOND]);
        assert_eq!(adapted([&[]]), [SECOND / 100], "no rate is known");
        assert_eq!(adapted([&[volunteer(1.0, SECOND)]]), [60 * SECOND], "the longest");
    }

    #[test]
    fn the_period_is_not_below_what_the_links_of_most_need() {
        let fast = volunteer(1000.0, SECOND / 10);
        let slow = volunteer(1000.0, 8 * SECOND);
        let slower = volunteer(1000.0, 9 * SECOND);
        assert_eq!(adapted([&[fast, slow, fast]]), [Duration::from_secs_f64(1.0 / 3.0)]);
        assert_eq!(adapted([&[slow, fast, slow]]), [8 * SECOND]);
        assert_eq!(adapted([&[slower, slow, slower]]), [9 * SECOND]);
    }

    #[test]
    fn where_half_of_the_links_are_slow_the_period_stays_as_it_is() {
        let fast = [0.49, 0.51].map(|share| volunteer(1000.0 * share, SECOND / 10));
        let slow = [0.51, 0.49].map(|share| volunteer(1000.0 * share, 8 * SECOND));
        let crowds = [[fast[0], slow[0]], [fast[1], slow[1]]];
        assert_eq!(adapted([&crowds[0], &crowds[1], &crowds[0]]), [SECOND; 3]);
        let all_slow = [slow[0], slow[0]];
        assert_eq!(adapted([&all_slow, &crowds[1], &crowds[0]]), [8 * SECOND; 3]);
    }
}
