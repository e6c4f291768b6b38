//! Random numbers that a seed repeats on every machine: without the platform's mathematics or generator.

use std::time::Duration;

/// SplitMix64 (Steele et al., 2014).
#[derive(Clone, Debug)]
pub struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Random {
        Random { seed, state: seed }
    }

    /// The stream with this number. Draws from other streams don't change it.
    pub fn stream(seed: u64, number: u64) -> Random {
        Random::new(mix(mix(seed) ^ mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15))))
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// From 0 to `end - 1`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True in `percent` of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A duration between `least` and `most` milliseconds.
    pub fn between_ms(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_micros(least * 1000 + self.below((most - least) * 1000 + 1))
    }

    /// Uniform from 0 to below 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Normal, with mean 0 and variance 1 (Box and Muller, 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        // Above 0, so that the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.uniform()));
        radius * libm::cos(2.0 * core::f64::consts::PI * self.uniform())
    }

    /// Log-normal, with median 1.
    pub(crate) fn log_normal(&mut self, sigma: f64) -> f64 {
        libm::exp(sigma * self.normal())
    }

    /// Exponential, with this mean.
    pub(crate) fn exponential(&mut self, mean: Duration) -> Duration {
        let seconds = -libm::log(1.0 - self.uniform()) * mean.as_secs_f64();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// A number's hash.
pub fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A hash of a list of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl Fingerprint {
    /// Adds a number.
    pub fn add(&mut self, value: u64) {
        self.0 = mix(self.0.rotate_left(23) ^ mix(value.wrapping_add(0x9e37_79b9_7f4a_7c15)));
    }

    /// One number more, by its bits.
    pub fn add_f64(&mut self, value: f64) {
        self.add(value.to_bits());
    }

    /// Adds all parameters of a model by their bits.
    pub fn add_model(&mut self, model: &[f32]) {
        for parameter in model {
            self.add(u64::from(parameter.to_bits()));
        }
    }

    /// The hash.
    pub fn value(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distributions_have_their_means_and_medians() {
        const DRAWS: usize = 100_000;
        let mut random = Random::new(1);
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let normal: Vec<f64> = (0..DRAWS).map(|_| random.normal()).collect();
        assert!(mean(&normal).abs() < 0.02);
        let squares: Vec<f64> = normal.iter().map(|value| value * value).collect();
        assert!((mean(&squares) - 1.0).abs() < 0.02);
        let exponential: Vec<f64> = (0..DRAWS)
            .map(|_| random.exponential(Duration::from_secs(600)).as_secs_f64())
            .collect();
        assert!((mean(&exponential) / 600.0 - 1.0).abs() < 0.02);
        let below_median = (0..DRAWS).filter(|_| random.log_normal(1.0) < 1.0).count();
        assert!((below_median as f64 / DRAWS as f64 - 0.5).abs() < 0.01);
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let first = |number| Random::stream(1, number).next();
        assert_ne!(first(0), first(1));
        assert_eq!(first(1), first(1));
        assert_ne!(first(0), Random::stream(2, 0).next());
    }
}
