//! No session's number is given twice.

use std::collections::HashMap;

use bsp::protocol::message::SessionId;
use simulator::World;

use super::watch::Watch;
use crate::gradients::Gradients;

/// The tab of each session.
#[derive(Default)]
pub(super) struct Sessions {
    tabs: HashMap<SessionId, usize>,
    /// Tabs whose session is known.
    known: Vec<bool>,
}

impl Sessions {
    pub(super) fn check(&mut self, world: &World<Gradients, Watch>, tab: usize) {
        if self.known.len() <= tab {
            self.known.resize(tab + 1, false);
        }
        if let (false, Some(session)) = (self.known[tab], world.tabs[tab].session) {
            self.known[tab] = true;
            let earlier = self.tabs.insert(session, tab);
            assert_eq!(earlier, None, "{session:?} was given to another tab before");
        }
    }
}
