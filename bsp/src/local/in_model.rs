//! Under local steps: which of this tab's contributions are in the model that is published to it.
//!
//! ML modules count read-outs by the flips of their shared memory. The central module counts contributions by their
//! numbers. This file translates. At most one contribution at a time is neither in a model that has arrived nor
//! refused: until it is, nothing more is read out, and the aggregates keep collecting. Only a tab that may close at any
//! moment adds others.

use std::collections::VecDeque;

/// More than this are not outstanding. A tab that is shown again seldom has two.
const MOST_OUTSTANDING: usize = 4;

/// A contribution that was read out.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    sequence: u64,
    read_out: u64,
}

/// How far the tab's own displacements are settled in its model.
#[derive(Debug)]
pub(super) struct InModel {
    /// The next model settles contributions up to this number, as the central module has announced.
    next_model_settles: u64,
    /// In the order of their numbers.
    outstanding: VecDeque<Outstanding>,
    /// Read-outs up to this number are settled.
    settled_read_outs: u64,
}

impl Default for InModel {
    fn default() -> InModel {
        InModel {
            next_model_settles: 0,
            outstanding: VecDeque::with_capacity(MOST_OUTSTANDING),
            settled_read_outs: 0,
        }
    }
}

impl InModel {
    /// A contribution was made of this read-out.
    pub(super) fn on_read_out(&mut self, sequence: u64, read_out: u64) {
        if !self.has_room() {
            // Without local steps nobody asks what is outstanding.
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Outstanding { sequence, read_out });
    }

    /// Whether one more may be outstanding.
    pub(super) fn has_room(&self) -> bool {
        self.outstanding.len() < MOST_OUTSTANDING
    }

    /// The next model settles contributions up to this number.
    pub(super) fn on_next_model_settles(&mut self, through: u64) {
        self.next_model_settles = through;
    }

    /// Whether a contribution is neither in a model that has arrived nor refused.
    pub(super) fn is_outstanding(&self) -> bool {
        !self.outstanding.is_empty()
    }

    /// This contribution was refused: no model will hold it. Returns the number up to which read-outs are settled now,
    /// if that changes. With another one outstanding before it, it is settled together with that.
    pub(super) fn on_refused(&mut self, sequence: u64) -> Option<u64> {
        let place = self.outstanding.iter().position(|o| o.sequence == sequence)?;
        let refused = self.outstanding.remove(place)?;
        if let Some(before) = place.checked_sub(1).and_then(|place| self.outstanding.get_mut(place)) {
            before.read_out = refused.read_out;
            return None;
        }
        self.settled_read_outs = refused.read_out;
        Some(refused.read_out)
    }

    /// The model has arrived. Returns the number up to which read-outs are settled in it.
    pub(super) fn on_model(&mut self) -> u64 {
        let through = self.next_model_settles;
        while let Some(first) = self.outstanding.pop_front_if(|first| first.sequence <= through) {
            self.settled_read_outs = first.read_out;
        }
        self.settled_read_outs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contribution 3 was made of read-out 5: read-outs that held nothing count, too.
    fn after_a_read_out() -> InModel {
        let mut in_model = InModel::default();
        in_model.on_read_out(3, 5);
        in_model
    }

    #[test]
    fn a_contribution_is_outstanding_until_a_model_that_settles_it_has_arrived() {
        let mut in_model = after_a_read_out();
        in_model.next_model_settles = 2;
        assert_eq!(in_model.on_model(), 0, "a model of the others alone");
        assert!(in_model.is_outstanding());
        in_model.next_model_settles = 3;
        assert!(in_model.is_outstanding(), "the model has not arrived yet");
        assert_eq!(in_model.on_model(), 5);
        assert!(!in_model.is_outstanding());
        assert_eq!(in_model.on_model(), 5, "for ever");
    }

    #[test]
    fn a_contribution_that_was_refused_is_settled_at_once_and_only_once() {
        let mut in_model = after_a_read_out();
        assert_eq!(in_model.on_refused(2), None, "that was another one");
        assert!(in_model.is_outstanding());
        assert_eq!(in_model.on_refused(3), Some(5));
        assert!(!in_model.is_outstanding());
        assert_eq!(in_model.on_refused(3), None);
        in_model.on_read_out(4, 6);
        assert_eq!(in_model.on_model(), 5, "the next one is not in a model yet");
        assert!(in_model.is_outstanding());
    }

    #[test]
    fn of_two_that_are_outstanding_each_is_settled_by_the_model_that_holds_it() {
        let mut in_model = after_a_read_out();
        in_model.on_read_out(4, 6);
        in_model.on_next_model_settles(3);
        assert_eq!(in_model.on_model(), 5);
        assert!(in_model.is_outstanding());
        in_model.on_read_out(5, 7);
        assert_eq!(in_model.on_refused(5), None, "the fourth is not in a model yet");
        in_model.on_next_model_settles(4);
        assert_eq!(in_model.on_model(), 7, "the refused one with it");
        assert!(!in_model.is_outstanding());
    }
}
