//! The world: one queue of events, one virtual clock, all parts real but the sockets and the machines.

use std::collections::BTreeMap;
use std::time::Duration;

use bsp::central::{self, Central, ConnectionId, ServerOptimizer};
use bsp::local::{self, End, LinkState, Local};
use bsp::ml_module::Duty;
use bsp::shared_memory::shared_memory;
use bsp::time::Time;
use bytes::Bytes;

use crate::gradients::{Computing, Gradients};
use crate::link::Network;
use crate::ml_module::SimulatedMl;
use crate::observer::{Nobody, Observer};
use crate::queue::Queue;
use crate::random::{Random, mix};
use crate::run_stats::RunStats;
use crate::server::Server;
use crate::tab::{Machine, Outage, Tab, TabStats};
use crate::timer::Timer;

/// The events of a world.
pub(crate) enum Event<G: Gradients, O> {
    CentralTimer(u64),
    TabTimer(usize, u64),
    Opened(usize, ConnectionId),
    CouldNotOpen(usize),
    ToCentral(ConnectionId, Bytes),
    ToTab(ConnectionId, Bytes),
    ClosedAtCentral(ConnectionId),
    ClosedAtTab(ConnectionId),
    GradientDone(usize, usize),
    Rested(usize),
    StateStep(u64),
    ServerThaws(u64),
    TabThaws(usize),
    LinkGoesOn(ConnectionId),
    Script(Script<G, O>),
}

/// Frames that are on their way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FramesInFlight {
    /// From a tab to the server.
    pub up: usize,
    /// From the server to a tab.
    pub down: usize,
}

/// A planned change of the world.
type Script<G, O> = Box<dyn FnOnce(&mut World<G, O>)>;

/// A whole run: the central BSP module, tabs with their local BSP modules and ML modules, and the links between them.
/// Everything follows from the seed, the settings and the planned events; `G` computes the gradients, `O` looks on.
pub struct World<G: Gradients, O = Nobody> {
    /// The virtual time.
    pub now: Time,
    /// The seed, and random numbers for planned events.
    pub random: Random,
    /// The central BSP module. While the server is down it is what its last process left.
    pub central: Central,
    /// The server's process.
    pub server: Server<G, O>,
    /// All tabs that were ever opened, by number.
    pub tabs: Vec<Tab<G::Begun>>,
    /// The observer.
    pub observer: O,
    pub(crate) central_timer: Timer,
    pub(crate) computing: Computing<G>,
    pub(crate) network: Network,
    /// Events of frozen tabs, until they thaw.
    pub(crate) frozen: BTreeMap<usize, Vec<Event<G, O>>>,
    /// Events of links that stand still, until they go on.
    pub(crate) standing: BTreeMap<ConnectionId, Vec<Event<G, O>>>,
    /// Whether connections record what their tabs send, so that it can be sent again.
    pub records_frames: bool,
    events: Queue<Event<G, O>>,
}

impl<G: Gradients + 'static, O: Observer + 'static> World<G, O> {
    /// A run that begins now with the model `model` and without volunteers.
    pub fn new(
        seed: u64,
        config: central::Config,
        model: Vec<f32>,
        optimizer: Box<dyn ServerOptimizer>,
        gradients: G,
        observer: O,
    ) -> World<G, O> {
        World {
            now: Time::ZERO,
            random: Random::new(seed),
            central: Central::new(Time::ZERO, config, model, optimizer),
            server: Server::new(),
            tabs: Vec::new(),
            observer,
            central_timer: Timer::default(),
            computing: Computing::new(gradients),
            network: Network::default(),
            frozen: BTreeMap::new(),
            standing: BTreeMap::new(),
            records_frames: false,
            events: Queue::new(),
        }
    }

    /// A tab opens the page now. Returns its number.
    pub fn join(&mut self, machine: Machine) -> usize {
        let random = Random::stream(self.random.seed(), self.tabs.len() as u64);
        self.join_with(machine, random)
    }

    /// A tab opens the page now. The times of its minibatches vary by these random numbers. Returns its number.
    pub(crate) fn join_with(&mut self, machine: Machine, random: Random) -> usize {
        let (memory, sides) = shared_memory(self.central.model().len(), machine.ml_modules);
        let number = self.tabs.len();
        let run = self.central.config();
        let config = local::Config {
            run: run.run,
            spec_hash: run.spec_hash,
            mode: run.mode,
            has_local_steps: run.has_local_steps,
            max_read_out_gradients: run.weighting.max_read_out_samples.div_ceil(run.minibatch),
            jitter_seed: mix(self.random.seed() ^ number as u64),
        };
        self.tabs.push(Tab {
            machine,
            local: Some(Local::new(self.now, config, memory)),
            ml: sides
                .into_iter()
                .map(|side| SimulatedMl::new(side, config.mode, self.computing.gradients.local_optimizer()))
                .collect(),
            connection: None,
            session: None,
            ended: None,
            outage: Outage::default(),
            clock: Duration::ZERO,
            stats: TabStats::new(self.now),
            random,
            timer: Timer::default(),
        });
        self.observer.on_join(number);
        self.with_local(number, |local, now, actions| {
            local.set_duty(now, machine.duty_percent, actions)
        });
        self.with_local(number, |local, now, actions| local.on_timeout(now, actions));
        number
    }

    /// Does `script` at `at`.
    pub fn at(&mut self, at: Time, script: impl FnOnce(&mut World<G, O>) + 'static) {
        self.schedule(at, Event::Script(Box::new(script)));
    }

    /// Lets `duration` pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Lets time pass until `end`.
    pub fn run_until(&mut self, end: Time) {
        while self.step(end) {}
        self.now = end;
    }

    /// Lets the next event happen, if it is not after `end`. Returns whether there was one.
    pub fn step(&mut self, end: Time) -> bool {
        if self.events.next_at().is_none_or(|at| at > end) {
            return false;
        }
        if let Some((at, event)) = self.events.pop() {
            self.now = at;
            self.on_event(event);
        }
        true
    }

    /// A tab leaves: its gradients are read out and settled first.
    pub fn leave(&mut self, tab: usize) {
        self.observer.on_leave(tab);
        self.with_local(tab, |local, now, actions| local.leave(now, actions));
    }

    /// A tab pauses.
    pub fn pause(&mut self, tab: usize) {
        self.with_local(tab, |local, now, actions| local.pause(now, actions));
    }

    /// It goes on.
    pub fn resume(&mut self, tab: usize) {
        self.with_local(tab, |local, now, actions| local.resume(now, actions));
    }

    /// A tab's ML modules may compute for `percent` of their time from now on. (The statistics still expect their
    /// machine's duty.)
    pub fn set_duty(&mut self, tab: usize, percent: u8) {
        self.with_local(tab, |local, now, actions| local.set_duty(now, percent, actions));
    }

    /// Hands the central module a frame from a connection that no tab holds.
    pub fn inject(&mut self, from: ConnectionId, frame: &Bytes) {
        self.with_central(|central, now, actions| central.on_frame(now, from, frame, actions));
    }

    /// The end of a tab's membership.
    pub fn end_of(&self, tab: usize) -> Option<&End> {
        self.tabs[tab].ended.as_ref().map(|(_, end)| end)
    }

    /// Whether the tab has said hello and been welcomed.
    pub fn is_welcomed(&self, tab: usize) -> bool {
        self.tabs[tab]
            .local
            .as_ref()
            .is_some_and(|local| local.link_state() == LinkState::Welcomed)
    }

    /// The statistics as of now.
    pub fn stats(&self) -> RunStats {
        let mut stats = RunStats {
            bytes_up: self.network.bytes_up,
            bytes_down: self.network.bytes_down,
            ..RunStats::default()
        };
        stats.set_totals(&self.central.totals());
        let minibatch = self.central.config().minibatch as f64;
        for Tab {
            stats: tab,
            machine,
            ml,
            ..
        } in &self.tabs
        {
            let step = machine.mean_step();
            let duty = Duty::share(step, machine.duty_percent);
            let online = tab.online(self.now).mul_f64(duty);
            let modules = machine.ml_modules as u32;
            stats.computed += tab.computed;
            stats.accepted += tab.accepted;
            stats.refused += tab.refused;
            stats.not_finite += tab.not_finite;
            *match tab.left {
                Some(_) => &mut stats.lost,
                None => &mut stats.still_there,
            } += tab.unsettled();
            stats.online += online * modules;
            stats.computing += tab.computing;
            if tab.left.is_none() {
                stats.computing += ml.iter().map(|ml| ml.busy_for(self.now)).sum::<Duration>();
            }
            stats.alone += online.as_secs_f64() * f64::from(modules) * minibatch / step.as_secs_f64();
        }
        stats
    }

    /// Frames that are on their way from each tab and to it, or are held up there.
    pub fn frames_in_flight(&self) -> Vec<FramesInFlight> {
        let mut in_flight = vec![FramesInFlight::default(); self.tabs.len()];
        let held = self.standing.values().flatten().chain(self.frozen.values().flatten());
        for event in self.events.iter().chain(held) {
            let (id, is_up) = match event {
                Event::ToCentral(id, _) => (*id, true),
                Event::ToTab(id, _) => (*id, false),
                _ => continue,
            };
            let Some(connection) = self.network.get(id) else {
                continue;
            };
            // Frames of a link that was cut never arrive.
            let of_tab = &mut in_flight[connection.tab];
            match is_up {
                true => of_tab.up += usize::from(connection.is_open_at_central),
                false => of_tab.down += usize::from(connection.is_open_at_tab),
            }
        }
        in_flight
    }

    /// Samples in closed supersteps.
    pub fn samples_in_model(&self) -> u64 {
        self.central.totals().samples_in_model
    }

    /// Calls the central module, does its actions, and sets its timer. Nothing happens while the server is down.
    pub fn with_central(&mut self, call: impl FnOnce(&mut Central, Time, &mut Vec<central::Action>)) {
        if !self.server.is_up() {
            return;
        }
        let mut actions = Vec::new();
        call(&mut self.central, self.server.time(self.now), &mut actions);
        self.finish_central(actions);
    }

    /// Does the central module's actions, and sets its timer.
    pub(crate) fn finish_central(&mut self, actions: Vec<central::Action>) {
        for action in actions {
            self.do_central_action(action);
        }
        let at = self.central.next_timeout(self.server.time(self.now));
        let at = at.map(|at| self.server.world_time(at));
        if let Some((at, timer)) = self.central_timer.set(at, self.now) {
            self.events.push(at, Event::CentralTimer(timer));
        }
    }

    /// Calls a tab's local BSP module, does its actions, sets its timer, and lets its ML modules go on.
    pub fn with_local(&mut self, tab: usize, call: impl FnOnce(&mut Local, Time, &mut Vec<local::Action>)) {
        let mut actions = Vec::new();
        let clock = self.tabs[tab].clock;
        let Some(local) = &mut self.tabs[tab].local else { return };
        call(local, self.now + clock, &mut actions);
        for action in actions {
            self.do_tab_action(tab, action);
        }
        let now = self.now;
        let Tab { local, timer, .. } = &mut self.tabs[tab];
        let at = local.as_mut().map(|local| local.next_timeout(now + clock) - clock);
        if let Some((at, timer)) = timer.set(at, now) {
            self.events.push(at, Event::TabTimer(tab, timer));
        }
        self.begin_minibatches(tab);
    }

    pub(crate) fn begin_minibatches(&mut self, tab: usize) {
        let now = self.now;
        let Tab {
            session: Some(session),
            ml,
            machine,
            random,
            ..
        } = &mut self.tabs[tab]
        else {
            return;
        };
        for (ml_module, ml) in ml.iter_mut().enumerate() {
            if ml.begin(now, *session, &mut self.computing) {
                let at = now + machine.next_step(random);
                self.events.push(at, Event::GradientDone(tab, ml_module));
            }
        }
    }

    pub(crate) fn schedule(&mut self, at: Time, event: Event<G, O>) {
        self.events.push(at.max(self.now), event);
    }
}
