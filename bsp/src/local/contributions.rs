//! The contributions that are not durable yet, as bytes, to be sent again after a reconnect.

use std::collections::VecDeque;

use crate::protocol::frame::ContributionFrame;

/// The most contributions that are kept until they are durable. Each costs as much memory as the model.
pub const KEPT_CONTRIBUTIONS: usize = 4;

/// A contribution that is not durable yet.
#[derive(Debug)]
struct Kept {
    sequence: u64,
    samples: u64,
    frame: ContributionFrame,
}

/// The contributions of the session.
#[derive(Debug)]
pub(super) struct Contributions {
    kept: VecDeque<Kept>,
    /// Free frames.
    spare: Vec<ContributionFrame>,
    last_sequence: u64,
    /// Contributions up to this number are settled.
    settled: u64,
    accepted_samples: u64,
}

impl Contributions {
    /// No contributions yet, for a model of `parameters` parameters.
    pub(super) fn new(parameters: usize) -> Contributions {
        Contributions {
            kept: VecDeque::with_capacity(KEPT_CONTRIBUTIONS),
            spare: (0..KEPT_CONTRIBUTIONS)
                .map(|_| ContributionFrame::new(parameters))
                .collect(),
            last_sequence: 0,
            settled: 0,
            accepted_samples: 0,
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
            frame,
        });
        assert!(
            self.kept.len() <= KEPT_CONTRIBUTIONS,
            "each kept contribution has a frame"
        );
    }

    /// The first contribution that is not settled, if there is one.
    pub(super) fn first_unsettled(&self) -> Option<u64> {
        let next = self.settled + 1;
        self.kept.iter().any(|kept| kept.sequence == next).then_some(next)
    }

    /// Whether all that were read out are settled.
    pub(super) fn are_settled(&self) -> bool {
        self.kept.iter().all(|kept| kept.sequence <= self.settled)
    }

    /// Contributions up to `through` were accepted or refused, finally. Those up to `durable` are kept no longer.
    pub(super) fn settle(&mut self, through: u64, durable: u64, is_accepted: bool) {
        let newly_settled = |kept: &&Kept| kept.sequence > self.settled && kept.sequence <= through;
        if is_accepted {
            self.accepted_samples += self
                .kept
                .iter()
                .filter(newly_settled)
                .map(|kept| kept.samples)
                .sum::<u64>();
        }
        self.settled = through;
        while let Some(kept) = self.kept.pop_front_if(|kept| kept.sequence <= durable) {
            self.spare.push(kept.frame);
        }
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
            (contributions.first_unsettled(), contributions.next_sequence()),
            (Some(1), 4)
        );
        contributions.settle(1, 0, true);
        contributions.settle(2, 1, false);
        assert_eq!(contributions.accepted_samples(), 10, "the second one was refused");
        assert!(contributions.frame(1).is_none() && contributions.frame(2).is_some());
        assert_eq!(
            (contributions.first_unsettled(), contributions.are_settled()),
            (Some(3), false)
        );
        contributions.settle(3, 3, true);
        assert_eq!(
            (contributions.first_unsettled(), contributions.are_settled()),
            (None, true)
        );
        assert_eq!(contributions.accepted_samples(), 50);
    }

    #[test]
    fn there_is_room_until_as_many_are_kept_as_may_be() {
        let mut contributions = Contributions::new(1);
        for _ in 0..KEPT_CONTRIBUTIONS {
            assert!(contributions.has_room());
            keep(&mut contributions, 1);
        }
        assert!(!contributions.has_room() && contributions.take_frame().is_none());
        contributions.settle(4, 1, true);
        assert!(contributions.has_room());
    }
}
