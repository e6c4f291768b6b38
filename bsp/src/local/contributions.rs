//! The contributions that are not durable yet, as bytes, to be sent again after a reconnect.

use std::collections::VecDeque;

use crate::protocol::codec::FLOAT_BYTES;
use crate::protocol::frame::ContributionFrame;

/// A tab keeps at most about this many bytes of contributions until they are durable: a phone has as much to spare.
/// The central module makes a checkpoint before half of them are used.
const KEPT_BYTES: usize = 8 << 20;
/// So many are kept however large the model is: one on its way, one that is read out, and two that are settled while a
/// checkpoint is written.
const FEWEST_KEPT: usize = 4;
/// More are never needed between two checkpoints, and each has a header besides its payload.
const MOST_KEPT: usize = 64;

/// The most contributions that are kept until they are durable, for a model of `parameters` parameters. Each costs as
/// much memory as the model.
pub fn kept_contributions(parameters: usize) -> usize {
    let frame_bytes = (parameters * FLOAT_BYTES).max(1);
    (KEPT_BYTES / frame_bytes).clamp(FEWEST_KEPT, MOST_KEPT)
}

/// A contribution that is not durable yet.
#[derive(Debug)]
struct Kept {
    sequence: u64,
    samples: u64,
    /// It is settled as accepted, as far as the central module remembers.
    is_accepted: bool,
    frame: ContributionFrame,
}

/// The contributions of the session.
#[derive(Debug)]
pub(super) struct Contributions {
    kept: VecDeque<Kept>,
    /// Free frames.
    spare: Vec<ContributionFrame>,
    last_sequence: u64,
    /// Contributions up to this number were sent over the present link.
    sent: u64,
    /// Contributions up to this number are settled.
    settled: u64,
    /// Contributions up to this number are durable.
    durable: u64,
    accepted_samples: u64,
    sent_again: u64,
}

impl Contributions {
    /// No contributions yet, for a model of `parameters` parameters.
    pub(super) fn new(parameters: usize) -> Contributions {
        let kept = kept_contributions(parameters);
        Contributions {
            kept: VecDeque::with_capacity(kept),
            spare: (0..kept).map(|_| ContributionFrame::new(parameters)).collect(),
            last_sequence: 0,
            sent: 0,
            settled: 0,
            durable: 0,
            accepted_samples: 0,
            sent_again: 0,
        }
    }

    /// Whether there is room to keep one more.
    pub(super) fn has_room(&self) -> bool {
        !self.spare.is_empty()
    }

    /// A free frame, if there is one.
    pub(super) fn take_frame(&mut self) -> Option<ContributionFrame> {
        self.spare.pop()
    }

    /// A frame was not needed.
    pub(super) fn give_back(&mut self, frame: ContributionFrame) {
        self.spare.push(frame);
    }

    /// The number of the next contribution.
    pub(super) fn next_sequence(&self) -> u64 {
        self.last_sequence + 1
    }

    /// Keeps the next contribution, of `samples` samples.
    pub(super) fn keep(&mut self, samples: u64, frame: ContributionFrame) {
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        self.kept.push_back(Kept {
            sequence,
            samples,
            is_accepted: false,
            frame,
        });
        assert!(
            self.kept.len() <= self.kept.capacity(),
            "each kept contribution has a frame"
        );
    }

    /// The first contribution that is neither settled nor sent over the present link, if there is one.
    pub(super) fn next_to_send(&self) -> Option<u64> {
        let next = self.settled.max(self.sent) + 1;
        self.kept.iter().any(|kept| kept.sequence == next).then_some(next)
    }

    /// This contribution was sent.
    pub(super) fn on_sent(&mut self, sequence: u64) {
        self.sent = sequence;
    }

    /// Whether a contribution that was sent over the present link is not acknowledged yet.
    pub(super) fn are_on_their_way(&self) -> bool {
        self.sent > self.settled
    }

    /// There is a new link: what is not settled is sent over it again.
    pub(super) fn on_new_link(&mut self) {
        self.sent = 0;
    }

    /// Contributions up to this number are settled.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// Samples in contributions that are kept and not settled.
    pub(super) fn unsettled_samples(&self) -> u64 {
        let unsettled = self.kept.iter().filter(|kept| kept.sequence > self.settled);
        unsettled.map(|kept| kept.samples).sum()
    }

    /// Whether all that were read out are settled.
    pub(super) fn are_settled(&self) -> bool {
        self.kept.iter().all(|kept| kept.sequence <= self.settled)
    }

    /// Contributions up to `through` were accepted or refused, and the last of them was accepted if `is_accepted` says
    /// so. (All before it were acknowledged one by one.) What the central module does not remember after a restart is
    /// not settled any more, and is sent again.
    pub(super) fn settle(&mut self, through: u64, is_accepted: bool) {
        for kept in &mut self.kept {
            if kept.sequence > through && kept.is_accepted {
                kept.is_accepted = false;
                self.accepted_samples -= kept.samples;
                self.sent_again += 1;
            }
            let is_newly_settled = kept.sequence > self.settled && kept.sequence <= through;
            if is_newly_settled && (is_accepted || kept.sequence < through) {
                kept.is_accepted = true;
                self.accepted_samples += kept.samples;
            }
        }
        self.settled = through;
    }

    /// Contributions up to `durable` are kept no longer.
    pub(super) fn forget(&mut self, durable: u64) {
        self.durable = self.durable.max(durable);
        while let Some(kept) = self.kept.pop_front_if(|kept| kept.sequence <= durable) {
            self.spare.push(kept.frame);
        }
    }

    /// Contributions up to this number are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Contributions that had been accepted before a restart of the server, and were sent again because it had lost
    /// them.
    pub(super) fn sent_again(&self) -> u64 {
        self.sent_again
    }

    /// The frame of a contribution that is kept here.
    pub(super) fn frame(&self, sequence: u64) -> Option<&[u8]> {
        let kept = self.kept.iter().find(|kept| kept.sequence == sequence)?;
        Some(kept.frame.as_bytes())
    }

    /// Samples in contributions that were accepted.
    pub(super) fn accepted_samples(&self) -> u64 {
        self.accepted_samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(contributions: &mut Contributions, samples: u64) {
        let frame = contributions.take_frame().unwrap();
        contributions.keep(samples, frame);
    }

    #[test]
    fn a_contribution_is_kept_until_it_is_durable_and_counts_if_it_was_accepted() {
        let mut contributions = Contributions::new(1);
        for samples in [10, 20, 40] {
            keep(&mut contributions, samples);
        }
        assert_eq!(
            (contributions.next_to_send(), contributions.next_sequence()),
            (Some(1), 4)
        );
        contributions.settle(1, true);
        contributions.settle(2, false);
        contributions.forget(1);
        assert_eq!(contributions.accepted_samples(), 10, "the second one was refused");
        assert!(contributions.frame(1).is_none() && contributions.frame(2).is_some());
        assert_eq!(
            (contributions.next_to_send(), contributions.are_settled()),
            (Some(3), false)
        );
        contributions.settle(3, true);
        contributions.forget(3);
        assert_eq!(
            (contributions.next_to_send(), contributions.are_settled()),
            (None, true)
        );
        assert_eq!(contributions.accepted_samples(), 50);
    }

    #[test]
    fn there_is_room_until_as_many_are_kept_as_may_be() {
        let mut contributions = Contributions::new(1);
        for _ in 0..kept_contributions(1) {
            assert!(contributions.has_room());
            keep(&mut contributions, 1);
        }
        assert!(!contributions.has_room() && contributions.take_frame().is_none());
        contributions.settle(4, true);
        assert!(!contributions.has_room(), "settled is not durable");
        contributions.forget(1);
        assert!(contributions.has_room());
    }

    #[test]
    fn what_was_sent_over_a_lost_link_is_sent_again_over_the_next() {
        let mut contributions = Contributions::new(1);
        keep(&mut contributions, 10);
        keep(&mut contributions, 20);
        contributions.on_sent(1);
        assert_eq!(contributions.next_to_send(), Some(2), "right behind");
        contributions.on_sent(2);
        assert_eq!(contributions.next_to_send(), None);
        contributions.settle(1, true);
        assert!(contributions.are_on_their_way() && contributions.next_to_send().is_none());
        contributions.on_new_link();
        assert_eq!(
            (contributions.next_to_send(), contributions.unsettled_samples()),
            (Some(2), 20)
        );
        contributions.settle(2, true);
        assert!(!contributions.are_on_their_way() && contributions.next_to_send().is_none());
    }

    #[test]
    fn what_a_server_has_forgotten_is_sent_again_and_counts_once() {
        let mut contributions = Contributions::new(1);
        for (sequence, samples) in [(1, 10), (2, 20), (3, 40), (4, 80)] {
            keep(&mut contributions, samples);
            contributions.settle(sequence, sequence != 3);
        }
        contributions.forget(1);
        assert_eq!((contributions.accepted_samples(), contributions.sent_again()), (110, 0));
        // The checkpoint holds the first contribution; the acknowledgement of the second is not known any more.
        contributions.settle(1, true);
        assert_eq!(
            (contributions.next_to_send(), contributions.accepted_samples()),
            (Some(2), 10)
        );
        assert_eq!(contributions.sent_again(), 2, "the third one was refused before");
        for sequence in 2..=4 {
            contributions.settle(sequence, true);
        }
        assert_eq!(
            (contributions.next_to_send(), contributions.accepted_samples()),
            (None, 150)
        );
    }

    #[test]
    fn a_large_model_leaves_room_for_few_contributions_and_a_small_one_for_many() {
        assert_eq!(kept_contributions(0), 64);
        assert_eq!(kept_contributions(80_000), 26);
        assert_eq!(kept_contributions(20_000_000), 4);
    }
}
