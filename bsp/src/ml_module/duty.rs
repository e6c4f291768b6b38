//! Keeps an ML module to the share of its time that its volunteer lets it compute.
//!
//! It is plain arithmetic over durations, so that tests and simulations need not sleep.

use std::time::Duration;

/// Shorter rests are saved up: a sleep ends about a tenth of a millisecond late, and a small model's minibatch takes no
/// longer.
const SHORTEST_REST: Duration = Duration::from_millis(2);
/// A machine that was suspended in the middle of a minibatch must not rest for days because of it.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// At most this part of the excess of a sleep is made up for by computing.
const MOST_CREDIT: Duration = Duration::from_millis(20);

/// The rest that an ML module owes its volunteer.
#[derive(Debug, Default)]
pub struct Duty {
    /// Negative after more rest than it owed.
    owed_ns: i64,
}

impl Duty {
    /// It has computed for `computing`, and may compute for `percent` of its time, from 1 to 100. Returns the rest that
    /// is due now, if any.
    pub fn on_computed(&mut self, computing: Duration, percent: u8) -> Option<Duration> {
        if percent >= 100 {
            self.owed_ns = 0;
            return None;
        }
        let owed = owed(computing, percent);
        self.owed_ns = self.owed_ns.saturating_add(nanos(owed)).min(nanos(LONGEST_REST));
        (self.owed_ns >= nanos(SHORTEST_REST)).then(|| Duration::from_nanos(self.owed_ns.unsigned_abs()))
    }

    /// The share of its time that an ML module computes if a minibatch takes `minibatch`, which is not zero. It is
    /// `percent`, or more where a rest would exceed the longest one.
    pub fn share(minibatch: Duration, percent: u8) -> f64 {
        let rest = owed(minibatch, percent).min(LONGEST_REST);
        minibatch.as_secs_f64() / (minibatch + rest).as_secs_f64()
    }

    /// It has rested for `rested`.
    pub fn on_rested(&mut self, rested: Duration) {
        self.owed_ns = self.owed_ns.saturating_sub(nanos(rested)).max(-nanos(MOST_CREDIT));
    }

    /// The volunteer has changed the share: the debt of the old share is void.
    pub fn forget(&mut self) {
        self.owed_ns = 0;
    }
}

/// The rest that is owed for computing for `computing`.
fn owed(computing: Duration, percent: u8) -> Duration {
    let percent = u32::from(percent.clamp(1, 100));
    computing.saturating_mul(100 - percent) / percent
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    /// The share of its time that an ML module computes in which a minibatch takes `step` and a sleep ends `late` too
    /// late.
    fn share(percent: u8, step: Duration, late: Duration) -> f64 {
        let (mut duty, mut computed, mut rested) = (Duty::default(), Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            computed += step;
            if let Some(rest) = duty.on_computed(step, percent) {
                rested += rest + late;
                duty.on_rested(rest + late);
            }
        }
        computed.as_secs_f64() / (computed + rested).as_secs_f64()
    }

    #[test]
    fn the_share_is_what_the_volunteer_allows_however_short_minibatches_are_and_however_late_sleeps_end() {
        for percent in [1, 6, 10, 25, 50, 60, 75, 99] {
            for step in [97 * US, 340 * US, 6_000 * US, 2_000_000 * US] {
                for late in [Duration::ZERO, 80 * US, 4_000 * US] {
                    let is = 100.0 * share(percent, step, late) / f64::from(percent);
                    assert!(
                        (0.99..1.01).contains(&is),
                        "{is} of {percent} %, {step:?}, {late:?} late"
                    );
                }
            }
        }
    }

    #[test]
    fn an_ml_module_that_may_compute_all_the_time_never_rests() {
        let mut duty = Duty::default();
        assert_eq!(duty.on_computed(Duration::from_secs(3), 100), None);
        assert_eq!(duty.on_computed(US, 50), None, "nothing was saved up");
    }

    #[test]
    fn a_share_is_what_is_allowed_but_for_the_longest_rest() {
        assert_eq!(Duty::share(US, 100), 1.0);
        assert_eq!(Duty::share(6_000 * US, 25), 0.25);
        let slow = Duration::from_secs(16);
        assert_eq!(Duty::share(slow, 1), 16.0 / (16.0 + LONGEST_REST.as_secs_f64()));
    }

    #[test]
    fn a_suspended_machine_neither_rests_for_days_nor_computes_without_rest_afterwards() {
        let (night, mut duty) = (Duration::from_secs(8 * 3600), Duty::default());
        assert_eq!(duty.on_computed(night, 1), Some(LONGEST_REST));
        duty.on_rested(night);
        let rest = duty.on_computed(MOST_CREDIT + SHORTEST_REST, 50);
        assert_eq!(rest, Some(SHORTEST_REST));
    }
}
