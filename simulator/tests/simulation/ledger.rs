//! The ledger of all gradients and their outcomes, by which exactly-once is checked.

use std::collections::{BTreeMap, BTreeSet};

use bsp::protocol::codec::Codec;
use bsp::protocol::message::{Contribution, SessionId};

use super::gradients::{Gradients, Name, PARAMETERS, floats, samples};

/// All settled gradients.
#[derive(Default)]
pub(super) struct Ledger {
    /// The number that was settled last in each session.
    pub(super) settled: BTreeMap<SessionId, u64>,
    pub(super) accepted: BTreeSet<Name>,
    pub(super) refused: BTreeSet<Name>,
    pub(super) accepted_samples: u64,
    /// Accepted contributions: their session, samples, and mean version.
    pub(super) contributions: Vec<(SessionId, u64, f64)>,
    /// The sum of all accepted payloads that are plain f32.
    pub(super) sum: [f64; PARAMETERS],
}

impl Ledger {
    /// A contribution was settled, finally.
    pub(super) fn settle(
        &mut self,
        contribution: &Contribution,
        payload: &[u8],
        is_accepted: bool,
        gradients: Gradients,
    ) {
        let last = self.settled.entry(contribution.session).or_default();
        assert_eq!(contribution.sequence, *last + 1, "settled out of order");
        *last = contribution.sequence;
        assert_eq!(
            contribution.step_runs_not_listed, 0,
            "too many runs to follow each gradient"
        );
        let mut sum = [0.0f32; PARAMETERS];
        let mut one = [0.0f32; PARAMETERS];
        let (mut listed, mut listed_samples) = (0, 0);
        for run in &contribution.step_runs {
            for step in run.first_step..run.first_step + u64::from(run.count) {
                let name = (contribution.session, run.ml_module, step);
                assert!(
                    !self.accepted.contains(&name),
                    "{name:?} was settled already, as accepted"
                );
                assert!(
                    !self.refused.contains(&name),
                    "{name:?} was settled already, as refused"
                );
                if is_accepted {
                    &mut self.accepted
                } else {
                    &mut self.refused
                }
                .insert(name);
                listed += 1;
                listed_samples += u64::from(samples(name));
                if gradients == Gradients::Counting {
                    gradients.compute(name, &[], &mut one);
                    sum.iter_mut().zip(one).for_each(|(sum, value)| *sum += value);
                }
            }
        }
        assert_eq!(
            (contribution.gradients, contribution.samples),
            (listed, listed_samples),
            "the header disagrees with its runs"
        );
        if gradients == Gradients::Counting && contribution.codec == Codec::F32 {
            assert!(
                floats(payload).eq(sum),
                "the payload is not the sum of the gradients that its header lists"
            );
        }
        if is_accepted {
            self.accepted_samples += contribution.samples;
            let version = contribution.version_sum as f64 / contribution.samples as f64;
            self.contributions
                .push((contribution.session, contribution.samples, version));
            if contribution.codec == Codec::F32 {
                self.sum
                    .iter_mut()
                    .zip(floats(payload))
                    .for_each(|(sum, value)| *sum += f64::from(value));
            }
        }
    }

    /// The outcomes of a session's gradients.
    pub(super) fn of_session(&self, session: SessionId) -> BTreeSet<Name> {
        self.accepted
            .iter()
            .chain(&self.refused)
            .filter(|name| name.0 == session)
            .copied()
            .collect()
    }
}
