//! Contributions that were accepted, and then lost with their server before they were durable.
//!
//! Their volunteers have kept them, and send them again. What has not come again when a session would have expired is
//! lost, unless it comes later: then it counts after all.

use std::collections::BTreeMap;

use super::checkpoint::Awaited;
use crate::protocol::message::SessionId;
use crate::time::Time;

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
    /// Until then they are awaited.
    awaited_until: Time,
}

impl Lost {
    /// These contributions are awaited until this time.
    pub(super) fn new(awaited: impl IntoIterator<Item = Awaited>, awaited_until: Time) -> Lost {
        let samples = awaited.into_iter().map(|a| ((a.session, a.sequence), a.samples));
        Lost {
            samples: samples.collect(),
            awaited_until,
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
        self.samples.iter().map(awaited).collect()
    }

    /// Samples of contributions that may still come again.
    pub(super) fn awaited_samples(&self, now: Time) -> u64 {
        if now < self.awaited_until { self.samples() } else { 0 }
    }

    /// Samples of contributions that have not come again in time.
    pub(super) fn lost_samples(&self, now: Time) -> u64 {
        self.samples() - self.awaited_samples(now)
    }

    fn samples(&self) -> u64 {
        self.samples.values().copied().fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_contribution_is_awaited_then_lost_and_counts_after_all_when_it_comes() {
        let awaited = [(1, 4, 10), (1, 5, 20), (2, 1, 40)].map(|(session, sequence, samples)| Awaited {
            session: SessionId(session),
            sequence,
            samples,
        });
        let until = Time::ZERO + Duration::from_secs(60);
        let mut lost = Lost::new(awaited, until);
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
}
