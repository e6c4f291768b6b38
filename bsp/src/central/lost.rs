//! Contributions that were accepted, and then lost with their server before they were durable.
//!
//! Their volunteers have kept them, and send them again. What has not come again when a session would have expired is
//! lost, unless it comes later: then it counts after all. Nothing is known of one contribution for ever, though: after
//! [`REMEMBERED_FOR`], or when more than [`MAX_REMEMBERED`] have not come, only the sum of their samples stays. If one
//! of these comes all the same, it counts, and the sum is too high by it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checkpoint::Awaited;
use crate::protocol::message::SessionId;
use crate::time::Time;

/// How long a server remembers single contributions of servers before it: a volunteer that has been away for a day has
/// been closed.
const REMEMBERED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// The most contributions that are remembered: some five megabytes, and one in a checkpoint.
const MAX_REMEMBERED: usize = 100_000;

/// In a record this session, which no volunteer has, stands for all contributions that are remembered no more.
const NOBODY: SessionId = SessionId(0);

/// Accepted samples that no model holds, and none will, by the cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostSamples {
    /// They were lost with a server before they were durable, and their volunteers have not sent them again in time.
    pub with_volunteers: u64,
    /// The run went back to an earlier model, which does not hold them.
    pub gone_back: u64,
    /// The step that was to hold them made the model diverge, and the run rests since.
    pub diverged: u64,
}

impl LostSamples {
    /// All of them.
    pub fn total(self) -> u64 {
        self.with_volunteers
            .saturating_add(self.gone_back)
            .saturating_add(self.diverged)
    }
}

/// The contributions that have not come again.
#[derive(Debug, Default)]
pub(super) struct Lost {
    samples: BTreeMap<(SessionId, u64), u64>,
    /// Samples of those that are remembered no more.
    forgotten: u64,
    /// Until then they are awaited, …
    awaited_until: Time,
    /// … and until then remembered.
    remembered_until: Time,
}

impl Lost {
    /// From `now` on these contributions are awaited for `session_ttl`.
    pub(super) fn new(awaited: impl IntoIterator<Item = Awaited>, now: Time, session_ttl: Duration) -> Lost {
        let mut lost = Lost {
            awaited_until: now + session_ttl,
            remembered_until: now + session_ttl.max(REMEMBERED_FOR),
            ..Lost::default()
        };
        for Awaited {
            session,
            sequence,
            samples,
        } in awaited
        {
            match session {
                NOBODY => lost.forgotten = lost.forgotten.saturating_add(samples),
                _ => drop(lost.samples.insert((session, sequence), samples)),
            }
        }
        lost.forget_beyond(MAX_REMEMBERED);
        lost
    }

    /// Forgets single contributions when it is time.
    pub(super) fn forget_if_due(&mut self, now: Time) {
        if now >= self.remembered_until {
            self.forget_beyond(0);
        }
    }

    /// Only so many stay, those of the sessions that were opened last.
    fn forget_beyond(&mut self, most: usize) {
        while self.samples.len() > most
            && let Some((_, samples)) = self.samples.pop_first()
        {
            self.forgotten = self.forgotten.saturating_add(samples);
        }
    }

    /// A contribution was settled: accepted, or refused with a reason that its volunteer is told.
    pub(super) fn on_settled(&mut self, session: SessionId, sequence: u64) {
        self.samples.remove(&(session, sequence));
    }

    /// What a checkpoint holds of it.
    pub(super) fn record(&self) -> Vec<Awaited> {
        let awaited = |(&(session, sequence), &samples): (&(SessionId, u64), &u64)| Awaited {
            session,
            sequence,
            samples,
        };
        let forgotten = Awaited {
            session: NOBODY,
            sequence: 0,
            samples: self.forgotten,
        };
        let forgotten = (self.forgotten > 0).then_some(forgotten);
        forgotten.into_iter().chain(self.samples.iter().map(awaited)).collect()
    }

    /// Samples of contributions that may still come again.
    pub(super) fn awaited_samples(&self, now: Time) -> u64 {
        if now < self.awaited_until {
            self.remembered_samples()
        } else {
            0
        }
    }

    /// Samples of contributions that have not come again in time.
    pub(super) fn lost_samples(&self, now: Time) -> u64 {
        let lost = self.remembered_samples() - self.awaited_samples(now);
        self.forgotten.saturating_add(lost)
    }

    fn remembered_samples(&self) -> u64 {
        self.samples.values().copied().fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contribution_is_awaited_then_lost_and_counts_after_all_when_it_comes() {
        let awaited = [(1, 4, 10), (1, 5, 20), (2, 1, 40)].map(|(session, sequence, samples)| Awaited {
            session: SessionId(session),
            sequence,
            samples,
        });
        let ttl = Duration::from_secs(60);
        let until = Time::ZERO + ttl;
        let mut lost = Lost::new(awaited, Time::ZERO, ttl);
        assert_eq!(
            (lost.awaited_samples(Time::ZERO), lost.lost_samples(Time::ZERO)),
            (70, 0)
        );
        lost.on_settled(SessionId(1), 4);
        lost.on_settled(SessionId(3), 4);
        assert_eq!((lost.awaited_samples(until), lost.lost_samples(until)), (0, 60));
        lost.on_settled(SessionId(2), 1);
        assert_eq!((lost.lost_samples(until), lost.record()), (20, vec![awaited[1]]));
    }

    fn contribution(session: u64, samples: u64) -> Awaited {
        Awaited {
            session: SessionId(session),
            sequence: 1,
            samples,
        }
    }

    #[test]
    fn what_has_not_come_for_a_day_becomes_one_number_that_outlives_restarts() {
        let ttl = Duration::from_secs(60);
        let mut lost = Lost::new([contribution(1, 10), contribution(2, 20)], Time::ZERO, ttl);
        let day = Time::ZERO + REMEMBERED_FOR;
        lost.forget_if_due(day - Duration::from_secs(1));
        assert_eq!(lost.record().len(), 2);
        lost.forget_if_due(day);
        assert_eq!((lost.record().len(), lost.lost_samples(day)), (1, 30));
        // The next server awaits another one, and has lost those from its beginning.
        let later = lost.record().into_iter().chain([contribution(9, 5)]);
        let again = Lost::new(later, Time::ZERO, ttl);
        assert_eq!(
            (again.awaited_samples(Time::ZERO), again.lost_samples(Time::ZERO)),
            (5, 30)
        );
    }

    #[test]
    fn the_list_is_bounded_and_the_oldest_sessions_are_forgotten_first() {
        let many = (1..=MAX_REMEMBERED as u64 + 3).map(|session| contribution(session, 2));
        let mut lost = Lost::new(many, Time::ZERO, Duration::from_secs(60));
        assert_eq!(lost.record().len(), MAX_REMEMBERED + 1);
        assert_eq!(lost.lost_samples(Time::ZERO), 3 * 2);
        assert_eq!(lost.awaited_samples(Time::ZERO), 2 * MAX_REMEMBERED as u64);
        lost.on_settled(SessionId(4), 1);
        assert_eq!(lost.record().len(), MAX_REMEMBERED);
    }
}
