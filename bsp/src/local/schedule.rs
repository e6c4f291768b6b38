//! When the shared memory is read out.
//!
//! ```text
//! read-outs follow publishes:   due = min(publish + period, last read-out + 3/2 · period)
//! between publishes:            due ← due + period
//! in a baseline:                due when each ML module has added its one gradient, which is looked for every
//!                               max(1 ms, waited / 128), not before 3/4 of what the last ones took
//! ```
//!
//! Because read-outs follow publishes, all volunteers read out together. So a superstep closes soon after its first
//! contribution, and most of its gradients were computed on the newest model. Where models come more often than once a
//! period, or seldom, a read-out is put off by half a period at most.

use std::time::Duration;

use crate::time::Time;

/// The wait before a pending read-out is tried again. The lease that it waits for lasts one add.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(1);
/// An event this late means that the tab was frozen: a hello comes before the next read-out.
const FROZEN: Duration = Duration::from_secs(5);
/// The shortest period that is worth a read-out. The central module asks for no shorter one.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);
/// In a baseline, the time between two looks for the one gradient that is due, …
const BARRIER_LOOK: Duration = Duration::from_millis(1);
/// … which grows, so that the gradient is found late by at most this part of the time that it took.
const BARRIER_LOOKS: u32 = 128;

/// When the next read-out is due.
#[derive(Debug)]
pub(super) struct Schedule {
    has_barrier: bool,
    period: Duration,
    due: Time,
    last_read_out: Time,
    /// When the newest model arrived.
    model_since: Time,
    /// In a baseline, the time from there until the last gradients were there.
    gradients_took: Duration,
    /// The time at which the driver was asked to call again, at the latest.
    wake_by: Time,
}

impl Schedule {
    /// A schedule whose first read-out is due now. `has_barrier` says that the run is a baseline.
    pub(super) fn new(now: Time, has_barrier: bool) -> Schedule {
        Schedule {
            has_barrier,
            period: Duration::from_secs(1),
            due: now,
            last_read_out: now,
            model_since: now,
            gradients_took: Duration::ZERO,
            wake_by: now,
        }
    }

    /// The driver is asked to call again at this time, at the latest.
    pub(super) fn set_wake_by(&mut self, at: Time) {
        self.wake_by = at;
    }

    /// The time at which the driver was asked to call again, at the latest.
    pub(super) fn wake_by(&self) -> Time {
        self.wake_by
    }

    /// Whether an event at `now` comes so late that the tab must have been frozen.
    pub(super) fn was_frozen(&self, now: Time) -> bool {
        now.since(self.wake_by) > FROZEN
    }

    /// Whether an ML module computes one gradient on a model and then waits for the next.
    pub(super) fn has_barrier(&self) -> bool {
        self.has_barrier
    }

    /// When the next read-out is due.
    pub(super) fn due(&self) -> Time {
        self.due
    }

    /// The next read-out is due now.
    pub(super) fn set_due_now(&mut self, now: Time) {
        self.due = now;
    }

    /// The central module has named its period.
    pub(super) fn set_period(&mut self, now: Time, period_us: u64) {
        self.period = match self.has_barrier {
            true => BARRIER_LOOK,
            false => Duration::from_micros(period_us).max(SHORTEST_PERIOD),
        };
        self.due = self.due.min(now + self.period);
    }

    /// A model has arrived.
    pub(super) fn on_model(&mut self, now: Time) {
        self.model_since = now;
        if !self.has_barrier {
            self.due = (now + self.period).min(self.last_read_out + self.period * 3 / 2);
        }
    }

    /// A read-out was due: the next one is due a period later.
    pub(super) fn advance(&mut self, now: Time) {
        self.due = (self.due + self.period).max(now);
    }

    /// There was nothing to read out.
    pub(super) fn put_off(&mut self, now: Time) {
        let pause = match self.has_barrier {
            false => self.period,
            true => {
                // They will hardly take less than three quarters of the time of the last ones.
                let waited = now.since(self.model_since);
                let worth_a_look = (self.gradients_took * 3 / 4).saturating_sub(waited);
                self.period.max(waited / BARRIER_LOOKS).max(worth_a_look)
            }
        };
        self.due = self.due.max(now + pause);
    }

    /// A read-out has begun.
    pub(super) fn on_read_out(&mut self, now: Time) {
        self.last_read_out = now;
        self.gradients_took = now.since(self.model_since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    /// A schedule with a period of 100 ms whose last read-out began at 0.
    fn schedule(has_barrier: bool) -> Schedule {
        let mut schedule = Schedule::new(Time::ZERO, has_barrier);
        schedule.set_period(Time::ZERO, 100_000);
        schedule.on_read_out(Time::ZERO);
        schedule
    }

    #[test]
    fn only_an_event_long_after_the_driver_was_to_call_means_that_the_tab_was_frozen() {
        let mut schedule = schedule(false);
        schedule.set_wake_by(ms(1000));
        assert!(!schedule.was_frozen(ms(1000) + FROZEN));
        assert!(schedule.was_frozen(ms(1001) + FROZEN));
    }

    #[test]
    fn a_read_out_follows_a_publish_by_a_period_and_the_last_one_by_three_halves_at_most() {
        let mut schedule = schedule(false);
        schedule.on_model(ms(10));
        assert_eq!(schedule.due(), ms(110));
        schedule.on_model(ms(90));
        assert_eq!(schedule.due(), ms(150));
    }

    #[test]
    fn without_a_publish_read_outs_are_a_period_apart_and_none_is_made_up_for() {
        let mut schedule = schedule(false);
        schedule.on_model(ms(0));
        schedule.advance(ms(100));
        assert_eq!(schedule.due(), ms(200));
        schedule.advance(ms(1000));
        assert_eq!(schedule.due(), ms(1000));
    }

    #[test]
    fn in_a_baseline_the_looks_grow_rarer_and_skip_what_the_last_gradients_took() {
        let mut schedule = schedule(true);
        schedule.on_model(ms(0));
        schedule.on_read_out(ms(400));
        schedule.on_model(ms(400));
        schedule.put_off(ms(401));
        assert_eq!(schedule.due(), ms(700), "three quarters of 400 ms");
        schedule.put_off(ms(700));
        let rarer = Duration::from_micros(300_000 / u64::from(BARRIER_LOOKS));
        assert_eq!(schedule.due().since(ms(700)), rarer);
    }
}
