//! The observer of a run with faults: it hands each event to the invariants, and notes in the log what happened.

use std::collections::HashSet;

use bsp::central::{Awaited, Checkpoint, ClosedSuperstep, ConnectionId};
use bsp::protocol::message::{Contribution, FromCentral, FromVolunteer};
use bsp::time::Time;
use bytes::Bytes;

use super::durable::Durable;
use super::invariants::Checks;
use super::log::{Log, Subject};
use super::once::Once;
use super::outcome::Counts;
use super::sessions::Sessions;
use super::versions::Versions;
use super::{FaultWorld, memory};
use crate::damage::Damage;
use crate::gradients::GradientName;
use crate::observer::Observer;
use crate::random::Fingerprint;
use crate::server::Crash;
use crate::small_model::{Name, name};

/// All invariants of a run, and its log.
#[derive(Default)]
pub struct Watch {
    /// How often each invariant was checked, and the first that did not hold.
    pub checks: Checks,
    /// What happened.
    pub log: Log,
    /// How often what happened.
    pub counts: Counts,
    /// A hash of all that has arrived at the server.
    pub fingerprint: Fingerprint,
    pub(super) once: Once,
    pub(super) durable: Durable,
    versions: Versions,
    sessions: Sessions,
    /// Hellos that asked for a new session.
    hellos: usize,
    /// The gradients that each tab has added.
    pub(super) added: Vec<HashSet<Name>>,
    /// For each tab, the number up to which its contributions are settled and durable, as it was told.
    pub(super) told: Vec<Told>,
    /// Whether the ledger knows of all that was accepted.
    pub(super) is_ledger_whole: bool,
}

/// Up to which number a tab's contributions are settled and durable, as it was told last.
#[derive(Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) settled: u64,
    pub(super) durable: u64,
}

impl Watch {
    pub(super) fn new() -> Watch {
        Watch {
            is_ledger_whole: true,
            ..Watch::default()
        }
    }

    fn note_told(&mut self, tab: usize, message: &FromCentral) {
        let Some(told) = self.told.get_mut(tab) else { return };
        match message {
            FromCentral::Welcome(welcome) => (told.settled, told.durable) = (welcome.settled, welcome.durable),
            FromCentral::Ack(ack) => (told.settled, told.durable) = (ack.through, ack.durable),
            FromCentral::Durable { through } => told.durable = *through,
            _ => {}
        }
    }
}

/// What must hold after each event.
pub(super) fn check(world: &mut FaultWorld) {
    let Watch {
        checks, once, sessions, ..
    } = &mut world.observer;
    if world.server.is_up() {
        once.check(checks, &world.central);
    }
    for (number, tab) in world.tabs.iter().enumerate() {
        sessions.check(checks, number, tab.session);
    }
}

impl Observer for Watch {
    fn on_join(&mut self, tab: usize) {
        assert_eq!(tab, self.added.len(), "tabs are numbered in their order");
        self.added.push(HashSet::new());
        self.told.push(Told::default());
    }

    fn on_gradient(&mut self, tab: usize, gradient: GradientName, _: bool) {
        self.added[tab].insert(name(gradient));
    }

    fn on_frame_at_central(&mut self, now: Time, connection: ConnectionId, frame: &Bytes) {
        self.fingerprint.add(now.as_micros());
        self.fingerprint.add(frame.len() as u64);
        // The central module refuses a frame that can't be read, and no volunteer of a run sends one.
        match FromVolunteer::decode(frame).map(|received| received.message) {
            Ok(FromVolunteer::Leave) => self.durable.on_left(connection),
            Ok(FromVolunteer::Hello(hello)) if hello.session.is_none() => self.hellos += 1,
            _ => {}
        }
    }

    fn on_settled(&mut self, contribution: &Contribution, _: &Bytes, is_accepted: bool) {
        self.counts.settled += 1;
        self.once.on_settled(&mut self.checks, contribution, is_accepted);
    }

    fn on_sent_by_central(&mut self, connection: ConnectionId, frame: &Bytes) {
        if let Ok(received) = FromCentral::decode(frame) {
            self.durable
                .on_sent_by_central(&mut self.checks, connection, &received.message);
        }
    }

    fn on_frame_at_tab(&mut self, _: Time, tab: usize, _: ConnectionId, frame: &Bytes) {
        // Its local module reads it next, and the world fails where it can't.
        let Ok(received) = FromCentral::decode(frame) else {
            return;
        };
        self.note_told(tab, &received.message);
        if let FromCentral::StoreModel(model) = received.message {
            self.versions.on_model_at_tab(&mut self.checks, tab, &model);
        }
    }

    fn on_superstep(&mut self, _: Time, closed: &ClosedSuperstep) {
        self.versions.on_superstep(&mut self.checks, closed);
    }

    fn on_server_started(&mut self, now: Time, incarnation: u32, checkpoint: Option<&Checkpoint>, awaited: &[Awaited]) {
        self.counts.starts += 1;
        self.fingerprint.add(u64::from(incarnation));
        self.versions
            .on_server_started(&mut self.checks, incarnation, checkpoint);
        self.once.on_server_started(&mut self.checks, checkpoint);
        self.durable.on_server_started(&mut self.checks, checkpoint, &self.once);
        let samples: u64 = awaited.iter().map(|awaited| awaited.samples).sum();
        let from = match checkpoint {
            Some(from) => format!("checkpoint {} of incarnation {}", from.number, from.trainer.incarnation),
            None => "the run’s beginning".to_owned(),
        };
        let text = match samples {
            0 => format!("The server starts as incarnation {incarnation}, from {from}."),
            _ => format!(
                "The server starts as incarnation {incarnation}, from {from}. Its ledger says that {samples} samples \
                 were accepted since: it waits for them to come again."
            ),
        };
        self.log.add(now, Subject::Server, None, text);
    }

    fn on_server_crashed(&mut self, now: Time, crash: Crash, damage: &Damage) {
        self.counts.crashes += 1;
        self.is_ledger_whole &= crash == Crash::Process;
        self.log.add(now, Subject::Crash, None, crash_text(crash, damage));
    }

    fn on_checkpoint_made(&mut self, _: Time, checkpoint: &Checkpoint) {
        self.once.on_checkpoint_made(&mut self.checks, checkpoint);
        memory::check(&mut self.checks, checkpoint, self.hellos);
    }

    fn on_checkpoint_written(&mut self, now: Time, number: u64) {
        self.counts.checkpoints += 1;
        let text = format!("Checkpoint {number} of this incarnation is on the disk for good.");
        self.log.add(now, Subject::Checkpoint, None, text);
    }

    fn on_checkpoint_failed(&mut self, now: Time, number: u64) {
        self.counts.failed_checkpoints += 1;
        let text = format!("Checkpoint {number} could not be written. Another one follows.");
        self.log.add(now, Subject::Disk, None, text);
    }

    fn on_ledger_failed(&mut self, _: Awaited) {
        self.is_ledger_whole = false;
    }
}

fn crash_text(crash: Crash, damage: &Damage) -> String {
    let mut text = match crash {
        Crash::Process => "The server’s process is killed".to_owned(),
        Crash::Machine => "The server’s machine stops".to_owned(),
    };
    if let Some(step) = &damage.step {
        text += &format!(" while it was to {step}");
    }
    text += ".";
    if !damage.torn.is_empty() {
        text += &format!(" Of what was not synced, {} is lost or torn.", damage.torn.join(", "));
    }
    text
}
