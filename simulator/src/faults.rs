//! Faults of tabs and links.

use std::time::Duration;

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
        self.observer.on_freeze(tab, duration, is_welcomed);
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
