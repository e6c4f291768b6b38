//! The controller's connections: who is at their other ends, and the way to them.

use std::collections::HashMap;
use std::net::SocketAddr;

use bsp::central::ConnectionId;
use bsp::protocol::message::SessionId;

use crate::outbox::{Outbox, Outgoing};

/// All connections.
#[derive(Default)]
pub(super) struct Connections(HashMap<ConnectionId, Connection>);

struct Connection {
    peer: SocketAddr,
    outbox: Outbox,
    /// The session of its volunteer, once it has said hello.
    session: Option<SessionId>,
    /// It is being closed: what still comes from it was sent before its volunteer heard of that.
    is_leaving: bool,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// The session of its volunteer, once it has said hello.
    pub(super) session: Option<SessionId>,
}

impl Connections {
    /// A socket is open.
    pub(super) fn insert(&mut self, id: ConnectionId, peer: SocketAddr, outbox: Outbox) {
        let new = Connection {
            peer,
            outbox,
            session: None,
            is_leaving: false,
        };
        self.0.insert(id, new);
    }

    /// A socket has closed. Returns who was there.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Peer> {
        self.0.remove(&id).map(|connection| connection.peer())
    }

    /// Who is there.
    pub(super) fn peer(&self, id: ConnectionId) -> Option<Peer> {
        self.0.get(&id).map(Connection::peer)
    }

    /// Whether it is being closed.
    pub(super) fn is_leaving(&self, id: ConnectionId) -> bool {
        self.0.get(&id).is_some_and(|connection| connection.is_leaving)
    }

    /// Notes the session of a connection. Returns it if this is news.
    pub(super) fn note_session(&mut self, id: ConnectionId, session: Option<SessionId>) -> Option<SessionId> {
        let connection = self.0.get_mut(&id).filter(|connection| connection.session.is_none())?;
        connection.session = session;
        session
    }

    /// Sends something to it.
    pub(super) fn send(&self, to: ConnectionId, outgoing: Outgoing) {
        if let Some(Connection { peer, outbox, .. }) = self.0.get(&to)
            && let Err(error) = outbox.send(outgoing)
        {
            tracing::warn!("{peer}: {error}");
        }
    }

    /// Closes it, once all that waits for it is sent.
    pub(super) fn close(&mut self, id: ConnectionId) {
        self.send(id, Outgoing::Close);
        if let Some(connection) = self.0.get_mut(&id) {
            connection.is_leaving = true;
        }
    }

    /// Closes all of them.
    pub(super) fn close_all(&self) {
        for connection in self.0.values() {
            let _ = connection.outbox.send(Outgoing::Close);
        }
    }
}

impl Connection {
    fn peer(&self) -> Peer {
        Peer {
            address: self.peer,
            session: self.session,
        }
    }
}
