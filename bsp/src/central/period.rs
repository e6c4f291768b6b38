//! The read-out period, and how it follows the volunteers' throughput, so that a superstep holds `superstep_samples`.
//!
//! Read-outs follow publishes by a period, and the next publish follows them by what a contribution's way up and a model's
//! way down take: the overhead. So a superstep is open for an interval, the period and the overhead; it is the interval
//! that is adapted.

use std::time::Duration;

use super::Config;
use crate::time::Time;

/// A change smaller than this is not worth a message.
pub(super) const WORTH_TELLING: f64 = 0.1;
/// Rates must have been measured for so many periods: the first minibatches, while a page is still loading and its code is not
/// optimized, are much slower than what follows, and would make first supersteps of thousands of samples.
const MEASURED_PERIODS: u32 = 8;

/// The period.
#[derive(Debug)]
pub(super) struct Period {
    current: Duration,
    /// Mean over the last contributions, in seconds.
    overhead: f64,
}

impl Period {
    pub(super) fn new(config: &Config) -> Period {
        Period {
            current: config.min_period,
            overhead: 0.0,
        }
    }

    /// The period.
    pub(super) fn current(&self) -> Duration {
        self.current
    }

    /// For how long a superstep is open, as a rule.
    pub(super) fn interval(&self) -> Duration {
        self.current + Duration::try_from_secs_f64(self.overhead).unwrap_or_default()
    }

    /// A volunteer's first contribution to the current version has arrived; that version was made at `opened`.
    pub(super) fn on_contribution(&mut self, now: Time, opened: Time) {
        /// The share of the newest contribution in the mean.
        const NEWEST: f64 = 0.03;
        // A hiccup counts as one period at most.
        let overhead = now.since(opened).saturating_sub(self.current).min(self.current);
        self.overhead += NEWEST * (overhead.as_secs_f64() - self.overhead);
    }

    /// Adapts to volunteers who compute `samples_per_second` together, measured for so long.
    pub(super) fn adapt(&mut self, config: &Config, samples_per_second: f64, measured_for: Duration) {
        if samples_per_second <= 0.0 {
            return;
        }
        let longest = (measured_for / MEASURED_PERIODS).clamp(config.min_period, config.max_period);
        let wanted = config.superstep_samples as f64 / samples_per_second - self.overhead;
        let wanted = wanted.clamp(config.min_period.as_secs_f64(), longest.as_secs_f64());
        let change = wanted / self.current.as_secs_f64() - 1.0;
        if change.abs() >= WORTH_TELLING {
            self.current = Duration::try_from_secs_f64(wanted).unwrap_or(config.max_period);
        }
    }
}
