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
    /// When it closes if nothing more comes, by the last review.
    closes_at: Option<Time>,
    reviews: Reviews,
    policy: Policy,
}

/// The outcome of a review.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The superstep closes now.
    Close,
    /// It waits for more.
    Wait,
    /// It waits for more, and holds little. The first superstep is open for many of the shortest periods. The period
    /// adapts meanwhile, so that volunteers don't go on at that rate.
    WaitAndAdapt,
}

/// How an accepted contribution relates to the current model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// Its volunteer had stored the current model.
    pub(super) has_current: bool,
    /// It is its volunteer's first contribution since it stored a model.
    pub(super) follows_model: bool,
    /// A part of it was computed on an earlier model.
    pub(super) is_late: bool,
}

impl Supersteps {
    /// Begins with this superstep.
    pub(super) fn new(open: OpenSuperstep, config: &Config) -> Supersteps {
        Supersteps {
            open,
            closes_at: None,
            reviews: Reviews::default(),
            policy: Policy::new(config),
        }
    }

    /// The rules by which they close.
    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The open superstep.
    pub(super) fn open(&self) -> &OpenSuperstep {
        &self.open
    }

    /// A contribution was accepted.
    pub(super) fn on_accepted(&mut self, now: Time, contribution: Admitted, loss_sum: f64, arrival: Arrival) {
        if arrival.follows_model && arrival.has_current {
            self.policy.on_contribution(now, self.open.opened());
        }
        let is_in_time = self.policy.is_in_time(arrival.has_current, arrival.is_late);
        if self.open.add(now, contribution, loss_sum, is_in_time) {
            self.reviews.on_arrival();
        }
    }

    /// A contribution was refused; `is_late` says that a part of it was computed on an earlier model.
    pub(super) fn on_refused(&mut self, session: SessionId, is_late: bool) {
        if self.policy.is_refused_in_time(is_late) && self.open.count_as_arrived(session) {
            self.reviews.on_arrival();
        }
    }

    /// The volunteer of this session has paused or left.
    pub(super) fn on_absence(&mut self, session: SessionId) {
        if !self.open.has_arrived(session) {
            self.reviews.on_arrival();
        }
    }

    /// A frame has come, or a connection has ended. Returns whether a review is due.
    pub(super) fn on_event(&mut self) -> bool {
        self.reviews.on_event();
        self.reviews.is_due()
    }

    /// A time-out has come: a review follows.
    pub(super) fn on_timeout(&mut self) {
        self.reviews.on_timeout();
    }

    /// Looks at all connected volunteers, and decides whether the open superstep closes.
    pub(super) fn review(&mut self, now: Time, sessions: &Sessions) -> Verdict {
        let expected = self.policy.expected(now, sessions.activities());
        let has_quorum = self.policy.has_quorum(now, &self.open, &expected);
        self.open.note_quorum(now, has_quorum);
        self.closes_at = self.policy.closes_at(now, &self.open, &expected);
        let missing = self.policy.missing(&self.open, &expected);
        let looks = self.policy.looks_of_a_review(sessions.connected_count());
        self.reviews.on_review(looks, missing);
        match self.closes_at {
            Some(at) if at <= now => Verdict::Close,
            _ if self.policy.is_too_small(&self.open) => Verdict::WaitAndAdapt,
            _ => Verdict::Wait,
        }
    }

    /// The open superstep closes, and the next one opens.
    pub(super) fn close(&mut self, now: Time) -> OpenSuperstep {
        self.closes_at = None;
        self.reviews = Reviews::default();
        std::mem::replace(&mut self.open, OpenSuperstep::open_at(now))
    }

    /// Lets the period follow the volunteers. Returns whether the policy has such a period.
    pub(super) fn adapt<'a>(
        &mut self,
        now: Time,
        volunteers: impl Iterator<Item = (SessionId, &'a Activity)>,
        config: &Config,
    ) -> bool {
        self.policy.adapt(now, volunteers, config)
    }

    /// The next review if nothing comes: at its closing, or when a volunteer that it waits for stops being live.
    pub(super) fn next_look(&self, now: Time, sessions: &Sessions) -> Option<Time> {
        self.open.holds_samples_since()?;
        let absence = sessions.next_absence(now, self.live_for());
        absence.into_iter().chain(self.closes_at).min().map(|at| at.max(now))
    }

    /// The time after a volunteer's last message in which a contribution of it is expected.
    pub(super) fn live_for(&self) -> Duration {
        self.policy.live_for()
    }
}
