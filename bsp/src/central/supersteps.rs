//! One superstep after the other: the open one, and the policy by which it closes.

use std::time::Duration;

use super::activity::Activity;
use super::config::Config;
use super::open_superstep::OpenSuperstep;
use super::policy::Policy;
use super::reviews::Reviews;
use super::sessions::Sessions;
use crate::combine::Admitted;
use crate::protocol::message::SessionId;
use crate::time::Time;

/// The open superstep, and when it closes.
#[derive(Debug)]
pub(super) struct Supersteps {
    open: OpenSuperstep,
    /// When it closes if nothing more comes, as the last review has found.
    closes_at: Option<Time>,
    reviews: Reviews,
    policy: Policy,
}

/// What a review has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The superstep closes now.
    Close,
    /// It waits for more.
    Wait,
    /// It waits for more, and holds little. The first superstep is open for many of the shortest periods, and no volunteer may
    /// keep that rate: the period is to adapt meanwhile.
    WaitAndAdapt,
}

/// How a contribution that was accepted stands to the current model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Its volunteer had stored the current model.
    pub(super) has_current: bool,
    /// It is its volunteer's first one since it stored a model.
    pub(super) follows_model: bool,
    /// Some of it was computed on an earlier model.
    pub(super) is_late: bool,
}

impl Supersteps {
    /// The first one opens now.
    pub(super) fn new(now: Time, config: &Config) -> Supersteps {
        Supersteps {
            open: OpenSuperstep::open_at(now),
            closes_at: None,
            reviews: Reviews::default(),
            policy: Policy::new(config),
        }
    }

    /// By which rules they close.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The open one.
    pub(super) fn open(&self) -> &OpenSuperstep {
        &self.open
    }

    /// A contribution was accepted.
    pub(super) fn on_accepted(&mut self, now: Time, contribution: Admitted, loss_sum: f64, arrival: Arrival) {
        if arrival.follows_model && arrival.has_current {
            self.policy.on_contribution(now, self.open.opened());
        }
        let is_in_time = self.policy.is_in_time(arrival.has_current, arrival.is_late);
        self.open.add(now, contribution, loss_sum, is_in_time);
        self.reviews.on_arrival();
    }

    /// A contribution was refused; `is_late` says that some of it was computed on an earlier model.
    pub(super) fn on_refused(&mut self, session: SessionId, is_late: bool) {
        if self.policy.is_refused_in_time(is_late) {
            self.open.count_as_arrived(session);
            self.reviews.on_arrival();
        }
    }

    /// A volunteer that may have been waited for has paused or gone.
    pub(super) fn on_absence(&mut self) {
        self.reviews.on_arrival();
    }

    /// A frame has come, or a connection has ended: whether a review is due.
    pub(super) fn on_event(&mut self) -> bool {
        self.reviews.on_event();
        self.reviews.is_due()
    }

    /// Looks at all connected volunteers: whether the open superstep closes.
    pub(super) fn review(&mut self, now: Time, sessions: &Sessions) -> Verdict {
        let expected = self.policy.expected(now, sessions.activities());
        let has_quorum = self.policy.has_quorum(now, &self.open, &expected);
        self.open.note_quorum(now, has_quorum);
        self.closes_at = self.policy.closes_at(now, &self.open, &expected);
        let missing = self.policy.missing(&self.open, &expected);
        self.reviews.on_review(sessions.connected_count(), missing);
        match self.closes_at {
            Some(at) if at <= now => Verdict::Close,
            _ if self.policy.is_too_small(&self.open) => Verdict::WaitAndAdapt,
            _ => Verdict::Wait,
        }
    }

    /// The open superstep closes, and the next one opens.
    pub(super) fn close(&mut self, now: Time) -> OpenSuperstep {
        self.closes_at = None;
        std::mem::replace(&mut self.open, OpenSuperstep::open_at(now))
    }

    /// Lets the period follow the volunteers; whether the policy has one that does.
    pub(super) fn adapt<'a>(
        &mut self,
        now: Time,
        volunteers: impl Iterator<Item = (SessionId, &'a Activity)>,
        config: &Config,
    ) -> bool {
        self.policy.adapt(now, volunteers, config)
    }

    /// When to look again whether the open superstep closes, if nothing comes: at its closing, or when a volunteer that it
    /// waits for stops being live.
    pub(super) fn next_look(&self, now: Time, sessions: &Sessions) -> Option<Time> {
        self.open.holds_samples_since()?;
        let absence = sessions.next_absence(now, self.live_for());
        absence.into_iter().chain(self.closes_at).min().map(|at| at.max(now))
    }

    /// For how long after its last message a contribution can be expected of a volunteer.
    pub(super) fn live_for(&self) -> Duration {
        self.policy.live_for()
    }
}
