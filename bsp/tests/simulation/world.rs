//! The simulation's driver: one queue of events, one virtual clock, all parts real but the sockets and the machines.
//!
//! With every event it checks what must be so at any instant: at most one model and one contribution on their way, a hello
//! before a read-out, the same bytes when a contribution is sent again, no machine that asks to be woken for nothing.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bsp::central::{self, Central, ClosedSuperstep, ConnectionId, LearningRateScaling, ServerOptimizer};
use bsp::combine::Weighting;
use bsp::local::{self, End, LinkState, Local};
use bsp::message::{ContributionRefusal, FromCentral, Mode, Refusal, RunId, SessionId, Token};
use bsp::shared_memory::{ModelStamp, shared_memory};
use bsp::time::Time;
use bytes::Bytes;

use super::gradients::{Gradients, MINIBATCH, PARAMETERS, Sgd};
use super::ledger::Ledger;
use super::random::{Random, mix};
use super::tab::{Machine, SimulatedMl, Tab};

pub(super) const RUN: RunId = RunId(77);
pub(super) const SPEC_HASH: u64 = 0x5bec;

/// The run that tests begin with.
pub(super) fn config() -> central::Config {
    central::Config {
        run: RUN,
        spec_hash: SPEC_HASH,
        mode: Mode::Decoupled,
        minibatch: MINIBATCH,
        superstep_samples: 256,
        quorum: 0.8,
        min_period: Duration::from_millis(50),
        max_period: Duration::from_secs(2),
        max_staleness: 1000,
        weighting: Weighting {
            staleness_exponent: 0.5,
            max_read_out_samples: 1 << 20,
            clip: 0.0,
        },
        lr_scaling: LearningRateScaling::None,
        session_ttl: Duration::from_secs(60),
        max_sessions: 64,
    }
}

pub(super) fn seconds(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) enum Event {
    CentralAlarm(u64),
    TabAlarm(usize, u64),
    Opened(usize, ConnectionId),
    CouldNotOpen(usize),
    ToCentral(ConnectionId, Bytes),
    ToTab(ConnectionId, Bytes),
    ClosedAtCentral(ConnectionId),
    ClosedAtTab(ConnectionId),
    GradientDone(usize, usize),
    Rested(usize),
    Script(Box<dyn FnOnce(&mut World)>),
}

pub(super) struct Connection {
    pub(super) tab: usize,
    /// Whether each end still takes frames.
    pub(super) is_open_at_central: bool,
    pub(super) is_open_at_tab: bool,
    /// From when on each direction's wire is free.
    pub(super) up_free: Time,
    pub(super) down_free: Time,
    pub(super) has_model_on_its_way: bool,
    pub(super) has_contribution_on_its_way: bool,
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) seed: u64,
    pub(super) random: Random,
    pub(super) central: Central,
    pub(super) config: central::Config,
    pub(super) gradients: Gradients,
    pub(super) tabs: Vec<Tab>,
    pub(super) ledger: Ledger,
    pub(super) closed: Vec<(Time, ClosedSuperstep)>,
    pub(super) refusals: Vec<(SessionId, ContributionRefusal)>,
    /// Connections that the central module closed, and why.
    pub(super) disconnects: Vec<(ConnectionId, Option<Refusal>)>,
    /// What was sent to connections that no tab holds: the hand-made ones.
    pub(super) heard: BTreeMap<ConnectionId, VecDeque<FromCentral>>,
    pub(super) has_diverged: bool,
    /// A number that two runs share only if each frame of each was the same at the same instant.
    pub(super) fingerprint: u64,
    pub(super) connections: BTreeMap<ConnectionId, Connection>,
    pub(super) events: BTreeMap<(Time, u64), Event>,
    pub(super) serial: u64,
    pub(super) central_alarm: u64,
    pub(super) central_timeouts_at_once: (Time, u32),
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation failed with seed {} at {:?}", self.seed, self.now);
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World::with(seed, config(), Gradients::Counting)
    }

    pub(super) fn with(seed: u64, config: central::Config, gradients: Gradients) -> World {
        World::with_optimizer(seed, config, gradients, Box::new(Sgd { rate: 0.1 }))
    }

    pub(super) fn with_optimizer(
        seed: u64,
        config: central::Config,
        gradients: Gradients,
        optimizer: Box<dyn ServerOptimizer>,
    ) -> World {
        World {
            now: Time::ZERO,
            seed,
            random: Random::new(seed),
            central: Central::new(Time::ZERO, config.clone(), vec![0.0; PARAMETERS], optimizer),
            config,
            gradients,
            tabs: Vec::new(),
            ledger: Ledger::default(),
            closed: Vec::new(),
            refusals: Vec::new(),
            disconnects: Vec::new(),
            heard: BTreeMap::new(),
            has_diverged: false,
            fingerprint: 0,
            connections: BTreeMap::new(),
            events: BTreeMap::new(),
            serial: 0,
            central_alarm: 0,
            central_timeouts_at_once: (Time::ZERO, 0),
        }
    }

    /// A tab opens the page now; its number.
    pub(super) fn join(&mut self, machine: Machine) -> usize {
        let (memory, sides) = shared_memory(PARAMETERS, machine.ml_modules);
        let number = self.tabs.len();
        let config = local::Config {
            run: RUN,
            spec_hash: SPEC_HASH,
            mode: self.config.mode,
            jitter_seed: mix(self.seed ^ number as u64),
        };
        self.tabs.push(Tab {
            machine,
            local: Some(Local::new(self.now, config, memory)),
            ml: sides.into_iter().map(SimulatedMl::new).collect(),
            connection: None,
            session: None,
            ended: None,
            frozen_until: Time::ZERO,
            offline_until: Time::ZERO,
            added: Default::default(),
            sent: Default::default(),
            must_say_hello: false,
            has_dead: false,
            models: Vec::new(),
            connects: Vec::new(),
            alarm: 0,
            timeouts_at_once: (Time::ZERO, 0),
        });
        self.with_local(number, |local, now, actions| local.on_timeout(now, actions));
        number
    }

    /// Does `script` at `at`.
    pub(super) fn at(&mut self, at: Time, script: impl FnOnce(&mut World) + 'static) {
        self.schedule(at, Event::Script(Box::new(script)));
    }

    pub(super) fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    pub(super) fn run_until(&mut self, end: Time) {
        while let Some(entry) = self.events.first_entry() {
            let at = entry.key().0;
            if at > end {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.on_event(event);
        }
        self.now = end;
    }

    /// Whatever is on the tab's wire is lost. Each end hears of it when it does: `None` for never.
    pub(super) fn cut(&mut self, tab: usize, tab_hears: Option<Duration>, central_hears: Option<Duration>) {
        let Some(id) = self.tabs[tab].connection.take() else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&id) else {
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

    /// The tab's connections end, and none can be opened for so long.
    pub(super) fn take_offline(&mut self, tab: usize, duration: Duration) {
        self.tabs[tab].offline_until = self.now + duration;
        self.cut(tab, Some(Duration::ZERO), Some(ms(1)));
    }

    /// Nothing of the tab runs for so long; what arrives meanwhile waits for it.
    pub(super) fn freeze(&mut self, tab: usize, duration: Duration) {
        /// A tab that was frozen for longer must know of it.
        const UNMISTAKABLE: Duration = Duration::from_secs(7);
        let is_welcomed = self.is_welcomed(tab);
        let tab = &mut self.tabs[tab];
        tab.frozen_until = tab.frozen_until.max(self.now + duration);
        tab.must_say_hello |= is_welcomed && duration >= UNMISTAKABLE;
    }

    /// The tab is closed, or its process dies: nothing of it is left.
    pub(super) fn crash(&mut self, tab: usize) {
        self.cut(tab, None, Some(ms(1)));
        self.tabs[tab].local = None;
        self.tabs[tab].ml.iter_mut().for_each(|ml| ml.side = None);
    }

    /// An ML module's worker dies, between two adds.
    pub(super) fn kill_ml_module(&mut self, tab: usize, ml_module: usize) {
        // A side that died with its thread is never dropped.
        std::mem::forget(self.tabs[tab].ml[ml_module].side.take());
        self.tabs[tab].has_dead = true;
        self.with_local(tab, |local, now, actions| {
            local.on_ml_module_died(now, ml_module, actions)
        });
    }

    pub(super) fn leave(&mut self, tab: usize) {
        self.with_local(tab, |local, now, actions| local.leave(now, actions));
    }

    pub(super) fn pause(&mut self, tab: usize) {
        self.with_local(tab, |local, now, actions| local.pause(now, actions));
    }

    pub(super) fn resume(&mut self, tab: usize) {
        self.with_local(tab, |local, now, actions| local.resume(now, actions));
    }

    pub(super) fn set_duty(&mut self, tab: usize, percent: u8) {
        self.with_local(tab, |local, now, actions| local.set_duty(now, percent, actions));
    }

    /// Hands the central module a frame from a connection that no tab holds.
    pub(super) fn inject(&mut self, from: ConnectionId, frame: &Bytes) {
        self.with_central(|central, now, actions| central.on_frame(now, from, frame, Token(from.0), actions));
    }

    /// A tab's local BSP module, which lives.
    pub(super) fn local(&self, tab: usize) -> &Local {
        self.tabs[tab].local.as_ref().expect("the tab lives")
    }

    pub(super) fn end_of(&self, tab: usize) -> Option<&End> {
        self.tabs[tab].ended.as_ref().map(|(_, end)| end)
    }

    /// Every gradient that the tab has added is settled, once; the ledger sees to "once".
    pub(super) fn assert_all_is_settled(&self, tab: usize) {
        let tab = &self.tabs[tab];
        let Some(session) = tab.session else {
            return assert!(tab.added.is_empty());
        };
        assert_eq!(
            self.ledger.of_session(session),
            tab.added,
            "not every gradient is in a settled contribution"
        );
    }

    /// The central module's totals are the ledger's.
    pub(super) fn assert_totals(&self) {
        let totals = self.central.totals();
        assert_eq!(totals.gradients, self.ledger.accepted.len() as u64);
        assert_eq!(totals.samples, self.ledger.accepted_samples);
        assert_eq!(totals.accepted, self.ledger.contributions.len() as u64);
        let names: u64 = self
            .ledger
            .accepted
            .iter()
            .map(|name| u64::from(super::gradients::samples(*name)))
            .sum();
        assert_eq!(totals.samples, names);
        if self.gradients == Gradients::Counting {
            assert_eq!(self.ledger.sum[..2], [totals.samples as f64, totals.gradients as f64]);
        }
        let closed: u64 = self.closed.iter().map(|(_, closed)| closed.samples).sum();
        assert!(
            closed <= totals.samples,
            "more samples in supersteps than were accepted"
        );
    }

    pub(super) fn model_bits(&self) -> Vec<u32> {
        self.central.model().iter().map(|value| value.to_bits()).collect()
    }

    pub(super) fn schedule(&mut self, at: Time, event: Event) {
        self.serial += 1;
        self.events.insert((at.max(self.now), self.serial), event);
    }

    /// Calls the central module, does its actions, and sets its alarm.
    pub(super) fn with_central(&mut self, call: impl FnOnce(&mut Central, Time, &mut Vec<central::Action>)) {
        let mut actions = Vec::new();
        call(&mut self.central, self.now, &mut actions);
        for action in actions {
            self.do_central_action(action);
        }
        self.central_alarm += 1;
        if let Some(at) = self.central.next_timeout(self.now) {
            self.schedule(at, Event::CentralAlarm(self.central_alarm));
        }
    }

    /// Calls a tab's local BSP module, does its actions, sets its alarm, and lets its ML modules go on.
    pub(super) fn with_local(&mut self, tab: usize, call: impl FnOnce(&mut Local, Time, &mut Vec<local::Action>)) {
        let mut actions = Vec::new();
        let Some(local) = &mut self.tabs[tab].local else { return };
        call(local, self.now, &mut actions);
        for action in actions {
            self.do_tab_action(tab, action);
        }
        self.tabs[tab].alarm += 1;
        let alarm = self.tabs[tab].alarm;
        let now = self.now;
        if let Some(local) = &mut self.tabs[tab].local {
            let at = local.next_timeout(now);
            self.schedule(at, Event::TabAlarm(tab, alarm));
        }
        self.begin_minibatches(tab);
    }

    /// Whether the tab has said hello and been welcomed.
    pub(super) fn is_welcomed(&self, tab: usize) -> bool {
        self.tabs[tab]
            .local
            .as_ref()
            .is_some_and(|local| local.link_state() == LinkState::Welcomed)
    }

    pub(super) fn latest_model_of(&self, tab: usize) -> Option<ModelStamp> {
        self.tabs[tab].models.last().map(|(_, stamp)| *stamp)
    }
}
