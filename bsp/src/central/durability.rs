//! When a checkpoint is made, and whether it is written.
//!
//! ```text
//! settled ──► due: at the interval, or now when a volunteer has sent half of what it can keep
//! due and none is being written ──► made ──► written: all that it holds as settled is durable
//!                                       └──► failed: another one is due after a wait
//! ```

use std::time::Duration;

use crate::time::Time;

/// After a failure the next checkpoint waits for this long: a full disk is not filled faster by trying often.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// When checkpoints are made.
#[derive(Debug)]
pub(super) struct Durability {
    interval: Duration,
    /// The most contributions that a volunteer keeps until they are durable.
    kept: u64,
    /// The number of the last one that was made.
    number: u64,
    last_made: Time,
    is_being_written: bool,
    /// When the next one is due, once there is something new for it to hold.
    due: Option<Time>,
    /// After a failure none is made before this time, whatever is due.
    not_before: Time,
}

impl Durability {
    /// No checkpoint yet. They are made every `interval` at the most, and before volunteers keep more than `kept`
    /// contributions.
    pub(super) fn new(now: Time, interval: Duration, kept: usize) -> Durability {
        Durability {
            interval,
            kept: kept as u64,
            number: 0,
            last_made: now,
            is_being_written: false,
            due: None,
            not_before: now,
        }
    }

    /// A contribution was settled; its session's last `not_held` contributions are in no checkpoint that was made.
    pub(super) fn on_settled(&mut self, now: Time, not_held: u64) {
        let at = match 2 * not_held >= self.kept {
            true => now,
            false => self.last_made + self.interval,
        };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// One is wanted now.
    pub(super) fn set_due_now(&mut self, now: Time) {
        self.due = Some(now);
    }

    /// When the next one is to be made, if nothing comes before.
    pub(super) fn next_timeout(&self) -> Option<Time> {
        let due = self.due.filter(|_| !self.is_being_written);
        due.map(|due| due.max(self.not_before))
    }

    /// One is made now, if it is due. Returns its number.
    pub(super) fn begin_if_due(&mut self, now: Time) -> Option<u64> {
        self.next_timeout().filter(|due| *due <= now)?;
        self.number += 1;
        (self.last_made, self.due, self.is_being_written) = (now, None, true);
        Some(self.number)
    }

    /// The checkpoint of this number was written. Returns whether it is the one that is awaited.
    pub(super) fn on_written(&mut self, number: u64) -> bool {
        let is_awaited = self.is_awaited(number);
        if is_awaited {
            self.is_being_written = false;
        }
        is_awaited
    }

    /// The checkpoint of this number could not be written.
    pub(super) fn on_failed(&mut self, now: Time, number: u64) {
        if self.is_awaited(number) {
            self.is_being_written = false;
            self.not_before = now + AFTER_FAILURE;
            self.due = Some(self.not_before);
        }
    }

    /// Whether all that was settled is durable.
    pub(super) fn is_complete(&self) -> bool {
        !self.is_being_written && self.due.is_none()
    }

    fn is_awaited(&self, number: u64) -> bool {
        self.is_being_written && number == self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn durability() -> Durability {
        Durability::new(Time::ZERO, Duration::from_secs(5), 8)
    }

    #[test]
    fn a_checkpoint_is_made_at_the_interval_if_something_was_settled() {
        let mut durability = durability();
        assert_eq!(
            (durability.next_timeout(), durability.begin_if_due(at(60))),
            (None, None)
        );
        durability.on_settled(at(1), 1);
        assert_eq!(
            (durability.next_timeout(), durability.begin_if_due(at(4))),
            (Some(at(5)), None)
        );
        assert_eq!(durability.begin_if_due(at(5)), Some(1));
        durability.on_settled(at(6), 1);
        assert_eq!(durability.begin_if_due(at(99)), None, "one is being written");
        assert!(durability.on_written(1) && !durability.is_complete());
        assert_eq!(durability.begin_if_due(at(10)), Some(2));
        assert!(durability.on_written(2) && durability.is_complete());
    }

    #[test]
    fn a_volunteer_that_has_sent_half_of_what_it_keeps_does_not_wait_for_the_interval() {
        let mut durability = durability();
        durability.on_settled(at(1), 3);
        assert_eq!(durability.begin_if_due(at(1)), None);
        durability.on_settled(at(1), 4);
        assert_eq!(durability.begin_if_due(at(1)), Some(1));
    }

    #[test]
    fn after_a_failure_another_one_follows_and_late_answers_change_nothing() {
        let mut durability = durability();
        durability.set_due_now(at(1));
        assert_eq!(durability.begin_if_due(at(1)), Some(1));
        durability.on_failed(at(2), 1);
        assert!(!durability.on_written(1) && !durability.is_complete());
        // A volunteer whose room is used up does not make a full disk be tried back to back.
        durability.on_settled(at(3), 8);
        assert_eq!(durability.next_timeout(), Some(at(2) + AFTER_FAILURE));
        assert_eq!(durability.begin_if_due(at(7)), Some(2));
        durability.on_failed(at(8), 1);
        assert!(durability.on_written(2));
    }
}
