//! Going back to an earlier model after a divergence.
//!
//! The model goes back, and with it the optimizer and the open superstep. What volunteers were told does not: which of
//! their contributions are settled, and the totals of those that were accepted. So nobody sends anything again, and
//! nothing is counted twice. Accepted samples that the earlier checkpoint has neither in its model nor in its open
//! superstep are in no model from then on.

use super::checkpoint::{Awaited, Checkpoint, SessionRecord, SessionsRecord};
use super::lineage::Lineage;
use super::resting_sessions::RestingSessions;
use super::sessions::first_session;
use super::totals::Totals;
use super::trainer::Setbacks;

/// What a run that has diverged keeps: all but its model.
#[derive(Clone, Debug, PartialEq)]
pub struct Books {
    pub(super) sessions: SessionsRecord,
    pub(super) awaited: Vec<Awaited>,
    pub(super) totals: Totals,
    /// The incarnations that have diverged, that of the run itself included.
    pub(super) diverged: Vec<u32>,
    pub(super) setbacks: Setbacks,
}

impl Books {
    /// The setbacks with this one.
    fn setbacks_with_one_more(&self, rate_factor: f32) -> Setbacks {
        Setbacks {
            count: self.setbacks.count.saturating_add(1),
            rate_factor: self.setbacks.rate_factor * rate_factor,
        }
    }
}

impl Checkpoint {
    /// Where a run that has diverged goes on: at this checkpoint, an earlier one of its own, with the books of the run,
    /// as incarnation `incarnation`. The learning rate is multiplied by `rate_factor` from there on.
    ///
    /// It is the checkpoint of number 0 of its incarnation: once it is written, a restart goes on from here, too.
    #[must_use]
    pub fn with_books(self, books: Books, incarnation: u32, rate_factor: f32) -> Checkpoint {
        let version = self.trainer.version;
        let setbacks = books.setbacks_with_one_more(rate_factor);
        let lineage = Lineage::resumed(self.last_versions, books.diverged, incarnation, version);
        let mut trainer = self.trainer;
        (trainer.incarnation, trainer.setbacks) = (incarnation, setbacks);
        Checkpoint {
            number: 0,
            trainer,
            last_versions: lineage.record(),
            diverged: lineage.diverged().to_vec(),
            sessions: at_version(books.sessions, incarnation, version),
            awaited: books.awaited,
            totals: books.totals.gone_back_to(&self.totals),
            ..self
        }
    }
}

/// The sessions where the model has gone back to `version`. All that they have settled is settled by this model: it
/// holds it, or the open superstep does, or no model ever will.
fn at_version(sessions: SessionsRecord, incarnation: u32, version: u64) -> SessionsRecord {
    let SessionsRecord {
        last_known,
        last_session,
        sessions,
    } = sessions;
    let resting = RestingSessions::resumed(last_known, last_session, incarnation);
    let sessions = sessions.into_iter().map(|session| SessionRecord {
        settled_before: session.settled,
        since: version,
        ..session
    });
    SessionsRecord {
        last_known: resting.last_known().to_vec(),
        last_session: first_session(incarnation).max(last_session),
        sessions: sessions.collect(),
    }
}
