//! The link to the central module: how it is, and when to try again.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::estimators::WindowedMin;
use crate::protocol::message::Report;
use crate::time::{Time, duration_micros};

/// The first wait before a reconnect. It doubles with each failure, …
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A link is broken if an answer is due and nothing has come for this long, …
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// … unless contributions take longer: then the limit is twice the time of the last one. When one is given up, the
/// limit doubles, up to this. Otherwise a link that is too slow would send the same contribution again for ever.
const LONGEST_ANSWER_WITHIN: Duration = Duration::from_secs(1280);

/// A volunteer that has sent nothing for this long sends a heartbeat.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// How the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// It is closed, and will be opened later.
    Down,
    /// It is being opened.
    Connecting,
    /// A hello was sent, and its answer has not come.
    Greeting,
    /// Contributions may travel.
    Welcomed,
    /// It is over, for good.
    Ended,
}

/// The link.
#[derive(Debug)]
pub(super) struct Link {
    state: LinkState,
    /// When the state began; for `Down`, when to connect.
    at: Time,
    backoff: Backoff,
    last_sent: Time,
    last_heard: Time,
    /// How long the answer to a contribution may take.
    answer_within: Duration,
    /// When the contribution was sent that is not acknowledged yet.
    contribution_on_its_way: Option<Time>,
    /// The central module has said that it stops and will be back.
    is_back_soon: bool,
    /// The central module had no room at the last hello.
    has_no_room: bool,
    times: Times,
}

/// The times that messages take.
#[derive(Debug, Default)]
struct Times {
    /// From sending a contribution to its acknowledgement, less the round trip.
    upload: WindowedMin,
    /// The shortest time from a hello to its welcome: what no bandwidth shortens.
    round_trip: Option<Duration>,
}

impl Times {
    /// A welcome came this long after its hello.
    fn on_welcomed(&mut self, newest: Duration) {
        self.round_trip = Some(self.round_trip.map_or(newest, |shortest| shortest.min(newest)));
    }

    /// An acknowledgement came this long after its contribution was sent.
    fn on_settled(&mut self, took: Duration) {
        self.upload.push(took.saturating_sub(self.round_trip()));
    }

    /// The time that the shortest message and its answer take.
    fn round_trip(&self) -> Duration {
        self.round_trip.unwrap_or_default()
    }
}

impl Link {
    /// A link that wants to be opened at once.
    pub(super) fn new(now: Time, jitter_seed: u64) -> Link {
        Link {
            state: LinkState::Down,
            at: now,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT, jitter_seed),
            last_sent: now,
            last_heard: now,
            answer_within: ANSWER_WITHIN,
            contribution_on_its_way: None,
            is_back_soon: false,
            has_no_room: false,
            times: Times::default(),
        }
    }

    /// How the link is.
    pub(super) fn state(&self) -> LinkState {
        self.state
    }

    /// The time of the next heartbeat, if nothing else is sent before.
    pub(super) fn heartbeat_due(&self) -> Time {
        self.last_sent + HEARTBEAT
    }

    /// Whether a contribution is on its way that is not acknowledged yet.
    pub(super) fn has_contribution_on_its_way(&self) -> bool {
        self.contribution_on_its_way.is_some()
    }

    /// A contribution is sent.
    pub(super) fn on_contribution_sent(&mut self, now: Time) {
        self.last_sent = now;
        self.contribution_on_its_way = Some(now);
    }

    /// A frame has come, or the link is open.
    pub(super) fn on_heard(&mut self, now: Time) {
        self.last_heard = now;
    }

    /// Another message is sent.
    pub(super) fn on_sent(&mut self, now: Time) {
        self.last_sent = now;
    }

    /// A hello is sent.
    pub(super) fn on_greeting(&mut self, now: Time) {
        (self.state, self.at) = (LinkState::Greeting, now);
        self.last_sent = now;
        self.contribution_on_its_way = None;
    }

    /// A welcome has come.
    pub(super) fn on_welcomed(&mut self, now: Time) {
        if self.state == LinkState::Greeting {
            self.times.on_welcomed(now.since(self.at));
        }
        self.state = LinkState::Welcomed;
        self.is_back_soon = false;
        self.has_no_room = false;
        self.backoff.on_success();
    }

    /// The central module has said that it stops and will be back.
    pub(super) fn on_back_soon(&mut self) {
        self.is_back_soon = true;
    }

    /// Whether it has said so, and is not back yet.
    pub(super) fn is_back_soon(&self) -> bool {
        self.is_back_soon
    }

    /// The central module has no room at present.
    pub(super) fn on_no_room(&mut self) {
        self.has_no_room = true;
    }

    /// Whether it had none at the last hello that was answered.
    pub(super) fn has_no_room(&self) -> bool {
        self.has_no_room
    }

    /// The central module has said which contributions are settled.
    pub(super) fn on_settled(&mut self, now: Time) {
        if let Some(since) = self.contribution_on_its_way.take() {
            let took = now.since(since);
            self.answer_within = (2 * took).clamp(ANSWER_WITHIN, LONGEST_ANSWER_WITHIN);
            self.times.on_settled(took);
        }
    }

    /// The report of the ML modules, with the link's times.
    pub(super) fn report(&self, ml_modules: Report) -> Report {
        Report {
            upload_us: duration_micros(self.times.upload.get()),
            round_trip_us: duration_micros(self.times.round_trip()),
            ..ml_modules
        }
    }

    /// The link is given up, because an answer did not come.
    pub(super) fn on_overdue(&mut self) {
        if self.contribution_on_its_way.is_some() {
            self.answer_within = (2 * self.answer_within).min(LONGEST_ANSWER_WITHIN);
        }
    }

    /// The link is closed. It is opened again after a wait.
    pub(super) fn on_closed(&mut self, now: Time) {
        if self.state == LinkState::Ended || self.state == LinkState::Down {
            return;
        }
        self.state = LinkState::Down;
        self.at = now + self.backoff.on_failure();
        self.contribution_on_its_way = None;
    }

    /// The link is over, for good.
    pub(super) fn on_ended(&mut self) {
        self.state = LinkState::Ended;
    }

    /// Begins to connect if it is time to. Returns whether it did.
    pub(super) fn connect_if_due(&mut self, now: Time) -> bool {
        let is_time = self.state == LinkState::Down && now >= self.at;
        if is_time {
            (self.state, self.at) = (LinkState::Connecting, now);
        }
        is_time
    }

    /// Since when it waits for an answer; `None` if no answer is due.
    pub(super) fn waiting_since(&self) -> Option<Time> {
        Some(self.answer_due()?.min(self.last_heard))
    }

    /// Whether an answer has been due for too long.
    pub(super) fn is_overdue(&self, now: Time) -> bool {
        self.answer_due().is_some_and(|due| now > due)
    }

    /// When to connect, or when an answer is overdue; the end of time if neither is due.
    pub(super) fn next_timeout(&self) -> Time {
        match self.state {
            LinkState::Down => self.at,
            _ => self
                .answer_due()
                .map_or(Time::from_micros(u64::MAX), |due| due + Duration::from_micros(1)),
        }
    }

    /// When the link is given up if no answer comes; `None` if no answer is due.
    fn answer_due(&self) -> Option<Time> {
        let (since, within) = match self.state {
            LinkState::Down | LinkState::Ended => return None,
            LinkState::Connecting | LinkState::Greeting => (self.at, ANSWER_WITHIN),
            LinkState::Welcomed => (self.contribution_on_its_way?, self.answer_within),
        };
        Some(since.max(self.last_heard) + within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_never_repeat_exactly() {
        let mut link = Link::new(Time::ZERO, 7);
        let mut now = Time::ZERO;
        let mut waits = Vec::new();
        for _ in 0..12 {
            assert!(link.connect_if_due(now));
            link.on_closed(now);
            let wait = link.next_timeout().since(now);
            now = link.next_timeout();
            waits.push(wait);
        }
        assert!(waits[0] >= FIRST_WAIT / 2 && waits[0] <= FIRST_WAIT);
        assert!(waits.iter().all(|wait| *wait <= LONGEST_WAIT));
        assert!(waits[8..].iter().all(|wait| *wait >= LONGEST_WAIT / 2));
        assert_ne!(waits[10], waits[11]);
    }

    #[test]
    fn a_link_that_never_answers_is_given_up() {
        let mut link = Link::new(Time::ZERO, 7);
        assert!(link.connect_if_due(Time::ZERO));
        link.on_greeting(Time::ZERO);
        assert!(!link.is_overdue(Time::ZERO + ANSWER_WITHIN));
        assert!(link.is_overdue(link.next_timeout()));
    }
}
