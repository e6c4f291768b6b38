//! The world's loop: what an event does, and what the state machines' actions do to the world.

use bsp::central::{self, ConnectionId};
use bsp::local;
use bsp::protocol::frame::Received;
use bsp::protocol::message::FromVolunteer;
use bytes::Bytes;

use crate::gradients::Gradients;
use crate::observer::Observer;
use crate::tab::Tab;
use crate::world::{Event, World};

impl<G: Gradients + 'static, O: Observer + 'static> World<G, O> {
    /// Does an event, now; one of a frozen tab waits until the tab thaws.
    pub(crate) fn on_event(&mut self, event: Event<G, O>) {
        let event = match event {
            Event::CentralTimer(_) | Event::ToCentral(..) | Event::ClosedAtCentral(_) | Event::StateStep(_) => {
                match self.hold_on_link(event).and_then(|event| self.server.hold(event)) {
                    Some(event) => event,
                    None => return,
                }
            }
            event => event,
        };
        let Some(event) = self.hold_in_frozen_tab(event) else {
            return;
        };
        match event {
            Event::Script(script) => script(self),
            Event::CentralTimer(timer) => {
                if self.central_timer.fire(timer, self.now, "the central module") {
                    self.with_central(|central, now, actions| central.on_timeout(now, actions));
                }
            }
            Event::TabTimer(tab, timer) => {
                if self.tabs[tab].timer.fire(timer, self.now, "a tab") {
                    self.with_local(tab, |local, now, actions| local.on_timeout(now, actions));
                }
            }
            Event::Opened(tab, id) => {
                if self.tabs[tab].connection == Some(id) {
                    self.observer.on_open(tab);
                    self.with_local(tab, |local, now, actions| local.on_open(now, actions));
                }
            }
            Event::CouldNotOpen(tab) => self.with_local(tab, |local, now, actions| local.on_closed(now, actions)),
            Event::ToCentral(id, frame) => self.on_frame_at_central(id, &frame),
            Event::ToTab(id, frame) => self.on_frame_at_tab(id, &frame),
            Event::ClosedAtCentral(id) => {
                if let Some(connection) = self.network.get_mut(id) {
                    connection.is_open_at_central = false;
                }
                self.with_central(|central, now, actions| central.on_disconnected(now, id, actions));
            }
            Event::ClosedAtTab(id) => {
                let Some(connection) = self.network.get_mut(id) else {
                    return;
                };
                connection.is_open_at_tab = false;
                let tab = connection.tab;
                // The tab may have replaced the connection meanwhile.
                if self.tabs[tab].connection.is_none_or(|newer| newer == id) {
                    self.tabs[tab].connection = None;
                    self.with_local(tab, |local, now, actions| local.on_closed(now, actions));
                }
            }
            Event::GradientDone(tab, ml_module) => {
                self.finish_minibatch(tab, ml_module);
                self.begin_minibatches(tab);
            }
            Event::Rested(tab) => self.begin_minibatches(tab),
            Event::StateStep(process) => self.on_state_step(process),
            Event::ServerThaws(process) => self.thaw_server(process),
            Event::TabThaws(tab) => self.thaw(tab),
            Event::LinkGoesOn(id) => self.release_link(id),
        }
    }

    /// The tab in which an event happens.
    pub(crate) fn tab_of(&self, event: &Event<G, O>) -> Option<usize> {
        match event {
            Event::TabTimer(tab, _)
            | Event::Opened(tab, _)
            | Event::CouldNotOpen(tab)
            | Event::GradientDone(tab, _)
            | Event::Rested(tab) => Some(*tab),
            Event::ToTab(id, _) | Event::ClosedAtTab(id) => self.network.get(*id).map(|connection| connection.tab),
            _ => None,
        }
    }

    fn finish_minibatch(&mut self, tab: usize, ml_module: usize) {
        let Tab { ml, stats, .. } = &mut self.tabs[tab];
        let Some(finished) = ml[ml_module].finish(self.now, &mut self.computing.gradients) else {
            return;
        };
        stats.computing += finished.took;
        if finished.is_finite {
            stats.computed += u64::from(finished.samples);
        } else {
            stats.not_finite += 1;
        }
        let rested = ml[ml_module].begin_rest(self.now, finished.took);
        self.observer.on_gradient(tab, finished.name, finished.is_finite);
        if let Some(at) = rested {
            self.schedule(at, Event::Rested(tab));
        }
    }

    fn on_frame_at_central(&mut self, id: ConnectionId, frame: &Bytes) {
        let Some(connection) = self.network.get(id) else {
            return;
        };
        // A server that stops reads nothing more: what it does not acknowledge is sent again to the next.
        if !connection.is_open_at_central || !self.server.accepts() {
            return;
        }
        let tab = connection.tab;
        self.observer.on_frame_at_central(self.now, id, frame);
        let before = self.central.totals();
        // Recorded results have a number drawn here, from when tokens were drawn.
        self.random.next();
        let mut actions = Vec::new();
        let now = self.server.time(self.now);
        self.central.on_frame(now, id, frame, &mut actions);
        let after = self.central.totals();
        let (accepted, refused) = (after.accepted - before.accepted, after.refused - before.refused);
        assert!(
            accepted + refused <= 1,
            "one frame settled {accepted} + {refused} contributions"
        );
        if accepted + refused == 1
            && let Ok(Received { message, payload }) = FromVolunteer::decode(frame)
            && let FromVolunteer::Contribution(contribution) = message
        {
            self.count_settled(tab, contribution.samples, accepted == 1);
            self.observer.on_settled(&contribution, &payload, accepted == 1);
        }
        self.finish_central(actions);
    }

    fn count_settled(&mut self, tab: usize, samples: u64, is_accepted: bool) {
        let stats = &mut self.tabs[tab].stats;
        *match is_accepted {
            true => &mut stats.accepted,
            false => &mut stats.refused,
        } += samples;
    }

    fn on_frame_at_tab(&mut self, id: ConnectionId, frame: &Bytes) {
        let Some(connection) = self.network.get(id) else {
            return;
        };
        let tab = connection.tab;
        if !connection.is_open_at_tab || self.tabs[tab].connection != Some(id) {
            return;
        }
        self.observer.on_frame_at_tab(self.now, tab, id, frame);
        self.with_local(tab, |local, now, actions| {
            let read = local.on_frame(now, frame, actions);
            assert!(read.is_ok(), "the central module's own frame can't be used: {read:?}");
        });
    }

    /// Does an action of the central module.
    pub(crate) fn do_central_action(&mut self, action: central::Action) {
        match action {
            central::Action::Send { to, frame } => self.send_to_tab(to, frame),
            central::Action::Disconnect { from, reason } => {
                self.observer.on_disconnect(from, reason);
                let now = self.now;
                let Some(connection) = self.network.get_mut(from) else {
                    return;
                };
                connection.is_open_at_central = false;
                let (tab, sent) = (connection.tab, connection.down.free(now));
                let at = sent + self.tabs[tab].machine.latency;
                self.schedule(at, Event::ClosedAtTab(from));
            }
            central::Action::ContributionRefused { session, reason, .. } => self.observer.on_refused(session, reason),
            central::Action::SuperstepClosed(closed) => {
                self.observer.on_superstep(self.now, &closed);
            }
            central::Action::NoteAccepted(contribution) => {
                if !self.server.note_accepted(contribution) {
                    self.observer.on_ledger_failed(contribution);
                }
            }
            central::Action::WriteCheckpoint(checkpoint) => self.begin_checkpoint(checkpoint),
            // A volunteer has seen what its disk has lost.
            central::Action::LaterIncarnationSeen { .. } => {}
            // The central module's phase says whether it has diverged. No simulated gradient overflows by itself.
            central::Action::CheckGradients | central::Action::Diverged(_) => {}
        }
    }

    fn send_to_tab(&mut self, to: ConnectionId, frame: Bytes) {
        self.observer.on_sent_by_central(to, &frame);
        let Some(tab) = self.network.get(to).map(|connection| connection.tab) else {
            return;
        };
        let machine = self.tabs[tab].machine;
        let sent = self
            .network
            .send_down(self.now, to, frame.len(), machine.down_bytes_per_second);
        if let Some(sent) = sent {
            self.schedule(sent + machine.latency, Event::ToTab(to, frame));
        }
    }

    /// Does an action of a tab's local module.
    pub(crate) fn do_tab_action(&mut self, tab: usize, action: local::Action) {
        let now = self.now;
        let state = &mut self.tabs[tab];
        assert!(state.ended.is_none(), "tab {tab} has ended, and now {action:?}");
        match action {
            local::Action::Connect => self.connect(tab),
            local::Action::Send(frame) => {
                self.observer.on_sent(tab, &frame);
                self.send_to_central(tab, frame);
            }
            local::Action::SendContribution { sequence } => {
                let kept = state
                    .local
                    .as_ref()
                    .and_then(|local| local.contribution_frame(sequence));
                assert!(kept.is_some(), "contribution {sequence} is sent and not kept");
                let frame = Bytes::copy_from_slice(kept.unwrap_or_default());
                self.observer
                    .on_contribution_sent(tab, state.connection, sequence, &frame);
                self.send_to_central(tab, frame);
            }
            local::Action::Disconnect => {
                let latency = state.machine.latency;
                if let Some(id) = state.connection.take()
                    && let Some(connection) = self.network.get_mut(id)
                {
                    connection.is_open_at_tab = false;
                    let at = connection.up.free(now) + latency;
                    self.schedule(at, Event::ClosedAtCentral(id));
                }
            }
            local::Action::SessionOpened(session) => {
                let earlier = state.session.replace(session);
                assert_eq!(earlier, None, "a second session in one memory");
            }
            local::Action::Ended(end) => {
                state.stats.left.get_or_insert(now);
                state.ended = Some((now, end));
            }
        }
    }

    fn connect(&mut self, tab: usize) {
        let now = self.now;
        self.observer.on_connect(now, tab);
        let latency = self.tabs[tab].machine.latency;
        if self.tabs[tab].outage.offline_until > now || !self.server.accepts() {
            return self.schedule(now + latency, Event::CouldNotOpen(tab));
        }
        let id = self.network.open(now, tab);
        self.tabs[tab].connection = Some(id);
        self.schedule(now + 2 * latency, Event::Opened(tab, id));
    }

    fn send_to_central(&mut self, tab: usize, frame: Bytes) {
        let machine = self.tabs[tab].machine;
        let Some(id) = self.tabs[tab].connection else { return };
        let sent = self
            .network
            .send_up(self.now, id, frame.len(), machine.up_bytes_per_second);
        let Some(sent) = sent else { return };
        let arrives = sent + machine.latency;
        if let Some(connection) = self.network.get_mut(id)
            && self.records_frames
        {
            connection.sent_up.push(frame.clone());
        }
        if self.tabs[tab].outage.echoes_until > self.now {
            self.schedule(arrives, Event::ToCentral(id, frame.clone()));
        }
        self.schedule(arrives, Event::ToCentral(id, frame));
    }
}
