//! The waits before something that has failed is tried again.

use std::time::Duration;

/// Waits that double with each failure in a row, between bounds, each shortened at random by up to a half.
///
/// So volunteers find a server soon after it comes back, and those that lost it together do not return together.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: u64,
}

impl Backoff {
    /// Nothing has failed yet. The jitter begins at `seed`, which should differ from volunteer to volunteer.
    pub const fn new(first: Duration, longest: Duration, seed: u64) -> Backoff {
        Backoff {
            first,
            longest,
            failures: 0,
            random: seed,
        }
    }

    /// The same after this many failures in a row.
    pub const fn after(self, failures: u32) -> Backoff {
        Backoff { failures, ..self }
    }

    /// The number of failures in a row.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// It has failed once more. Returns the wait before the next try.
    pub fn on_failure(&mut self) -> Duration {
        let wait = self.first.saturating_mul(1 << self.failures.min(16)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        wait.mul_f64(self.draw_jitter())
    }

    /// It has succeeded: the next failure is the first again.
    pub fn on_success(&mut self) {
        self.failures = 0;
    }

    /// Draws the next factor between a half and one.
    fn draw_jitter(&mut self) -> f64 {
        // SplitMix64 (Steele et al., 2014).
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        0.5 + (mixed >> 11) as f64 / (1u64 << 54) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);

    fn waits(count: usize, mut backoff: Backoff) -> Vec<Duration> {
        (0..count).map(|_| backoff.on_failure()).collect()
    }

    #[test]
    fn waits_double_up_to_a_bound_and_never_repeat_exactly() {
        let waits = waits(40, Backoff::new(FIRST, LONGEST, 7));
        for (failures, wait) in waits.iter().enumerate() {
            let longest = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
            assert!(
                *wait >= longest / 2 && *wait <= longest,
                "{wait:?} after {failures} failures"
            );
        }
        assert_ne!(waits[38], waits[39]);
    }

    #[test]
    fn a_success_begins_anew_with_the_first_wait() {
        let mut backoff = Backoff::new(FIRST, LONGEST, 7).after(12);
        assert!(backoff.on_failure() >= LONGEST / 2);
        backoff.on_success();
        assert!(backoff.on_failure() <= FIRST);
    }

    #[test]
    fn volunteers_that_failed_together_do_not_return_together() {
        let backoff = |seed| Backoff::new(FIRST, LONGEST, seed);
        assert_ne!(waits(1, backoff(1)), waits(1, backoff(2)));
        assert_eq!(waits(5, backoff(1)), waits(5, backoff(1)));
    }
}
