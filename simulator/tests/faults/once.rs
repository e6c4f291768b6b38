//! Every gradient is in at most one accepted contribution of the line of models that the current one goes on from, and
//! the totals count what that line holds.
//!
//! A restart goes on from a checkpoint: what was settled after it is no more. So each checkpoint has a copy of what was
//! settled until then.

use std::collections::{BTreeMap, HashMap, HashSet};

use bsp::central::{Central, Checkpoint};
use bsp::protocol::message::{Contribution, SessionId};

use crate::gradients::Name;

/// A contribution: its session and its number.
pub(super) type Key = (SessionId, u64);

/// What was settled, and in which contribution each gradient is.
#[derive(Default)]
pub(super) struct Once {
    contribution_of: HashMap<Name, Key>,
    known: HashMap<Key, Known>,
    /// Contributions that some line has accepted.
    ever_accepted: HashSet<Key>,
    pub(super) line: Line,
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
    pub(super) fn on_settled(&mut self, contribution: &Contribution, is_accepted: bool) {
        let key = (contribution.session, contribution.sequence);
        let gradients = names(contribution);
        let unnamed = contribution.gradients - gradients.len() as u64;
        assert!(
            unnamed == 0 || contribution.step_runs_not_listed > 0,
            "the header disagrees with its runs"
        );
        for name in &gradients {
            let first = *self.contribution_of.entry(*name).or_insert(key);
            assert_eq!(first, key, "gradient {name:?} is in two contributions");
        }
        let line = &mut self.line;
        let before = line.settled.insert(key, is_accepted);
        assert_eq!(before, None, "contribution {key:?} is settled twice in one line");
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

    pub(super) fn on_checkpoint_made(&mut self, checkpoint: &Checkpoint) {
        let totals = checkpoint.totals;
        assert_eq!(
            totals.samples, self.line.samples,
            "the checkpoint holds what was accepted"
        );
        let open: u64 = checkpoint.open.contributions.iter().map(|c| c.samples).sum();
        assert_eq!(
            totals.samples,
            totals.samples_in_model + open,
            "the checkpoint's model and its open superstep hold all that it counts"
        );
        let number = (checkpoint.trainer.incarnation, checkpoint.number);
        self.checkpoints.insert(number, self.line.clone());
    }

    pub(super) fn on_server_started(&mut self, checkpoint: Option<&Checkpoint>) {
        self.line = match checkpoint {
            Some(checkpoint) => self.checkpoints[&(checkpoint.trainer.incarnation, checkpoint.number)].clone(),
            None => Line::default(),
        };
    }

    pub(super) fn check(&self, central: &Central) {
        let (totals, line) = (central.totals(), &self.line);
        assert_eq!(totals.samples, line.samples, "accepted samples of this line");
        assert_eq!(totals.gradients, line.gradients, "accepted gradients of this line");
        assert_eq!(
            (totals.accepted, totals.refused),
            (line.accepted, line.refused),
            "settled contributions of this line"
        );
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
