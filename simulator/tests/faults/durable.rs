//! What was called durable is there after any crash, unless the disk has lied.

use std::collections::HashMap;

use bsp::central::{Checkpoint, ConnectionId};
use bsp::protocol::message::{FromCentral, SessionId};

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
    pub(super) fn on_sent_by_central(&mut self, connection: ConnectionId, message: &FromCentral) {
        let durable = match message {
            FromCentral::Welcome(welcome) => {
                self.session_of.insert(connection, welcome.session);
                welcome.durable
            }
            FromCentral::Ack(ack) => ack.durable,
            FromCentral::Durable { through } => *through,
            _ => return,
        };
        let session = self.session_of[&connection];
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

    pub(super) fn on_server_started(&mut self, checkpoint: Option<&Checkpoint>, once: &Once) {
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
            assert!(
                settled >= *told,
                "{session:?}: contributions up to {told} were called durable, and up to {settled} are there"
            );
            for sequence in 1..=*told {
                assert!(
                    once.is_settled((*session, sequence)),
                    "{session:?}: contribution {sequence} was called durable, and was never settled in this line"
                );
            }
        }
    }
}
