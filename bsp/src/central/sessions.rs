//! All sessions, and their connections: hellos, farewells, silence.
//!
//! A frame finds its session by a look-up, and deadlines lie in ordered sets (quinn calls such a thing a timer table).
//! So a frame costs O(log sessions), where all sessions count, connected or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ConnectionId;
use super::activity::Activity;
use super::checkpoint::SessionsRecord;
use super::config::Config;
use super::link::LinkTimes;
use super::resting_sessions::RestingSessions;
use super::session::{Codecs, Resting, Session, VolunteerStatus};
use super::timers::{Instants, Timers};
use crate::protocol::codec::Codec;
use crate::protocol::message::{Hello, Refusal, Report, SessionId, Welcome};
use crate::shared_memory::ModelStamp;
use crate::time::{Time, duration_micros};

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: BTreeMap<SessionId, Session>,
    connections: BTreeMap<ConnectionId, SessionId>,
    /// Sessions with a connection.
    connected: BTreeSet<SessionId>,
    timers: Timers,
    /// Sessions that have been without a connection for long.
    resting: RestingSessions,
    last_session: u64,
    /// The current model.
    current: ModelStamp,
}

/// Sessions of an incarnation have numbers above this one, so that no number is given twice.
pub(super) fn first_session(incarnation: u32) -> u64 {
    u64::from(incarnation.saturating_sub(1)) << 32
}

/// The most durable contributions of one session that a volunteer is believed to have lost with a disk: those of twelve
/// days, with one each second. One that says more begins a session anew.
const MAX_GAP: u64 = 1 << 20;

/// The outcome of a hello.
#[derive(Debug, PartialEq)]
pub(super) struct Joined {
    /// The session, new or resumed.
    pub(super) session: SessionId,
    /// The session's earlier connection, which is replaced.
    pub(super) replaced: Option<ConnectionId>,
    /// The number of its contributions that were durable, and are not known here.
    pub(super) gap: u64,
}

/// A model that is to be sent now.
#[derive(Debug, PartialEq)]
pub(super) struct DueModel {
    /// The receiver.
    pub(super) to: ConnectionId,
    /// The model that differences may start from, if the volunteer has one and can read differences.
    pub(super) stored: Option<ModelStamp>,
    /// The model settles the session's contributions up to this number.
    pub(super) settles: u64,
}

impl Sessions {
    /// No sessions yet. They will be sent the model `current`.
    pub(super) fn new(current: ModelStamp) -> Sessions {
        Sessions {
            current,
            ..Sessions::default()
        }
    }

    /// The sessions that a checkpoint holds: all rest until their volunteers come back. They will be sent the model
    /// `current`.
    pub(super) fn resumed(current: ModelStamp, record: SessionsRecord) -> Sessions {
        let incarnation = current.incarnation;
        let mut resting = RestingSessions::resumed(record.last_known, record.last_session, incarnation);
        for session in &record.sessions {
            resting.insert(session.session, Resting::from_record(session));
        }
        Sessions {
            current,
            last_session: first_session(incarnation).max(record.last_session),
            resting,
            ..Sessions::default()
        }
    }

    /// What a checkpoint that is made now holds of them.
    pub(super) fn make_record(&mut self) -> SessionsRecord {
        let mut sessions = self.resting.make_records();
        for (id, session) in &mut self.sessions {
            session.numbers.on_checkpoint();
            sessions.push(Resting::record(*id, &session.numbers, &session.tally));
        }
        sessions.sort_by_key(|session| session.session);
        SessionsRecord {
            last_known: self.resting.last_known().to_vec(),
            last_session: self.last_session,
            sessions,
        }
    }

    /// The last checkpoint that was made is written. Returns the connections of the sessions for which more is durable
    /// now, by session, with the number up to which it is.
    pub(super) fn on_checkpoint_written(&mut self) -> Vec<(ConnectionId, u64)> {
        self.resting.on_checkpoint_written();
        let news = |session: &mut Session| session.connection.zip(session.numbers.on_checkpoint_written());
        self.sessions.values_mut().filter_map(news).collect()
    }

    /// The number of contributions of this session that no checkpoint holds.
    pub(super) fn not_in_checkpoint(&self, id: SessionId) -> u64 {
        self.sessions
            .get(&id)
            .map_or(0, |session| session.numbers.not_in_checkpoint())
    }

    /// A volunteer says hello: its session is opened or resumed, and this is its one connection from now on.
    pub(super) fn on_hello(
        &mut self,
        now: Time,
        from: ConnectionId,
        hello: &Hello,
        config: &Config,
    ) -> Result<Joined, Refusal> {
        let session = match hello.session {
            Some((id, proof)) if proof == config.token_key.token(id) => self.take_up(now, id, config)?,
            Some((id, _)) => return Err(Refusal::SessionOver(id)),
            None => self.open(now, from, config)?,
        };
        // Only a session of an earlier incarnation can have a gap. There it is the volunteer's word.
        let is_of_this_incarnation = session.0 > first_session(self.current.incarnation);
        let durable = if is_of_this_incarnation { 0 } else { hello.durable };
        let gap = self.get(session).map_or(0, |session| session.numbers.gap_to(durable));
        if gap > MAX_GAP {
            return Err(Refusal::SessionOver(session));
        }
        let replaced = self.attach(session, from, config);
        let gap = self.change(session, config, |session| {
            session.activity.last_heard = now;
            session.codecs = Codecs::agreed(hello, config);
            session.activity.on_report(hello.report);
            session.numbers.on_forgotten(durable)
        });
        Ok(Joined {
            session,
            replaced,
            gap: gap.unwrap_or_default(),
        })
    }

    /// Opens a session. A repeated hello on the same connection that names no session opens none.
    fn open(&mut self, now: Time, from: ConnectionId, config: &Config) -> Result<SessionId, Refusal> {
        if let Some(id) = self.connections.get(&from) {
            return Ok(*id);
        }
        self.check_room(config)?;
        self.last_session += 1;
        let id = SessionId(self.last_session);
        self.insert(id, Session::new(now, Resting::default()), config);
        Ok(id)
    }

    /// Takes up a session whose proof is right: one that is here, that rests, or that an earlier incarnation had opened
    /// when it could make no checkpoint any more.
    fn take_up(&mut self, now: Time, id: SessionId, config: &Config) -> Result<SessionId, Refusal> {
        if !self.sessions.contains_key(&id) {
            self.check_room(config)?;
            let resting = self.resting.take(id).ok_or(Refusal::SessionOver(id))?;
            self.insert(id, Session::new(now, resting), config);
        }
        Ok(id)
    }

    fn check_room(&self, config: &Config) -> Result<(), Refusal> {
        let max = config.max_sessions;
        match self.sessions.len() < max {
            true => Ok(()),
            false => Err(Refusal::Full { max }),
        }
    }

    fn insert(&mut self, id: SessionId, session: Session, config: &Config) {
        self.sessions.insert(id, session);
        self.change(id, config, |_| ());
    }

    /// Makes `connection` the session's one connection. Returns the connection that it replaces.
    fn attach(&mut self, id: SessionId, connection: ConnectionId, config: &Config) -> Option<ConnectionId> {
        let session = self.sessions.get_mut(&id)?;
        if session.connection == Some(connection) {
            return None;
        }
        let replaced = session.connection.replace(connection);
        session.on_connected();
        if let Some(replaced) = replaced {
            self.connections.remove(&replaced);
        }
        self.connected.insert(id);
        if let Some(left) = self.connections.insert(connection, id) {
            self.connected.remove(&left);
            self.change(left, config, |left| left.connection = None);
        }
        replaced
    }

    /// A message has come on this connection. Returns its session.
    pub(super) fn on_heard(&mut self, now: Time, from: ConnectionId, config: &Config) -> Result<SessionId, Refusal> {
        let id = *self.connections.get(&from).ok_or(Refusal::HelloFirst)?;
        self.change(id, config, |session| session.activity.last_heard = now)
            .ok_or(Refusal::SessionOver(id))?;
        Ok(id)
    }

    /// A volunteer reports a model as stored. Returns its session.
    pub(super) fn on_stored(
        &mut self,
        now: Time,
        from: ConnectionId,
        stamp: ModelStamp,
        config: &Config,
    ) -> Result<SessionId, Refusal> {
        let id = self.on_heard(now, from, config)?;
        self.change(id, config, |session| session.on_stored(now, stamp));
        Ok(id)
    }

    /// Gradients that the volunteer of this connection has reported as not finite.
    pub(super) fn not_finite(&self, from: ConnectionId) -> u64 {
        let session = self.connections.get(&from).and_then(|id| self.sessions.get(id));
        session.map_or(0, |session| session.activity.report().not_finite)
    }

    /// A heartbeat has come. Returns the session if its volunteer has computed until now, and does no more.
    pub(super) fn on_heartbeat(
        &mut self,
        now: Time,
        from: ConnectionId,
        report: Report,
        config: &Config,
    ) -> Result<Option<SessionId>, Refusal> {
        let id = self.on_heard(now, from, config)?;
        let has_stopped = self.change(id, config, |session| {
            let has_computed = session.activity.is_computing();
            session.activity.on_report(report);
            has_computed && !session.activity.is_computing()
        });
        Ok((has_stopped == Some(true)).then_some(id))
    }

    /// A volunteer leaves for good. Returns the session if its volunteer has computed until now.
    pub(super) fn on_leave(&mut self, from: ConnectionId) -> Result<Option<SessionId>, Refusal> {
        let id = self.connections.remove(&from).ok_or(Refusal::HelloFirst)?;
        let session = self.sessions.remove(&id);
        self.connected.remove(&id);
        self.timers.forget(id);
        Ok(session.filter(|session| session.activity.is_computing()).map(|_| id))
    }

    /// A connection has ended. `now` is the time at which its volunteer was last there, if that is known. Returns the
    /// connection's session if its volunteer has computed until now.
    pub(super) fn on_disconnected(
        &mut self,
        now: Option<Time>,
        connection: ConnectionId,
        config: &Config,
    ) -> Option<SessionId> {
        let id = self.connections.remove(&connection)?;
        self.connected.remove(&id);
        let has_computed = self.change(id, config, |session| {
            session.connection = None;
            if let Some(now) = now {
                session.activity.last_heard = now;
            }
            session.activity.is_computing()
        });
        (has_computed == Some(true)).then_some(id)
    }

    /// Puts the sessions to rest that have been without a connection for too long.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some((at, id)) = self.timers.expiries.first().copied()
            && at <= now
        {
            self.timers.forget(id);
            if let Some(session) = self.sessions.remove(&id) {
                self.resting.insert(id, session.rest());
            }
        }
    }

    /// A version was made: every volunteer that has asked for a model waits for it.
    pub(super) fn on_version_made(&mut self, current: ModelStamp, config: &Config) {
        self.current = current;
        let waiting: Vec<_> = self.timers.waiting.iter().map(|(_, id)| *id).collect();
        for id in waiting {
            self.change(id, config, |_| ());
        }
    }

    /// The newest model is to be sent to this session. Returns what to send now; nothing if it has the model, has one
    /// on its way, or its link rests: then the model is due later. `rest` gives the rest of a link after a model.
    pub(super) fn ask_for_model(
        &mut self,
        now: Time,
        id: SessionId,
        config: &Config,
        rest: impl FnOnce(&LinkTimes) -> Duration,
    ) -> Option<DueModel> {
        let current = self.current;
        self.change(id, config, |session| {
            let to = session.connection?;
            session.delivery.ask();
            if !session.wants_model(current) || session.delivery.next_at() > now {
                return None;
            }
            let stored = session.delivery.stored().filter(|_| session.codecs.can_read_models);
            session.delivery.on_sent(now, current, rest(&session.activity.link));
            Some(DueModel {
                to,
                stored,
                settles: session.numbers.in_model(current.version),
            })
        })?
    }

    /// The sessions to which a model may be sent now, after their links have rested.
    pub(super) fn due_deliveries(&self, now: Time) -> Vec<SessionId> {
        let due = self.timers.deliveries.iter().take_while(|(at, _)| *at <= now);
        let mut due: Vec<_> = due.map(|(_, id)| *id).collect();
        due.sort();
        due
    }

    /// The next instant at which something is due without an event: an expiry, or a model after a rest.
    pub(super) fn next_timeout(&self, now: Time) -> Option<Time> {
        let expiry = self.timers.expiries.first().map(|(at, _)| *at);
        let delivery = self.timers.deliveries.first().map(|(at, _)| (*at).max(now));
        expiry.into_iter().chain(delivery).min()
    }

    /// When the first of the volunteers that sent something within `live_for` stops being expected.
    pub(super) fn next_absence(&self, now: Time, live_for: Duration) -> Option<Time> {
        let live = self.timers.heard.range((now - live_for, SessionId(0))..);
        let (heard, _) = live.into_iter().next()?;
        Some(*heard + live_for + Duration::from_micros(1))
    }

    /// Sets the read-out period of this session by the run's, `run_period`. Its welcome tells it.
    pub(super) fn set_period(&mut self, id: SessionId, run_period: Duration, config: &Config) {
        self.change(id, config, |session| session.activity.set_period(run_period, config));
    }

    /// The answer to a hello of this session.
    pub(super) fn welcome(&self, id: SessionId, config: &Config) -> Result<Welcome, Refusal> {
        let session = self.sessions.get(&id).ok_or(Refusal::SessionOver(id))?;
        Ok(Welcome {
            session: id,
            token: config.token_key.token(id),
            settled: session.numbers.settled(),
            durable: self.durable(id, config),
            is_last_refused: session.numbers.is_last_refused(),
            period_us: duration_micros(session.activity.period()),
            codec: session.codecs.contribution,
        })
    }

    /// Adapts the volunteers' periods to the run's, `run_period`. Returns the connections whose period has changed, by
    /// session, with the new period.
    pub(super) fn change_periods(&mut self, run_period: Duration, config: &Config) -> Vec<(ConnectionId, Duration)> {
        let mut changes = Vec::new();
        for id in &self.connected {
            let Some(session) = self.sessions.get_mut(id) else {
                continue;
            };
            let change = session.activity.adapt_period(run_period, config);
            changes.extend(session.connection.zip(change));
        }
        changes
    }

    /// Contributions of this session up to this number are settled.
    pub(super) fn settled(&self, id: SessionId) -> u64 {
        self.sessions.get(&id).map_or(0, |session| session.numbers.settled())
    }

    /// Contributions of this session up to this number are durable.
    pub(super) fn durable(&self, id: SessionId, config: &Config) -> u64 {
        let durable = |session: &Session| match config.checkpoint_interval {
            Some(_) => session.numbers.durable(),
            None => session.numbers.settled(),
        };
        self.sessions.get(&id).map_or(0, durable)
    }

    /// The codec of this session's contributions.
    pub(super) fn contribution_codec(&self, id: SessionId) -> Codec {
        self.sessions
            .get(&id)
            .map_or(Codec::F32, |session| session.codecs.contribution)
    }

    /// The session with this number.
    pub(super) fn get(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Changes a session, then updates its timers.
    pub(super) fn change<R>(
        &mut self,
        id: SessionId,
        config: &Config,
        change: impl FnOnce(&mut Session) -> R,
    ) -> Option<R> {
        let session = self.sessions.get_mut(&id)?;
        let outcome = change(session);
        let instants = Instants::of_session(session, self.current, config.session_ttl);
        self.timers.set(id, instants);
        Some(outcome)
    }

    /// The model that sessions are sent.
    pub(super) fn current(&self) -> ModelStamp {
        self.current
    }

    /// Checks, in O(1), that the sets belong together.
    pub(super) fn assert_consistent(&self) {
        assert_eq!(
            self.connections.len(),
            self.connected.len(),
            "each connected session has one connection"
        );
        assert_eq!(
            self.timers.instants.len(),
            self.sessions.len(),
            "each session has its timers"
        );
    }

    /// The number of sessions with a connection.
    pub(super) fn connected_count(&self) -> usize {
        self.connected.len()
    }

    /// The session of this connection, if it has one.
    pub(super) fn of_connection(&self, connection: ConnectionId) -> Option<SessionId> {
        self.connections.get(&connection).copied()
    }

    /// The activities of all connected volunteers, by session.
    pub(super) fn activities(&self) -> impl Iterator<Item = (SessionId, &Activity)> + Clone {
        let session = |id: &SessionId| Some((*id, &self.sessions.get(id)?.activity));
        self.connected.iter().filter_map(session)
    }

    /// The sessions of all connections, in the order of the connections.
    pub(super) fn by_connection(&self) -> Vec<SessionId> {
        self.connections.values().copied().collect()
    }

    /// All connections.
    pub(super) fn connections(&self) -> Vec<ConnectionId> {
        self.connections.keys().copied().collect()
    }

    /// The status of all connected volunteers, by session.
    pub(super) fn statuses(&self, now: Time, live_for: Duration) -> impl Iterator<Item = VolunteerStatus> + '_ {
        self.connected
            .iter()
            .filter_map(move |id| self.sessions.get(id)?.status(*id, now, live_for))
    }
}

#[cfg(test)]
mod tests;
