//! No session's number is given twice.

use std::collections::HashMap;

use bsp::protocol::message::SessionId;

use super::invariants::{Checks, Invariant};

/// The tab of each session.
#[derive(Default)]
pub(super) struct Sessions {
    tabs: HashMap<SessionId, usize>,
    /// Tabs whose session is known.
    known: Vec<bool>,
}

impl Sessions {
    /// The tab has this session, if it has one yet.
    pub(super) fn check(&mut self, checks: &mut Checks, tab: usize, session: Option<SessionId>) {
        if self.known.len() <= tab {
            self.known.resize(tab + 1, false);
        }
        if let (false, Some(session)) = (self.known[tab], session) {
            self.known[tab] = true;
            let earlier = self.tabs.insert(session, tab);
            checks.require_eq(Invariant::Sessions, earlier, None, || {
                format!("the volunteer that {session:?} was given to before")
            });
        }
    }
}
