//! Faults of tabs and links.

use std::time::Duration;

use bsp::central::ConnectionId;

use crate::gradients::Gradients;
use crate::observer::Observer;
use crate::world::{Event, World};

/// The time until the server hears that a tab has gone.
const SOON: Duration = Duration::from_millis(1);

impl<G: Gradients + 'static, O: Observer + 'static> World<G, O> {
    /// All frames on the tab's wires are lost. Each end hears of it after its time; `None` stands for never.
    pub fn cut(&mut self, tab: usize, tab_hears: Option<Duration>, central_hears: Option<Duration>) {
        let Some(id) = self.tabs[tab].connection.take() else {
            return;
        };
        let Some(connection) = self.network.get_mut(id) else {
            return;
        };
        let (was_open_at_tab, was_open_at_central) = (connection.is_open_at_tab, connection.is_open_at_central);
        (connection.is_open_at_tab, connection.is_open_at_central) = (false, false);
        if let (Some(after), true) = (tab_hears, was_open_at_tab) {
            self.schedule(self.now + after, Event::ClosedAtTab(id));
        }
        if let (Some(after), true) = (central_hears, was_open_at_central) {
            self.schedule(self.now + after, Event::ClosedAtCentral(id));
        }
    }

    /// The tab's connections end, and none can be opened for `duration`.
    pub fn take_offline(&mut self, tab: usize, duration: Duration) {
        self.tabs[tab].outage.offline_until = self.now + duration;
        self.cut(tab, Some(Duration::ZERO), Some(SOON));
    }

    /// Nothing of the tab runs for `duration`. Frames that arrive meanwhile wait.
    pub fn freeze(&mut self, tab: usize, duration: Duration) {
        let is_welcomed = self.is_welcomed(tab);
        let until = self.now + duration;
        let outage = &mut self.tabs[tab].outage;
        outage.frozen_until = outage.frozen_until.max(until);
        self.frozen.entry(tab).or_default();
        self.schedule(until, Event::TabThaws(tab));
        self.observer.on_freeze(tab, duration, is_welcomed);
    }

    /// If the event happens in a tab that is frozen, keeps it for later. Else gives it back.
    pub(crate) fn hold_in_frozen_tab(&mut self, event: Event<G, O>) -> Option<Event<G, O>> {
        match self.tab_of(&event).and_then(|tab| self.frozen.get_mut(&tab)) {
            Some(held) => {
                held.push(event);
                None
            }
            None => Some(event),
        }
    }

    /// The tab's freeze is over, unless a longer one has begun: what has waited happens in its order.
    pub(crate) fn thaw(&mut self, tab: usize) {
        if self.tabs[tab].outage.frozen_until <= self.now {
            for event in self.frozen.remove(&tab).unwrap_or_default() {
                self.on_event(event);
            }
        }
    }

    /// Nothing that the tab sends on its connection arrives for `duration`; then all of it does, in its order. So it
    /// may arrive after what the tab sends on a newer connection.
    pub fn hold_up(&mut self, tab: usize, duration: Duration) {
        if let Some(id) = self.tabs[tab].connection
            && !self.standing.contains_key(&id)
        {
            self.standing.insert(id, Vec::new());
            self.schedule(self.now + duration, Event::LinkGoesOn(id));
        }
    }

    /// The tab gives its connection up, and what it has sent on it arrives all the same.
    pub fn abandon(&mut self, tab: usize) {
        let Some(id) = self.tabs[tab].connection.take() else {
            return;
        };
        let Some(connection) = self.network.get_mut(id) else {
            return;
        };
        connection.is_open_at_tab = false;
        let at = connection.up.free(self.now) + self.tabs[tab].machine.latency;
        self.schedule(at, Event::ClosedAtCentral(id));
        self.with_local(tab, |local, now, actions| local.on_closed(now, actions));
    }

    /// The tab hears at last that its connection, which was cut without a word, is dead.
    pub fn notice_dead_link(&mut self, tab: usize) {
        if self.tabs[tab].connection.is_none() && self.tabs[tab].ended.is_none() {
            self.with_local(tab, |local, now, actions| local.on_closed(now, actions));
        }
    }

    /// If the event belongs to a link that stands still, keeps it for later. Else gives it back.
    pub(crate) fn hold_on_link(&mut self, event: Event<G, O>) -> Option<Event<G, O>> {
        let id = match &event {
            Event::ToCentral(id, _) | Event::ClosedAtCentral(id) => *id,
            _ => return Some(event),
        };
        match self.standing.get_mut(&id) {
            Some(held) => {
                held.push(event);
                None
            }
            None => Some(event),
        }
    }

    pub(crate) fn release_link(&mut self, id: ConnectionId) {
        for event in self.standing.remove(&id).unwrap_or_default() {
            self.on_event(event);
        }
    }

    /// All that the tab has sent on its connection arrives a second time, on a connection that nobody listens to: a
    /// proxy tries again. (What an earlier server was sent is not sent to the next by anybody but its tab.) The world
    /// must record frames.
    pub fn replay(&mut self, tab: usize) {
        let Some(id) = self.tabs[tab].connection else { return };
        let connection = self.network.get(id).filter(|connection| connection.is_open_at_central);
        let Some(connection) = connection else { return };
        let frames = connection.sent_up.clone();
        let copy = self.network.open(self.now, tab);
        let at = self.now + self.tabs[tab].machine.latency;
        for frame in frames {
            self.schedule(at, Event::ToCentral(copy, frame));
        }
        self.schedule(at + SOON, Event::ClosedAtCentral(copy));
    }

    /// The tab's clock jumps ahead by `duration`.
    pub fn jump_clock(&mut self, tab: usize, duration: Duration) {
        self.tabs[tab].clock += duration;
        self.with_local(tab, |_, _, _| ());
    }

    /// The tab is closed, or its process dies. Nothing of it is left.
    pub fn crash(&mut self, tab: usize) {
        self.cut(tab, None, Some(SOON));
        self.vanish(tab);
    }

    /// Nothing of the tab is left, and the server does not hear of it.
    pub(crate) fn vanish(&mut self, tab: usize) {
        let now = self.now;
        let state = &mut self.tabs[tab];
        state.stats.left.get_or_insert(now);
        state.local = None;
        for ml in &mut state.ml {
            state.stats.computing += ml.busy_for(now);
            ml.vanish();
        }
    }

    /// An ML module's worker dies, between two adds.
    pub fn kill_ml_module(&mut self, tab: usize, ml_module: usize) {
        // A side that died with its thread is never dropped.
        std::mem::forget(self.tabs[tab].ml[ml_module].training.take());
        self.observer.on_ml_module_died(tab);
        self.with_local(tab, |local, now, actions| {
            local.on_ml_module_died(now, ml_module, actions)
        });
    }
}
