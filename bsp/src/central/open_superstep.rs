//! The open superstep: its contributions, and the sessions that they came from.

use std::collections::{BTreeMap, BTreeSet};

use super::checkpoint::{ContributionRecord, OpenRecord};
use super::trainer::ClosedSuperstep;
use crate::combine::Admitted;
use crate::local::kept_contributions;
use crate::protocol::codec::{CodecError, Encoded};
use crate::protocol::message::SessionId;
use crate::time::Time;

/// With so many contributions of one session an open superstep is full, however few samples it holds. An honest
/// volunteer has one or two, or a few when the period has just changed or the superstep was too small to close. Each
/// costs as much memory as the model.
const FULL: usize = 16;

/// The most contributions of one session in an open superstep of a model of `parameters` parameters. Beyond what makes
/// it full, there is room for all that a volunteer has kept: after a lost link or a restart they come at once.
pub(super) fn max_contributions(parameters: usize) -> usize {
    FULL + kept_contributions(parameters)
}

/// The contributions of the open superstep.
#[derive(Debug)]
pub(super) struct OpenSuperstep {
    opened: Time,
    /// When its first contribution came.
    holds_samples_since: Option<Time>,
    contributions: Vec<Admitted>,
    samples: u64,
    loss_sum: f64,
    /// The sessions that have contributed, and how often.
    contributors: BTreeMap<SessionId, usize>,
    /// The sessions that it does not wait for any more. A session with only late contributions is not among them.
    arrived: BTreeSet<SessionId>,
    quorum: Quorum,
}

/// Whether enough samples have come: then only a grace window is left to the missing volunteers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Quorum {
    /// Whether they have come as of now. It may become false again when more volunteers are expected.
    pub(super) is_there: bool,
    /// When they had come for the first time.
    pub(super) since: Option<Time>,
}

impl OpenSuperstep {
    /// A superstep that opens now.
    pub(super) fn open_at(now: Time) -> OpenSuperstep {
        OpenSuperstep {
            opened: now,
            holds_samples_since: None,
            contributions: Vec::new(),
            samples: 0,
            loss_sum: 0.0,
            contributors: BTreeMap::new(),
            arrived: BTreeSet::new(),
            quorum: Quorum::default(),
        }
    }

    /// A superstep that opens now with the contributions that a checkpoint holds for a model of `parameters`
    /// parameters. It waits for all of their volunteers again, who may have more by now.
    ///
    /// # Errors
    /// A contribution does not fit the model.
    pub(super) fn resumed(now: Time, record: OpenRecord, parameters: usize) -> Result<OpenSuperstep, CodecError> {
        let mut open = OpenSuperstep::open_at(now);
        for contribution in record.contributions {
            let ContributionRecord { codec, payload, .. } = contribution;
            let admitted = Admitted {
                session: contribution.session,
                sequence: contribution.sequence,
                samples: contribution.samples,
                version: contribution.version,
                steps: contribution.steps,
                gradient: Encoded::new(codec, payload, parameters)?,
            };
            open.add(now, admitted, 0.0, false);
        }
        open.loss_sum = record.loss_sum;
        Ok(open)
    }

    /// What a checkpoint holds of it.
    pub(super) fn record(&self) -> OpenRecord {
        let record = |admitted: &Admitted| ContributionRecord {
            session: admitted.session,
            sequence: admitted.sequence,
            samples: admitted.samples,
            version: admitted.version,
            steps: admitted.steps,
            codec: admitted.gradient.codec(),
            payload: admitted.gradient.payload().clone(),
        };
        OpenRecord {
            contributions: self.contributions.iter().map(record).collect(),
            loss_sum: self.loss_sum,
        }
    }

    /// Adds a contribution. `is_in_time` says that the superstep need not wait for this volunteer any more. Returns
    /// whether that is news.
    pub(super) fn add(&mut self, now: Time, contribution: Admitted, loss_sum: f64, is_in_time: bool) -> bool {
        self.holds_samples_since.get_or_insert(now);
        self.samples = self.samples.saturating_add(contribution.samples);
        self.loss_sum += loss_sum;
        *self.contributors.entry(contribution.session).or_default() += 1;
        let is_news = is_in_time && self.arrived.insert(contribution.session);
        self.contributions.push(contribution);
        is_news
    }

    /// It does not wait for this volunteer: its contribution was refused, and no other is due. Returns whether that is
    /// news.
    pub(super) fn count_as_arrived(&mut self, session: SessionId) -> bool {
        self.arrived.insert(session)
    }

    /// Notes whether there is a quorum now.
    pub(super) fn note_quorum(&mut self, now: Time, is_there: bool) {
        self.quorum.is_there = is_there;
        if is_there {
            self.quorum.since.get_or_insert(now);
        }
    }

    /// When it was opened: the time at which the current version was made.
    pub(super) fn opened(&self) -> Time {
        self.opened
    }

    /// When its first contribution came.
    pub(super) fn holds_samples_since(&self) -> Option<Time> {
        self.holds_samples_since
    }

    /// Samples in it.
    pub(super) fn samples(&self) -> u64 {
        self.samples
    }

    /// Whether the volunteer of a session is not waited for any more.
    pub(super) fn has_arrived(&self, session: SessionId) -> bool {
        self.arrived.contains(&session)
    }

    /// Whether any volunteer has contributed in time.
    pub(super) fn has_arrivals(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// Its quorum.
    pub(super) fn quorum(&self) -> Quorum {
        self.quorum
    }

    /// Whether it can take another contribution of this session, where `most` are taken.
    pub(super) fn has_room_for(&self, session: SessionId, most: usize) -> bool {
        self.contributors.get(&session).is_none_or(|count| *count < most)
    }

    /// Whether no session has filled it.
    pub(super) fn has_room_for_all(&self) -> bool {
        self.contributors.values().all(|count| *count < FULL)
    }

    /// The contributions in it, for the trainer, which sorts them.
    pub(super) fn contributions_mut(&mut self) -> &mut [Admitted] {
        &mut self.contributions
    }

    /// The sessions of its contributions, in the same order.
    pub(super) fn sessions(&self) -> Vec<SessionId> {
        self.contributions.iter().map(|c| c.session).collect()
    }

    /// Checks, in O(1), that its sums belong to its contributions.
    pub(super) fn assert_consistent(&self) {
        let is_empty = self.contributions.is_empty();
        assert!(
            is_empty == (self.samples == 0) && is_empty == self.holds_samples_since.is_none(),
            "a superstep holds samples from its first contribution on"
        );
    }

    /// Its summary, after it made version `version` at `now`. `weight_of` gives a sample's weight by its staleness.
    pub(super) fn summary(&self, now: Time, version: u64, weight_of: impl Fn(f64) -> f64) -> ClosedSuperstep {
        let sum = self
            .contributions
            .iter()
            .map(|c| c.samples)
            .fold(0, u64::saturating_add);
        assert_eq!(self.samples, sum, "a superstep holds the samples of its contributions");
        let counted: usize = self.contributors.values().sum();
        assert_eq!(
            self.contributions.len(),
            counted,
            "each contribution is counted for its session"
        );
        let samples = self.samples as f64;
        let mean = |value_of: &dyn Fn(f64) -> f64| {
            let staleness = |c: &Admitted| (version - 1) as f64 - c.version;
            let values = self
                .contributions
                .iter()
                .map(|c| value_of(staleness(c)) * c.samples as f64);
            values.sum::<f64>() / samples
        };
        ClosedSuperstep {
            version,
            contributions: self.contributions.len(),
            samples: self.samples,
            loss: self.loss_sum / samples,
            staleness: mean(&|staleness| staleness),
            weight: mean(&weight_of),
            open_for: now.since(self.opened),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::central::test_config::test_contribution;

    /// A superstep with one contribution.
    fn with_one() -> OpenSuperstep {
        let mut open = OpenSuperstep::open_at(Time::ZERO);
        open.assert_consistent();
        open.add(Time::ZERO, test_contribution(), 2.0, true);
        open.assert_consistent();
        open
    }

    #[test]
    fn a_summary_holds_the_means_over_samples() {
        let closed = with_one().summary(Time::from_micros(7), 4, |staleness| 1.0 / (1.0 + staleness));
        assert_eq!((closed.samples, closed.contributions, closed.loss), (8, 1, 0.25));
        // It was computed on version 0, and version 3 was the current one.
        assert_eq!((closed.staleness, closed.weight), (3.0, 0.25));
        assert_eq!(closed.open_for.as_micros(), 7);
    }

    #[test]
    #[should_panic(expected = "a superstep holds samples from its first contribution on")]
    fn a_contribution_without_samples_is_noticed() {
        let mut open = OpenSuperstep::open_at(Time::ZERO);
        let samples = 0;
        open.add(
            Time::ZERO,
            Admitted {
                samples,
                ..test_contribution()
            },
            0.0,
            true,
        );
        open.assert_consistent();
    }

    #[test]
    #[should_panic(expected = "a superstep holds the samples of its contributions")]
    fn a_sample_of_no_contribution_is_noticed() {
        let mut open = with_one();
        open.samples += 1;
        open.summary(Time::ZERO, 1, |_| 1.0);
    }

    #[test]
    #[should_panic(expected = "each contribution is counted for its session")]
    fn a_contribution_of_no_session_is_noticed() {
        let mut open = with_one();
        open.contributors.clear();
        open.summary(Time::ZERO, 1, |_| 1.0);
    }
}
