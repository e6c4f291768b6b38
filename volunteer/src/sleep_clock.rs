//! A clock that goes on while the machine sleeps.
//!
//! The clocks that never run backwards, a browser's `performance.now()` and the standard library's `Instant`, stand
//! still on most systems while a laptop is closed. The clock of the day does not, but it is set now and then. So the
//! time is that of the first, and what the second has gained on it in a leap.

use std::time::Duration;

use bsp::time::Time;

/// A smaller gain is no sleep: clocks of the day are corrected by less. It is as long as a silence must be to be taken
/// for a freeze.
const SLEEP: Duration = Duration::from_secs(5);

/// Where the clock of the day leaps ahead without a sleep, a volunteer takes itself for one that was away: it says
/// hello once more, and nothing is lost.
#[derive(Debug, Default)]
pub struct SleepClock {
    slept: Duration,
    /// How far the clock of the day was ahead at the last look.
    ahead: Option<Duration>,
}

impl SleepClock {
    /// The time, where the steady clock shows `steady`, from a beginning of its own, and the clock of the day `day`,
    /// since 1970.
    pub fn now(&mut self, steady: Duration, day: Duration) -> Time {
        let ahead = day.saturating_sub(steady);
        let gained = ahead.saturating_sub(self.ahead.unwrap_or(ahead));
        if gained > SLEEP {
            self.slept += gained;
        }
        self.ahead = Some(ahead);
        Time::ZERO + steady + self.slept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_counts_and_a_clock_that_is_corrected_does_not() {
        let (mut clock, day) = (SleepClock::default(), Duration::from_secs(1_800_000_000));
        let mut now = |steady: u64, since: u64| {
            let (steady, since) = (Duration::from_secs(steady), Duration::from_secs(since));
            clock.now(steady, day + since).since(Time::ZERO)
        };
        let seconds = Duration::from_secs;
        assert_eq!(now(10, 0), seconds(10));
        assert_eq!(now(20, 10), seconds(20));
        // The machine has slept for an hour.
        assert_eq!(now(21, 3_611), seconds(3_621));
        assert_eq!(now(22, 3_612), seconds(3_622));
        // The clock of the day is set ahead by a little, and far back.
        assert_eq!(now(23, 3_617), seconds(3_623));
        assert_eq!(now(24, 60), seconds(3_624));
        assert_eq!(now(25, 61), seconds(3_625));
    }
}
