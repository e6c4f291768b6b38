//! When something is due for which session.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::session::Session;
use crate::protocol::message::SessionId;
use crate::shared_memory::ModelStamp;
use crate::time::Time;

/// Instants, each beside the session that it belongs to.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// When sessions without a connection expire.
    pub(super) expiries: BTreeSet<(Time, SessionId)>,
    /// The last message of connected volunteers that compute.
    pub(super) heard: BTreeSet<(Time, SessionId)>,
    /// When a model may be sent to volunteers that wait for one.
    pub(super) deliveries: BTreeSet<(Time, SessionId)>,
    /// Volunteers that wait for a model other than the one that they have, and from when on one may be sent.
    pub(super) waiting: BTreeSet<(Time, SessionId)>,
    /// Each session's instants in the sets above.
    pub(super) instants: BTreeMap<SessionId, Instants>,
}

/// The instants of one session in [`Timers`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Instants {
    expiry: Option<Time>,
    heard: Option<Time>,
    delivery: Option<Time>,
    waiting: Option<Time>,
}

impl Instants {
    /// The instants of a session where the model is `current`, and sessions expire after `ttl`.
    pub(super) fn of_session(session: &Session, current: ModelStamp, ttl: Duration) -> Instants {
        let Session {
            connection, activity, ..
        } = session;
        let is_heard = connection.is_some() && activity.is_computing();
        Instants {
            expiry: connection.is_none().then(|| activity.last_heard + ttl),
            heard: is_heard.then_some(activity.last_heard),
            delivery: session.wants_model(current).then(|| session.delivery.next_at()),
            waiting: session.waits_for_model().then(|| session.delivery.next_at()),
        }
    }
}

impl Timers {
    /// These are the instants of a session from now on.
    pub(super) fn set(&mut self, id: SessionId, after: Instants) {
        let before = self.instants.insert(id, after).unwrap_or_default();
        let sets = [
            (&mut self.expiries, before.expiry, after.expiry),
            (&mut self.heard, before.heard, after.heard),
            (&mut self.deliveries, before.delivery, after.delivery),
            (&mut self.waiting, before.waiting, after.waiting),
        ];
        for (set, before, after) in sets {
            if before == after {
                continue;
            }
            if let Some(before) = before {
                set.remove(&(before, id));
            }
            if let Some(after) = after {
                set.insert((after, id));
            }
        }
    }

    /// A session is no more.
    pub(super) fn forget(&mut self, id: SessionId) {
        self.set(id, Instants::default());
        self.instants.remove(&id);
    }
}
