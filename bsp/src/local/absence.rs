//! Absences: the link was lost for a while, or the tab was frozen, and how it was when that ended.

use std::time::Duration;

use super::contributions::Contributions;
use super::{Action, LinkState, Local};
use crate::time::Time;

/// A shorter absence is not worth a word.
const WORTH_A_WORD: Duration = Duration::from_secs(5);

/// An absence that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Return {
    /// When the volunteer was welcomed again.
    pub at: Time,
    /// How long it was away.
    pub away: Duration,
    /// Samples in contributions that were finished and had not reached the server by then.
    pub kept_samples: u64,
    /// How many of these were accepted so far.
    pub accepted_samples: u64,
    /// Whether all of them are acknowledged.
    pub is_settled: bool,
}

/// The present absence, and the last one.
#[derive(Debug, Default)]
pub(super) struct Absence {
    since: Option<Time>,
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    returned: Return,
    /// The number of the last contribution that was kept.
    through: u64,
    accepted_before: u64,
}

impl Absence {
    /// The volunteer is away since then, if it is not away already.
    pub(super) fn begin(&mut self, since: Time) {
        self.since.get_or_insert(since);
    }

    /// It is welcomed, and has heard which of its contributions are settled.
    pub(super) fn end(&mut self, now: Time, contributions: &Contributions) {
        let Some(away) = self.since.take().map(|since| now.since(since)) else {
            return;
        };
        if away < WORTH_A_WORD {
            return;
        }
        let kept_samples = contributions.unsettled_samples();
        self.last = Some(Last {
            returned: Return {
                at: now,
                away,
                kept_samples,
                accepted_samples: 0,
                is_settled: kept_samples == 0,
            },
            through: contributions.next_sequence() - 1,
            accepted_before: contributions.accepted_samples(),
        });
    }

    /// A contribution is settled.
    pub(super) fn on_settled(&mut self, contributions: &Contributions) {
        if let Some(last) = &mut self.last
            && !last.returned.is_settled
        {
            last.returned.accepted_samples = contributions.accepted_samples().saturating_sub(last.accepted_before);
            last.returned.is_settled = contributions.settled() >= last.through;
        }
    }

    /// The last absence that was worth a word.
    pub(super) fn last(&self) -> Option<Return> {
        Some(self.last.as_ref()?.returned)
    }
}

impl Local {
    /// Says hello if the tab must have been frozen before this event. Every event calls this: frames may have waited
    /// as well as time-outs.
    pub(super) fn notice_freeze(&mut self, now: Time, actions: &mut Vec<Action>) {
        if let Some(since) = self.frozen_since(now) {
            self.absence.begin(since);
            self.say_hello(now, actions);
        }
    }

    /// Since when the tab, welcomed by then, must have been frozen before an event at `now`, if it was.
    pub(super) fn frozen_since(&self, now: Time) -> Option<Time> {
        let was_frozen = self.schedule.was_frozen(now) && self.link.state() == LinkState::Welcomed;
        was_frozen.then(|| self.schedule.wake_by())
    }
}
