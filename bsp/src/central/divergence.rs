//! Divergence: a model with which nobody computes anything finite any more.
//!
//! The optimizer's step shows it, or an evaluation does. Often gradients overflow before either: then nobody has
//! anything to contribute, and no version follows. [`DivergenceWatch`] notices that. What volunteers claim is no proof,
//! though: a single one must not be able to stop a run. So it only asks the driver to compute a few gradients itself.

use std::time::Duration;

use crate::time::Time;

/// This many gradients that are not finite, and no contribution accepted between them, raise the suspicion. Fewer come
/// from a minibatch with an outlier.
const SUSPICIOUS: u64 = 16;
/// The first wait after a suspicion that was wrong; it doubles with each one that follows, …
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How a run was found to have diverged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    /// The optimizer's step from this version would not have led to a finite model.
    #[error("a parameter is not finite in the step after version {version}")]
    Step {
        /// The version.
        version: u64,
    },
    /// Gradients of this version are not finite.
    #[error("gradients of version {version} are not finite")]
    Gradients {
        /// The version.
        version: u64,
    },
    /// The loss of this version on the held-out samples is not finite, or beyond hope.
    #[error("the held-out loss of version {version} is not finite, or a million times that of the first model")]
    Evaluation {
        /// The version.
        version: u64,
    },
    /// The loss on the held-out samples has stayed far above that of the first model, until this version.
    #[error(
        "the held-out loss is {times} times that of the first model, and has been far above it for {evaluations} \
         evaluations, until version {version}"
    )]
    Lost {
        /// The version.
        version: u64,
        /// How many times the first model's loss its loss is.
        times: u64,
        /// Evaluations in a row in which it was far above.
        evaluations: u32,
    },
}

/// Notices when nobody contributes because no gradient is finite. Each event costs O(1).
#[derive(Debug)]
pub(super) struct DivergenceWatch {
    /// Gradients that were not finite since a contribution was accepted.
    not_finite: u64,
    /// The driver computes gradients, and has not answered.
    is_checking: bool,
    /// There is no suspicion before this time.
    rests_until: Time,
    next_wait: Duration,
}

impl Default for DivergenceWatch {
    fn default() -> DivergenceWatch {
        DivergenceWatch {
            not_finite: 0,
            is_checking: false,
            rests_until: Time::ZERO,
            next_wait: FIRST_WAIT,
        }
    }
}

impl DivergenceWatch {
    /// A volunteer reports this many gradients that were not finite.
    pub(super) fn on_not_finite(&mut self, gradients: u64) {
        self.not_finite = self.not_finite.saturating_add(gradients);
    }

    /// A contribution was refused because it is not finite, though each of its gradients is. In the baselines its
    /// volunteer computes no other.
    pub(super) fn on_refused(&mut self) {
        self.on_not_finite(SUSPICIOUS);
    }

    /// A contribution was accepted.
    pub(super) fn on_accepted(&mut self) {
        self.not_finite = 0;
    }

    /// Whether there is a suspicion now; then an answer is awaited.
    pub(super) fn suspects(&mut self, now: Time) -> bool {
        let suspects = self.not_finite >= SUSPICIOUS && !self.is_checking && now >= self.rests_until;
        self.is_checking |= suspects;
        suspects
    }

    /// The suspicion was wrong.
    pub(super) fn on_denied(&mut self, now: Time) {
        self.not_finite = 0;
        self.is_checking = false;
        self.rests_until = now + self.next_wait;
        self.next_wait = (2 * self.next_wait).min(LONGEST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_suspicion_needs_many_gradients_and_nothing_accepted_between_them() {
        let mut watch = DivergenceWatch::default();
        for _ in 0..10 {
            watch.on_not_finite(SUSPICIOUS - 1);
            watch.on_accepted();
        }
        assert!(!watch.suspects(at(1)));
        watch.on_not_finite(SUSPICIOUS - 1);
        assert!(!watch.suspects(at(1)));
        watch.on_not_finite(1);
        assert!(watch.suspects(at(1)));
        assert!(!watch.suspects(at(2)), "one at a time");
    }

    #[test]
    fn a_volunteer_that_claims_it_for_ever_is_believed_ever_more_seldom() {
        let mut watch = DivergenceWatch::default();
        let mut checks = 0;
        for second in 0..600 {
            watch.on_refused();
            if watch.suspects(at(second)) {
                checks += 1;
                watch.on_denied(at(second));
            }
        }
        assert!((7..=16).contains(&checks), "{checks}");
    }
}
