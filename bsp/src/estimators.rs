//! Filters over measurements: a running quantile, a windowed minimum, a moving average.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A quantile of the last values, each under a key: for instance of gradients' norms, by session.
///
/// It can leave out the values of one key, so that no session raises its own bound.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunningQuantile<K> {
    quantile: f64,
    values: Vec<(K, f64)>,
    /// The place of the oldest value, once all places are taken.
    oldest: usize,
}

impl<K: PartialEq> RunningQuantile<K> {
    /// The number of values kept: enough to be steady, few enough to follow the training.
    pub(crate) const WINDOW: usize = 64;
    /// Fewer values than this give no quantile.
    pub(crate) const FEWEST: usize = 8;

    /// No values yet. `quantile` is from 0 to below 1; 0.5 is the median.
    pub(crate) fn new(quantile: f64) -> RunningQuantile<K> {
        RunningQuantile {
            quantile,
            values: Vec::new(),
            oldest: 0,
        }
    }

    /// The values as they are kept, and the place of the oldest.
    pub(crate) fn parts(&self) -> (&[(K, f64)], usize) {
        (&self.values, self.oldest)
    }

    /// Goes on from what [`RunningQuantile::parts`] gave; none where it can't have given that.
    pub(crate) fn from_parts(quantile: f64, values: Vec<(K, f64)>, oldest: usize) -> Option<RunningQuantile<K>> {
        let is_possible = values.len() <= Self::WINDOW && oldest < values.len().max(1);
        is_possible.then_some(RunningQuantile {
            quantile,
            values,
            oldest,
        })
    }

    /// One more value.
    pub(crate) fn push(&mut self, key: K, value: f64) {
        if self.values.len() < Self::WINDOW {
            self.values.push((key, value));
        } else {
            self.values[self.oldest] = (key, value);
            self.oldest = (self.oldest + 1) % Self::WINDOW;
        }
    }

    /// The quantile of all values; none of fewer than [`RunningQuantile::FEWEST`].
    pub(crate) fn of_all(&self) -> Option<f64> {
        self.quantile_where(|_| true)
    }

    /// The quantile of the values under other keys; none of fewer than [`RunningQuantile::FEWEST`].
    pub(crate) fn of_others(&self, key: &K) -> Option<f64> {
        self.quantile_where(|other| other != key)
    }

    fn quantile_where(&self, counts: impl Fn(&K) -> bool) -> Option<f64> {
        let values = self.values.iter().filter(|(key, _)| counts(key));
        let mut sorted: Vec<f64> = values.map(|(_, value)| *value).collect();
        sorted.sort_by(f64::total_cmp);
        (sorted.len() >= Self::FEWEST).then(|| sorted[(sorted.len() as f64 * self.quantile) as usize])
    }
}

/// The smallest of the last few durations. A busy machine makes some of them longer. The minimum leaves that out, as
/// long as one of them was undisturbed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WindowedMin {
    last: [Duration; Self::WINDOW],
    count: usize,
}

impl WindowedMin {
    /// Enough durations to include an undisturbed one, few enough to follow a link that changes.
    pub(crate) const WINDOW: usize = 8;

    /// One more duration.
    pub(crate) fn push(&mut self, newest: Duration) {
        self.last[self.count % Self::WINDOW] = newest;
        self.count += 1;
    }

    /// The minimum; zero before the first.
    pub(crate) fn get(&self) -> Duration {
        let known = &self.last[..self.count.min(Self::WINDOW)];
        known.iter().min().copied().unwrap_or_default()
    }
}

/// An exponential moving average: mean ← mean + share · (value − mean).
#[derive(Clone, Copy, Debug)]
pub(crate) struct MovingAverage {
    share: f64,
    mean: Option<f64>,
}

impl MovingAverage {
    /// No values yet: the first value will be the mean. `share` is the newest value's share in the mean, from 0 to 1.
    pub(crate) const fn new(share: f64) -> MovingAverage {
        MovingAverage { share, mean: None }
    }

    /// An average that begins with the mean `mean`.
    pub(crate) const fn starting_at(mean: f64, share: f64) -> MovingAverage {
        MovingAverage {
            share,
            mean: Some(mean),
        }
    }

    /// One more value.
    pub(crate) fn push(&mut self, value: f64) {
        let mean = self.mean.get_or_insert(value);
        *mean += self.share * (value - *mean);
    }

    /// The mean; none before the first value.
    pub(crate) fn get(&self) -> Option<f64> {
        self.mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_quantile_is_none_before_enough_values_and_follows_the_last_ones() {
        let mut median = RunningQuantile::new(0.5);
        for value in 1..RunningQuantile::<u8>::FEWEST {
            median.push(0u8, value as f64);
            assert_eq!(median.of_all(), None);
        }
        median.push(0, 8.0);
        assert_eq!(median.of_all(), Some(5.0));
        for _ in 0..RunningQuantile::<u8>::WINDOW {
            median.push(0, 100.0);
        }
        assert_eq!(median.of_all(), Some(100.0), "the first values are forgotten");
    }

    #[test]
    fn a_running_quantile_of_others_leaves_out_what_one_has_said_itself() {
        let mut quartile = RunningQuantile::new(0.75);
        for value in 1..=8 {
            quartile.push(1u8, f64::from(value));
            quartile.push(2, 1e9);
        }
        assert_eq!(quartile.of_others(&2), Some(7.0));
        assert_eq!(quartile.of_others(&1), Some(1e9));
        assert_eq!(quartile.of_all(), Some(1e9));
    }

    #[test]
    fn the_delays_of_a_busy_machine_are_left_out_and_a_slower_link_is_found() {
        let ms = Duration::from_millis;
        let mut shortest = WindowedMin::default();
        assert_eq!(shortest.get(), Duration::ZERO);
        for took in [40, 3, 25, 60] {
            shortest.push(ms(took));
        }
        assert_eq!(shortest.get(), ms(3));
        for _ in 0..WindowedMin::WINDOW {
            shortest.push(ms(100));
        }
        assert_eq!(shortest.get(), ms(100));
    }

    #[test]
    fn a_moving_average_begins_with_its_first_value_or_where_it_is_told_to() {
        let mut mean = MovingAverage::new(0.25);
        assert_eq!(mean.get(), None);
        mean.push(8.0);
        assert_eq!(mean.get(), Some(8.0));
        mean.push(4.0);
        assert_eq!(mean.get(), Some(7.0));
        let mut from_zero = MovingAverage::starting_at(0.0, 0.5);
        from_zero.push(8.0);
        assert_eq!(from_zero.get(), Some(4.0));
    }
}
