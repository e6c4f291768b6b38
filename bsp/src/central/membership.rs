//! Who belongs to the run: hellos, sessions and their connections, refusals, farewells.

use super::{Action, Central, ConnectionId, Session};
use crate::message::{FromCentral, Hello, PROTOCOL, Refusal, SessionId, Token, Welcome};
use crate::time::{Time, duration_micros};

impl Central {
    pub(super) fn on_hello(
        &mut self,
        now: Time,
        from: ConnectionId,
        hello: &Hello,
        token: Token,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        if hello.protocol != PROTOCOL {
            return Err(Refusal::Protocol {
                theirs: hello.protocol,
                ours: PROTOCOL,
            });
        }
        if self.is_finished {
            return Err(Refusal::Finished);
        }
        if hello.run != self.config.run {
            return Err(Refusal::AnotherRun);
        }
        if hello.spec_hash != self.config.spec_hash {
            return Err(Refusal::AnotherModel);
        }
        let id = match hello.session {
            Some((id, proof)) => match self.sessions.get(&id) {
                Some(session) if session.token == proof => id,
                _ => return Err(Refusal::SessionOver(id)),
            },
            None => self.open_session(now, from, token)?,
        };
        self.attach(id, from, actions);
        self.seen(now, from)?;
        let session = self.sessions.get_mut(&id).ok_or(Refusal::SessionOver(id))?;
        session.on_hello(hello, &self.config);
        let welcome = Welcome {
            session: id,
            token: session.token,
            settled: session.settled,
            durable: session.settled,
            period_us: duration_micros(session.set_period(self.period.current(), &self.config)),
            codec: session.contribution_codec,
        };
        actions.push(Action::Send {
            to: from,
            frame: FromCentral::Welcome(welcome).encode(),
        });
        self.send_model(now, id, actions);
        Ok(())
    }

    /// A new session; a hello that is said again on its own connection without naming one opens none.
    fn open_session(&mut self, now: Time, from: ConnectionId, token: Token) -> Result<SessionId, Refusal> {
        if let Some(id) = self.connections.get(&from) {
            return Ok(*id);
        }
        if self.sessions.len() >= self.config.max_sessions {
            return Err(Refusal::Full {
                max: self.config.max_sessions,
            });
        }
        self.last_session += 1;
        let id = SessionId(self.last_session);
        self.sessions.insert(id, Session::new(now, token));
        Ok(id)
    }

    /// Makes `connection` the session's one connection.
    fn attach(&mut self, id: SessionId, connection: ConnectionId, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        if session.connection == Some(connection) {
            return;
        }
        let replaced = session.connection.replace(connection);
        session.on_connected();
        if let Some(replaced) = replaced {
            self.connections.remove(&replaced);
            actions.push(Action::Disconnect {
                from: replaced,
                reason: None,
            });
        }
        if let Some(other) = self.connections.insert(connection, id)
            && let Some(left) = self.sessions.get_mut(&other)
        {
            left.connection = None;
        }
    }

    pub(super) fn detach(&mut self, connection: ConnectionId) -> Option<&mut Session> {
        let session = self
            .connections
            .remove(&connection)
            .and_then(|id| self.sessions.get_mut(&id))?;
        session.connection = None;
        Some(session)
    }

    pub(super) fn refuse(&mut self, connection: ConnectionId, reason: Refusal, actions: &mut Vec<Action>) {
        self.detach(connection);
        actions.push(Action::Send {
            to: connection,
            frame: FromCentral::Refused(reason.clone()).encode(),
        });
        actions.push(Action::Disconnect {
            from: connection,
            reason: Some(reason),
        });
    }

    /// The session of a connection that has just said something.
    pub(super) fn seen(&mut self, now: Time, from: ConnectionId) -> Result<&mut Session, Refusal> {
        let id = self.connections.get(&from).ok_or(Refusal::HelloFirst)?;
        let session = self.sessions.get_mut(id).ok_or(Refusal::SessionOver(*id))?;
        session.last_seen = now;
        Ok(session)
    }

    pub(super) fn on_leave(&mut self, from: ConnectionId, actions: &mut Vec<Action>) -> Result<(), Refusal> {
        let id = self.connections.remove(&from).ok_or(Refusal::HelloFirst)?;
        self.sessions.remove(&id);
        actions.push(Action::Disconnect { from, reason: None });
        Ok(())
    }
}
