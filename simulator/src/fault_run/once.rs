//! Every gradient is in at most one accepted contribution of the line of models that the current one goes on from, and
//! the totals count what that line holds.
//!
//! A restart goes on from a checkpoint: what was settled after it is no more. So each checkpoint has a copy of what was
//! settled until then.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bsp::central::{Central, Checkpoint};
use bsp::protocol::message::{Contribution, SessionId};

use super::invariants::{Checks, Invariant};
use crate::small_model::Name;

/// A contribution: its session and its number.
pub(super) type Key = (SessionId, u64);

/// What was settled, and in which contribution each gradient is.
#[derive(Default)]
pub(super) struct Once {
    contribution_of: HashMap<Name, Key>,
    known: HashMap<Key, Known>,
    /// Contributions that some line has accepted.
    ever_accepted: BTreeSet<Key>,
    line: Line,
    /// The line at each checkpoint, by incarnation and number.
    checkpoints: HashMap<(u32, u64), Line>,
}

/// A contribution, whatever its outcome.
struct Known {
    samples: u64,
    gradients: Vec<Name>,
    /// Gradients for whose names its header had no room.
    unnamed: u64,
}

/// The contributions that the current model goes on from.
#[derive(Clone, Default)]
pub(super) struct Line {
    /// Whether each was accepted.
    settled: BTreeMap<Key, bool>,
    accepted: u64,
    refused: u64,
    samples: u64,
    gradients: u64,
}

impl Once {
    pub(super) fn on_settled(&mut self, checks: &mut Checks, contribution: &Contribution, is_accepted: bool) {
        let key = (contribution.session, contribution.sequence);
        let gradients = names(contribution);
        let named = gradients.len() as u64;
        let unnamed = contribution.gradients.saturating_sub(named);
        let agrees = match contribution.step_runs_not_listed {
            0 => contribution.gradients == named,
            _ => contribution.gradients >= named,
        };
        checks.require(Invariant::Once, agrees, || {
            format!("the header of contribution {key:?} disagrees with its runs")
        });
        for name in &gradients {
            let first = *self.contribution_of.entry(*name).or_insert(key);
            checks.require_eq(Invariant::Once, first, key, || {
                format!("the contribution of gradient {name:?}")
            });
        }
        let line = &mut self.line;
        let before = line.settled.insert(key, is_accepted);
        checks.require(Invariant::Once, before.is_none(), || {
            format!("contribution {key:?} is settled twice in one line")
        });
        if is_accepted {
            line.accepted += 1;
            line.samples += contribution.samples;
            line.gradients += contribution.gradients;
            self.ever_accepted.insert(key);
        } else {
            line.refused += 1;
        }
        let samples = contribution.samples;
        self.known.entry(key).or_insert(Known {
            samples,
            gradients,
            unnamed,
        });
    }

    pub(super) fn on_checkpoint_made(&mut self, checks: &mut Checks, checkpoint: &Checkpoint) {
        let totals = checkpoint.totals;
        checks.require_eq(Invariant::Totals, totals.samples, self.line.samples, || {
            "samples that the checkpoint counts, of those that were accepted".to_owned()
        });
        let open: u64 = checkpoint.open.contributions.iter().map(|c| c.samples).sum();
        let held = totals.samples_in_model + open;
        checks.require_eq(Invariant::Totals, held, totals.samples, || {
            "samples in the checkpoint's model and its open superstep, of those that it counts".to_owned()
        });
        let number = (checkpoint.trainer.incarnation, checkpoint.number);
        self.checkpoints.insert(number, self.line.clone());
    }

    pub(super) fn on_server_started(&mut self, checks: &mut Checks, checkpoint: Option<&Checkpoint>) {
        let number = checkpoint.map(|checkpoint| (checkpoint.trainer.incarnation, checkpoint.number));
        let line = match number {
            Some(number) => self.checkpoints.get(&number).cloned(),
            None => Some(Line::default()),
        };
        checks.require(Invariant::Totals, line.is_some(), || {
            format!("the server goes on from checkpoint {number:?}, which it never made")
        });
        self.line = line.unwrap_or_default();
    }

    pub(super) fn check(&self, checks: &mut Checks, central: &Central) {
        let (totals, line) = (central.totals(), &self.line);
        checks.require_eq(Invariant::Totals, totals.samples, line.samples, || {
            "accepted samples".to_owned()
        });
        checks.require_eq(Invariant::Totals, totals.gradients, line.gradients, || {
            "accepted gradients".to_owned()
        });
        let settled = (totals.accepted, totals.refused);
        checks.require_eq(Invariant::Totals, settled, (line.accepted, line.refused), || {
            "accepted and refused contributions".to_owned()
        });
    }

    /// Samples of a session that some line has accepted and this one has not, or not yet.
    pub(super) fn lost_of(&self, session: SessionId) -> u64 {
        let lost = self.ever_accepted.range((session, 0)..=(session, u64::MAX));
        lost.filter(|key| !self.is_settled(**key))
            .map(|key| self.known[key].samples)
            .sum()
    }

    /// Samples that the line has accepted.
    pub(super) fn samples(&self) -> u64 {
        self.line.samples
    }

    /// Whether the line has accepted or refused this contribution.
    pub(super) fn is_settled(&self, key: Key) -> bool {
        self.line.settled.contains_key(&key)
    }

    /// The samples of a session that the line has accepted.
    pub(super) fn samples_of(&self, session: SessionId) -> u64 {
        let of_session = self.line.settled.range((session, 0)..=(session, u64::MAX));
        let accepted = of_session.filter(|(_, is_accepted)| **is_accepted);
        accepted.map(|(key, _)| self.known[key].samples).sum()
    }

    /// How many of these gradients of a session the line has not settled. Those in contributions up to the number
    /// `lost` are not expected: the disk that had them for good has lost them.
    pub(super) fn missing(&self, session: SessionId, added: &HashSet<Name>, lost: u64) -> u64 {
        let of_session = self.line.settled.range((session, 0)..=(session, u64::MAX));
        let mut missing = added.clone();
        let mut unnamed = 0;
        for (key, _) in of_session {
            let known = &self.known[key];
            known.gradients.iter().for_each(|name| {
                missing.remove(name);
            });
            unnamed += known.unnamed;
        }
        missing.retain(|name| {
            self.contribution_of
                .get(name)
                .is_none_or(|(_, sequence)| *sequence > lost)
        });
        (missing.len() as u64).saturating_sub(unnamed)
    }

    /// Contributions that some line has accepted and that are not settled in this one, with their samples.
    pub(super) fn lost(&self) -> Vec<(Key, u64)> {
        let lost = self.ever_accepted.iter().filter(|key| !self.is_settled(**key));
        lost.map(|key| (*key, self.known[key].samples)).collect()
    }
}

fn names(contribution: &Contribution) -> Vec<Name> {
    let steps = contribution.step_runs.iter().flat_map(|run| {
        let steps = run.first_step..run.first_step + u64::from(run.count);
        steps.map(|step| (contribution.session, run.ml_module, step))
    });
    steps.collect()
}
