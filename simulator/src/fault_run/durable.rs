//! What was called durable is there after any crash, unless the disk has lied.

use std::collections::HashMap;

use bsp::central::{Checkpoint, ConnectionId};
use bsp::protocol::message::{FromCentral, SessionId};

use super::invariants::{Checks, Invariant};
use super::once::Once;

/// What volunteers were told.
#[derive(Default)]
pub(super) struct Durable {
    session_of: HashMap<ConnectionId, SessionId>,
    /// The number up to which contributions of each session were called durable.
    told: HashMap<SessionId, u64>,
    /// The disk has lost what was synced.
    pub(super) has_lied: bool,
}

impl Durable {
    pub(super) fn on_sent_by_central(&mut self, checks: &mut Checks, connection: ConnectionId, message: &FromCentral) {
        let durable = match message {
            FromCentral::Welcome(welcome) => {
                self.session_of.insert(connection, welcome.session);
                welcome.durable
            }
            FromCentral::Ack(ack) => ack.durable,
            FromCentral::Durable { through } => *through,
            _ => return,
        };
        let session = self.session_of.get(&connection).copied();
        checks.require(Invariant::Durable, session.is_some(), || {
            format!("{connection:?} was told what is durable, and never welcomed")
        });
        let Some(session) = session else { return };
        let told = self.told.entry(session).or_default();
        *told = durable.max(*told);
    }

    /// The number up to which contributions of a session may be lost for good, because the disk has lied.
    pub(super) fn may_be_lost(&self, session: SessionId) -> u64 {
        match self.has_lied {
            true => self.told.get(&session).copied().unwrap_or_default(),
            false => 0,
        }
    }

    /// A session's volunteer has left for good: nobody can ask for it.
    pub(super) fn on_left(&mut self, connection: ConnectionId) {
        if let Some(session) = self.session_of.get(&connection) {
            self.told.remove(session);
        }
    }

    pub(super) fn on_server_started(&mut self, checks: &mut Checks, checkpoint: Option<&Checkpoint>, once: &Once) {
        if self.has_lied {
            return;
        }
        let sessions = checkpoint.map_or(&[][..], |checkpoint| &checkpoint.sessions.sessions);
        for (session, told) in &self.told {
            if *told == 0 {
                continue;
            }
            let record = sessions.iter().find(|record| record.session == *session);
            let settled = record.map_or(0, |record| record.settled);
            checks.require(Invariant::Durable, settled >= *told, || {
                format!("{session:?}: contributions up to {told} were called durable, and up to {settled} are there")
            });
            for sequence in 1..=*told {
                let is_settled = once.is_settled((*session, sequence));
                checks.require(Invariant::Durable, is_settled, || {
                    format!("{session:?}: contribution {sequence} was called durable and never settled in this line")
                });
            }
        }
    }
}
