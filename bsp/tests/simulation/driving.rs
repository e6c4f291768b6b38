//! The simulation's loop: what an event does, and what the state machines' actions do to the world.

use std::time::Duration;

use bsp::central::{self, ConnectionId};
use bsp::local;
use bsp::message::{FromCentral, FromVolunteer, Received, Token};
use bytes::Bytes;

use super::random::mix;
use super::world::{Connection, Event, World};

impl World {
    pub(super) fn on_event(&mut self, event: Event) {
        if let Some(tab) = self.tab_of(&event) {
            let frozen_until = self.tabs[tab].frozen_until;
            if frozen_until > self.now {
                return self.schedule(frozen_until, event);
            }
        }
        match event {
            Event::Script(script) => script(self),
            Event::CentralAlarm(alarm) if alarm == self.central_alarm => self.on_central_alarm(),
            Event::TabAlarm(tab, alarm) if alarm == self.tabs[tab].alarm => self.on_tab_alarm(tab),
            Event::CentralAlarm(_) | Event::TabAlarm(..) => {}
            Event::Opened(tab, id) => {
                if self.tabs[tab].connection == Some(id) {
                    self.tabs[tab].must_say_hello = true;
                    self.with_local(tab, |local, now, actions| local.on_open(now, actions));
                }
            }
            Event::CouldNotOpen(tab) => self.with_local(tab, |local, now, actions| local.on_closed(now, actions)),
            Event::ToCentral(id, frame) => self.on_frame_at_central(id, &frame),
            Event::ToTab(id, frame) => self.on_frame_at_tab(id, &frame),
            Event::ClosedAtCentral(id) => {
                if let Some(connection) = self.connections.get_mut(&id) {
                    connection.is_open_at_central = false;
                }
                self.with_central(|central, now, actions| central.on_disconnected(now, id, actions));
            }
            Event::ClosedAtTab(id) => {
                let Some(connection) = self.connections.get_mut(&id) else {
                    return;
                };
                connection.is_open_at_tab = false;
                let tab = connection.tab;
                // A connection that the tab has replaced meanwhile is nobody's.
                if self.tabs[tab].connection.is_none_or(|newer| newer == id) {
                    self.tabs[tab].connection = None;
                    self.with_local(tab, |local, now, actions| local.on_closed(now, actions));
                }
            }
            Event::GradientDone(tab, ml_module) => {
                let gradients = self.gradients;
                let tab_state = &mut self.tabs[tab];
                if let Some(session) = tab_state.session
                    && let Some(name) = tab_state.ml[ml_module].finish(session, gradients)
                {
                    tab_state.added.insert(name);
                    let step = tab_state.machine.step;
                    if let Some(until) = tab_state.ml[ml_module].begin_rest(self.now, step) {
                        self.schedule(until, Event::Rested(tab));
                    }
                }
                self.begin_minibatches(tab);
            }
            Event::Rested(tab) => self.begin_minibatches(tab),
        }
    }

    /// The tab that an event happens in.
    fn tab_of(&self, event: &Event) -> Option<usize> {
        match event {
            Event::TabAlarm(tab, _)
            | Event::Opened(tab, _)
            | Event::CouldNotOpen(tab)
            | Event::GradientDone(tab, _)
            | Event::Rested(tab) => Some(*tab),
            Event::ToTab(id, _) | Event::ClosedAtTab(id) => self.connections.get(id).map(|connection| connection.tab),
            _ => None,
        }
    }

    fn on_central_alarm(&mut self) {
        let (at, times) = self.central_timeouts_at_once;
        self.central_timeouts_at_once = (self.now, if at == self.now { times + 1 } else { 1 });
        assert!(
            self.central_timeouts_at_once.1 < 5,
            "the central module asks again and again to be woken now"
        );
        self.with_central(|central, now, actions| central.on_timeout(now, actions));
    }

    fn on_tab_alarm(&mut self, tab: usize) {
        let (at, times) = self.tabs[tab].timeouts_at_once;
        self.tabs[tab].timeouts_at_once = (self.now, if at == self.now { times + 1 } else { 1 });
        assert!(
            self.tabs[tab].timeouts_at_once.1 < 5,
            "tab {tab} asks again and again to be woken now"
        );
        self.with_local(tab, |local, now, actions| local.on_timeout(now, actions));
    }

    fn on_frame_at_central(&mut self, id: ConnectionId, frame: &Bytes) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if !connection.is_open_at_central {
            return;
        }
        self.fingerprint = frame
            .iter()
            .fold(mix(self.fingerprint ^ self.now.as_micros()), |hash, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
            });
        let Received { message, payload } = FromVolunteer::decode(frame).expect("a tab's own frame");
        if let FromVolunteer::Stored(_) = message {
            connection.has_model_on_its_way = false;
        }
        let before = self.central.totals();
        let token = Token(self.random.next());
        self.with_central(|central, now, actions| central.on_frame(now, id, frame, token, actions));
        if let FromVolunteer::ReadOut(read_out) = message {
            let after = self.central.totals();
            let (accepted, refused) = (after.accepted - before.accepted, after.refused - before.refused);
            assert!(accepted + refused <= 1);
            if accepted + refused == 1 {
                self.ledger.settle(&read_out, &payload, accepted == 1, self.gradients);
            }
        }
    }

    fn on_frame_at_tab(&mut self, id: ConnectionId, frame: &Bytes) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let tab = connection.tab;
        if !connection.is_open_at_tab || self.tabs[tab].connection != Some(id) {
            return;
        }
        let message = FromCentral::decode(frame)
            .expect("the central module's own frame")
            .message;
        match message {
            FromCentral::Settled(_) => connection.has_contribution_on_its_way = false,
            FromCentral::StoreModel(stamp) => self.tabs[tab].models.push((self.now, stamp)),
            _ => {}
        }
        self.with_local(tab, |local, now, actions| {
            local.on_frame(now, frame, actions).expect("a frame that can be read")
        });
    }

    pub(super) fn do_central_action(&mut self, action: central::Action) {
        match action {
            central::Action::Send { to, frame } => self.send_to_tab(to, frame),
            central::Action::Disconnect { from, reason } => {
                self.disconnects.push((from, reason));
                let Some(connection) = self.connections.get_mut(&from) else {
                    return;
                };
                connection.is_open_at_central = false;
                let at = connection.down_free.max(self.now) + self.tabs[connection.tab].machine.latency;
                self.schedule(at, Event::ClosedAtTab(from));
            }
            central::Action::ContributionRefused { session, reason, .. } => self.refusals.push((session, reason)),
            central::Action::SuperstepClosed(closed) => {
                assert_eq!(
                    closed.version,
                    self.closed.len() as u64 + 1,
                    "versions count supersteps"
                );
                assert!(closed.samples > 0, "a superstep without samples");
                assert!(closed.staleness >= 0.0 && closed.loss.is_finite());
                self.closed.push((self.now, closed));
            }
            central::Action::Diverged => self.has_diverged = true,
        }
    }

    fn send_to_tab(&mut self, to: ConnectionId, frame: Bytes) {
        let received = FromCentral::decode(&frame).expect("the central module's own frame");
        let Some(connection) = self.connections.get_mut(&to) else {
            return self.heard.entry(to).or_default().push_back(received.message);
        };
        if let FromCentral::StoreModel(_) = received.message {
            assert!(!connection.has_model_on_its_way, "a second model on its way");
            assert!(
                bsp::message::floats(&received.payload).all(f32::is_finite),
                "a model that is not finite was sent"
            );
            connection.has_model_on_its_way = true;
        }
        if !connection.is_open_at_central {
            return;
        }
        let machine = self.tabs[connection.tab].machine;
        let takes = Duration::from_secs_f64(frame.len() as f64 / machine.bytes_per_second);
        connection.down_free = connection.down_free.max(self.now) + takes;
        let at = connection.down_free + machine.latency;
        self.schedule(at, Event::ToTab(to, frame));
    }

    pub(super) fn begin_minibatches(&mut self, tab: usize) {
        if self.tabs[tab].session.is_none() {
            return;
        }
        for ml_module in 0..self.tabs[tab].ml.len() {
            if self.tabs[tab].ml[ml_module].begin(self.now, self.config.mode) {
                let at = self.now + self.tabs[tab].machine.step;
                self.schedule(at, Event::GradientDone(tab, ml_module));
            }
        }
    }

    pub(super) fn do_tab_action(&mut self, tab: usize, action: local::Action) {
        assert!(
            self.tabs[tab].ended.is_none(),
            "tab {tab} has ended, and now {action:?}"
        );
        match action {
            local::Action::Connect => self.connect(tab),
            local::Action::Send(frame) => {
                let message = FromVolunteer::decode(&frame).expect("a tab's own frame").message;
                if let FromVolunteer::Hello(_) = message {
                    self.tabs[tab].must_say_hello = false;
                }
                self.send_to_central(tab, frame);
            }
            local::Action::SendReadOut { sequence } => self.send_read_out(tab, sequence),
            local::Action::Disconnect => {
                if let Some(id) = self.tabs[tab].connection.take()
                    && let Some(connection) = self.connections.get_mut(&id)
                {
                    connection.is_open_at_tab = false;
                    let at = connection.up_free.max(self.now) + self.tabs[tab].machine.latency;
                    self.schedule(at, Event::ClosedAtCentral(id));
                }
            }
            local::Action::SessionOpened(session) => {
                assert_eq!(
                    self.tabs[tab].session.replace(session),
                    None,
                    "a second session in one memory"
                );
            }
            local::Action::Ended(end) => self.tabs[tab].ended = Some((self.now, end)),
        }
    }

    fn connect(&mut self, tab: usize) {
        let now = self.now;
        let state = &mut self.tabs[tab];
        state.connects.push(now);
        let latency = state.machine.latency;
        if state.offline_until > now {
            return self.schedule(now + latency, Event::CouldNotOpen(tab));
        }
        self.serial += 1;
        let id = ConnectionId(self.serial);
        state.connection = Some(id);
        let connection = Connection {
            tab,
            is_open_at_central: true,
            is_open_at_tab: true,
            up_free: now,
            down_free: now,
            has_model_on_its_way: false,
            has_contribution_on_its_way: false,
        };
        self.connections.insert(id, connection);
        self.schedule(now + 2 * latency, Event::Opened(tab, id));
    }

    fn send_read_out(&mut self, tab: usize, sequence: u64) {
        let state = &mut self.tabs[tab];
        assert!(!state.must_say_hello, "a contribution was sent before the hello");
        let Some(local) = &state.local else { return };
        let bytes = local
            .read_out_frame(sequence)
            .expect("a contribution that is sent is kept")
            .to_vec();
        let first = state.sent.entry(sequence).or_insert_with(|| bytes.clone());
        assert_eq!(*first, bytes, "other bytes under the same number");
        if let Some(connection) = state.connection.and_then(|id| self.connections.get_mut(&id)) {
            // After a death there is no time to hear of the last one.
            assert!(
                state.has_dead || !connection.has_contribution_on_its_way,
                "a second contribution on its way"
            );
            connection.has_contribution_on_its_way = true;
        }
        self.send_to_central(tab, bytes.into());
    }

    fn send_to_central(&mut self, tab: usize, frame: Bytes) {
        let machine = self.tabs[tab].machine;
        let Some(id) = self.tabs[tab].connection else { return };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let takes = Duration::from_secs_f64(frame.len() as f64 / machine.bytes_per_second);
        connection.up_free = connection.up_free.max(self.now) + takes;
        let at = connection.up_free + machine.latency;
        self.schedule(at, Event::ToCentral(id, frame));
    }
}
