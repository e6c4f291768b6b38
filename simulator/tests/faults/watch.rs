//! The observer of these tests: it hands each event to the invariants.

use std::collections::HashSet;

use bsp::central::{Awaited, Checkpoint, ClosedSuperstep, ConnectionId};
use bsp::protocol::message::{Contribution, FromCentral, FromVolunteer};
use bsp::time::Time;
use bytes::Bytes;
use simulator::random::Fingerprint;
use simulator::server::Crash;
use simulator::{GradientName, Observer, World};

use super::durable::Durable;
use super::memory;
use super::once::Once;
use super::outcome::Counts;
use super::sessions::Sessions;
use super::versions::Versions;
use crate::gradients::{Gradients, Name, name};

/// All invariants.
#[derive(Default)]
pub(super) struct Watch {
    pub(super) once: Once,
    pub(super) durable: Durable,
    versions: Versions,
    sessions: Sessions,
    /// Hellos that asked for a new session.
    hellos: usize,
    /// The gradients that each tab has added.
    pub(super) added: Vec<HashSet<Name>>,
    /// Whether the ledger knows of all that was accepted.
    pub(super) is_ledger_whole: bool,
    pub(super) counts: Counts,
    pub(super) fingerprint: Fingerprint,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch {
            is_ledger_whole: true,
            ..Watch::default()
        }
    }
}

/// What must hold after each event.
pub(super) fn check(world: &mut World<Gradients, Watch>) {
    if world.server.is_up() {
        world.observer.once.check(&world.central);
    }
    let mut sessions = std::mem::take(&mut world.observer.sessions);
    for tab in 0..world.tabs.len() {
        sessions.check(world, tab);
    }
    world.observer.sessions = sessions;
}

impl Observer for Watch {
    fn on_join(&mut self, tab: usize) {
        assert_eq!(tab, self.added.len());
        self.added.push(HashSet::new());
    }

    fn on_gradient(&mut self, tab: usize, gradient: GradientName, _: bool) {
        self.added[tab].insert(name(gradient));
    }

    fn on_frame_at_central(&mut self, now: Time, connection: ConnectionId, frame: &Bytes) {
        self.fingerprint.add(now.as_micros());
        self.fingerprint.add(frame.len() as u64);
        let message = FromVolunteer::decode(frame).expect("a tab's own frame").message;
        match message {
            FromVolunteer::Leave => self.durable.on_left(connection),
            FromVolunteer::Hello(hello) if hello.session.is_none() => self.hellos += 1,
            _ => {}
        }
    }

    fn on_settled(&mut self, contribution: &Contribution, _: &Bytes, is_accepted: bool) {
        self.counts.settled += 1;
        self.once.on_settled(contribution, is_accepted);
    }

    fn on_sent_by_central(&mut self, connection: ConnectionId, frame: &Bytes) {
        let message = FromCentral::decode(frame).expect("the server's own frame").message;
        self.durable.on_sent_by_central(connection, &message);
    }

    fn on_frame_at_tab(&mut self, _: Time, tab: usize, _: ConnectionId, frame: &Bytes) {
        let message = FromCentral::decode(frame).expect("the server's own frame").message;
        if let FromCentral::StoreModel(model) = message {
            self.versions.on_model_at_tab(tab, &model);
        }
    }

    fn on_superstep(&mut self, _: Time, closed: &ClosedSuperstep) {
        self.versions.on_superstep(closed);
    }

    fn on_server_started(&mut self, _: Time, incarnation: u32, checkpoint: Option<&Checkpoint>, _: &[Awaited]) {
        self.counts.starts += 1;
        self.fingerprint.add(u64::from(incarnation));
        self.versions.on_server_started(incarnation, checkpoint);
        self.once.on_server_started(checkpoint);
        self.durable.on_server_started(checkpoint, &self.once);
    }

    fn on_server_crashed(&mut self, _: Time, crash: Crash) {
        self.counts.crashes += 1;
        self.is_ledger_whole &= crash == Crash::Process;
    }

    fn on_checkpoint_made(&mut self, _: Time, checkpoint: &Checkpoint) {
        self.once.on_checkpoint_made(checkpoint);
        memory::check(checkpoint, self.hellos);
    }

    fn on_checkpoint_written(&mut self, _: Time, _: u64) {
        self.counts.checkpoints += 1;
    }

    fn on_checkpoint_failed(&mut self, _: Time, _: u64) {
        self.counts.failed_checkpoints += 1;
    }

    fn on_ledger_failed(&mut self, _: Awaited) {
        self.is_ledger_whole = false;
    }
}
