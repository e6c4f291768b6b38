//! Sessions that have been without a connection for long: a tab that is frozen, offline, or closed.
//!
//! Their numbers stay, since such a tab may come back with contributions that it has kept. Without its numbers they
//! could be counted twice.

use std::collections::BTreeMap;

use super::checkpoint::SessionRecord;
use super::session::Resting;
use super::sessions::first_session;
use crate::protocol::message::SessionId;

/// The most sessions that rest. Each takes about a hundred bytes here and fifty in a checkpoint. Beyond that the one
/// that was opened first is over.
const MAX_RESTING: usize = 100_000;

/// Sessions that have been without a connection for long.
#[derive(Debug, Default)]
pub(super) struct RestingSessions {
    sessions: BTreeMap<SessionId, Resting>,
    /// For each incarnation before this one, the last session that a checkpoint knew of, or that is over. Later ones of
    /// that incarnation were opened when no checkpoint was made any more: nothing of them is settled.
    last_known: Vec<u64>,
}

impl RestingSessions {
    /// None rests yet. The checkpoint that the run goes on from as `incarnation` has known sessions up to
    /// `last_session`, and this list of earlier ones.
    pub(super) fn resumed(last_known: Vec<u64>, last_session: u64, incarnation: u32) -> RestingSessions {
        let mut known = last_known;
        known.push(last_session);
        // Incarnations that made no checkpoint.
        while known.len() + 1 < incarnation as usize {
            known.push(first_session(known.len() as u32 + 1));
        }
        known.truncate(incarnation.saturating_sub(1) as usize);
        RestingSessions {
            sessions: BTreeMap::new(),
            last_known: known,
        }
    }

    /// For each incarnation before this one, the last session of which anything is known.
    pub(super) fn last_known(&self) -> &[u64] {
        &self.last_known
    }

    /// A session rests from now on.
    pub(super) fn insert(&mut self, id: SessionId, resting: Resting) {
        self.sessions.insert(id, resting);
        if self.sessions.len() > MAX_RESTING {
            self.make_room();
        }
    }

    /// Nothing of a session without a settled contribution can be counted twice, so such a one is over first.
    fn make_room(&mut self) {
        let empty = self.sessions.iter().find(|(_, resting)| resting.numbers.settled() == 0);
        if let Some(empty) = empty.map(|(id, _)| *id) {
            self.sessions.remove(&empty);
        } else if let Some((over, _)) = self.sessions.pop_first()
            && let Some(last) = self.last_known.get_mut(incarnation_of(over))
        {
            *last = (*last).max(over.0);
        }
    }

    /// A session goes on. `None` if it is over, or was never opened.
    pub(super) fn take(&mut self, id: SessionId) -> Option<Resting> {
        self.sessions.remove(&id).or_else(|| {
            let last_known = self.last_known.get(incarnation_of(id))?;
            (id.0 > *last_known).then(Resting::default)
        })
    }

    /// A checkpoint is made: what it holds of them.
    pub(super) fn make_records(&mut self) -> Vec<SessionRecord> {
        let records = self.sessions.iter_mut().map(|(id, resting)| {
            resting.numbers.on_checkpoint();
            Resting::record(*id, &resting.numbers, &resting.tally)
        });
        records.collect()
    }

    /// The last checkpoint that was made is written.
    pub(super) fn on_checkpoint_written(&mut self) {
        for resting in self.sessions.values_mut() {
            resting.numbers.on_checkpoint_written();
        }
    }
}

/// The incarnation that has opened a session, counted from 0.
fn incarnation_of(SessionId(id): SessionId) -> usize {
    (id.saturating_sub(1) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1 << 32;

    #[test]
    fn a_session_rests_until_it_goes_on_and_is_not_there_twice() {
        let mut sessions = RestingSessions::default();
        sessions.insert(SessionId(3), Resting::default());
        assert!(sessions.take(SessionId(3)).is_some());
        assert!(sessions.take(SessionId(3)).is_none() && sessions.take(SessionId(4)).is_none());
    }

    #[test]
    fn a_session_that_was_opened_after_the_last_checkpoint_of_its_incarnation_goes_on() {
        // The first incarnation's checkpoint has known 7 sessions; the second and third have made none.
        let mut sessions = RestingSessions::resumed(Vec::new(), 7, 4);
        assert_eq!(sessions.last_known(), [7, SECOND, 2 * SECOND]);
        for (id, goes_on) in [
            (7, false),
            (8, true),
            (SECOND, true),
            (SECOND + 1, true),
            (3 * SECOND, true),
            (3 * SECOND + 1, false),
        ] {
            assert_eq!(sessions.take(SessionId(id)).is_some(), goes_on, "session {id}");
        }
    }

    #[test]
    fn what_is_over_for_want_of_room_stays_over() {
        let mut sessions = RestingSessions::resumed(Vec::new(), 0, 2);
        let insert = |sessions: &mut RestingSessions, id| {
            let mut resting = Resting::default();
            resting.numbers.settle_next(0);
            sessions.insert(SessionId(id), resting);
        };
        sessions.insert(SessionId(5), Resting::default());
        for id in (1..=MAX_RESTING as u64 + 2).filter(|id| *id != 5) {
            insert(&mut sessions, id);
        }
        // The one without a settled contribution went first, and then the one that was opened first.
        assert!(sessions.take(SessionId(1)).is_none() && sessions.take(SessionId(2)).is_some());
        assert_eq!(sessions.make_records().len(), MAX_RESTING - 1);
    }
}
