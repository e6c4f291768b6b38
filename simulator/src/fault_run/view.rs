//! What a page shows of a run with faults, at any moment of it.

use bsp::local::{End, LinkState, Local};
use bsp::protocol::codec::Codec;
use bsp::protocol::message::{Mode, SessionId};
use serde::Serialize;

use super::invariants::Invariant;
use super::{FAULTS_END, FaultRun, Phase};
use crate::random::Fingerprint;
use crate::tab::Tab;

/// A run at some moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedRun"))]
pub struct View {
    /// Virtual time since its beginning.
    pub seconds: f64,
    /// How far it has come.
    pub phase: PhaseView,
    /// What follows from its seed.
    pub settings: SettingsView,
    /// The server.
    pub server: ServerView,
    /// Every volunteer that ever came, in order.
    pub volunteers: Vec<VolunteerView>,
    /// Samples, from their acceptance to their end.
    pub books: Books,
    /// The invariants.
    pub invariants: Vec<InvariantView>,
    /// What was found where one did not hold; empty as long as all hold.
    pub violation: String,
    /// A hash of all that has arrived at the server, of the totals and of the model's bits, in hexadecimal. It is the
    /// same wherever this seed is run.
    pub digest: String,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedPhase"))]
pub enum PhaseView {
    /// Faults happen.
    Faults,
    /// They are over, and all comes to rest.
    Calm,
    /// The volunteers that are there leave.
    Farewell,
    /// The books are closed.
    Closed,
    /// An invariant does not hold.
    Violated,
}

/// What follows from the seed.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedSettings"))]
pub struct SettingsView {
    /// Whether computing waits for synchronising.
    #[cfg_attr(feature = "typescript", ts(type = "Mode"))]
    pub mode: Mode,
    /// Whether ML modules move along their own gradients.
    pub has_local_steps: bool,
    /// How contributions are encoded.
    #[cfg_attr(feature = "typescript", ts(type = "Codec"))]
    pub contribution_codec: Codec,
    /// How models are encoded.
    #[cfg_attr(feature = "typescript", ts(type = "Codec"))]
    pub model_codec: Codec,
    /// The time between two checkpoints; 0 for none.
    pub checkpoint_seconds: f64,
    /// Faults happen until then.
    pub faults_end_seconds: f64,
}

/// The server's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedServerState"))]
pub enum ServerState {
    /// It runs.
    Up,
    /// It was told to stop, and writes what it has.
    Stopping,
    /// Nothing of it runs for a while.
    Frozen,
    /// There is no process.
    Down,
}

/// The server. While it is down, its numbers are those that its last process had.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedServer"))]
pub struct ServerView {
    /// Its state.
    pub state: ServerState,
    /// Its starts, this one included.
    pub incarnation: u32,
    /// The model's version.
    pub version: u64,
    /// Samples in the model.
    pub samples_in_model: u64,
    /// Crashes so far.
    pub crashes: u64,
    /// Checkpoints that were written, and …
    pub checkpoints: u64,
    /// … that could not be.
    pub failed_checkpoints: u64,
    /// The step of a checkpoint's writing that is under way; empty if there is none.
    pub step: String,
    /// The files on its disk, by their names.
    pub files: Vec<String>,
    /// Bytes of all of them.
    pub disk_bytes: usize,
}

/// A volunteer's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedVolunteerState"))]
pub enum VolunteerState {
    /// It is connected.
    Connected,
    /// It is connected and computes nothing.
    Paused,
    /// Its link is cut, and it has not noticed.
    CutOff,
    /// It has no connection yet, or none any more, and tries again.
    Connecting,
    /// No connection can be opened.
    Offline,
    /// Nothing of it runs for a while.
    Frozen,
    /// It has left properly.
    Left,
    /// One of its ML modules died; what the others had was sent, and a real tab would start afresh.
    Restarts,
    /// It was closed, with all that it had.
    Closed,
    /// The server has turned it away.
    Refused,
}

/// A volunteer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedVolunteer"))]
pub struct VolunteerView {
    /// Its state.
    pub state: VolunteerState,
    /// Its ML modules.
    pub ml_modules: usize,
    /// Samples of the gradients that it has computed.
    pub computed: u64,
    /// Samples that the server counts for it now.
    pub accepted: u64,
    /// Samples that it was told are accepted; none if it was closed.
    pub told: Option<u64>,
    /// Samples that were accepted before a crash and are to come again.
    pub to_come_again: u64,
    /// Samples that were accepted before a crash, and went with it.
    pub lost: u64,
    /// Contributions that it keeps because they are not durable, and …
    pub kept: usize,
    /// … those of them that are not acknowledged.
    pub unacknowledged: usize,
    /// Frames on their way to the server, and …
    pub frames_up: usize,
    /// … from it.
    pub frames_down: usize,
}

/// Samples and contributions of the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedBooks"))]
pub struct Books {
    /// Samples that were accepted at some time: the sum of the next three.
    pub ever_accepted: u64,
    /// Samples that the server counts now.
    pub accepted: u64,
    /// Samples that were accepted before a crash and that a volunteer still has.
    pub to_come_again: u64,
    /// Samples that were accepted before a crash and went with a volunteer, or with a disk that lied.
    pub lost: u64,
    /// Of these two, what the server itself says that it misses.
    pub missing_as_said: u64,
    /// Samples that living volunteers were told are accepted.
    pub told: u64,
    /// Contributions that were accepted.
    pub contributions: u64,
    /// Contributions that were refused, as too old for example.
    pub refused: u64,
    /// Contributions that came twice, and were counted once.
    pub duplicates: u64,
    /// Contributions that came again after a restart, and were counted then.
    pub resent: u64,
    /// Whether the disk has lost what it had said to hold for good.
    pub has_disk_lied: bool,
}

/// An invariant, and how often it was checked.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedInvariant"))]
pub struct InvariantView {
    /// Its name.
    pub name: Invariant,
    /// What it promises.
    pub promise: &'static str,
    /// How often it was checked.
    pub checks: u64,
    /// Whether it held each time.
    pub holds: bool,
}

impl View {
    /// The run as it is now.
    pub fn of(run: &FaultRun) -> View {
        let volunteers = volunteers(run);
        let watch = &run.world.observer;
        let violation = watch.checks.violation();
        let invariants = Invariant::ALL.map(|name| InvariantView {
            name,
            promise: name.promise(),
            checks: watch.checks.count(name),
            holds: violation.is_none_or(|violation| violation.invariant != name),
        });
        View {
            seconds: run.world.now.as_micros() as f64 / 1e6,
            phase: PhaseView::of(&run.phase),
            settings: settings(run),
            server: server(run),
            books: books(run, &volunteers),
            volunteers,
            invariants: invariants.into(),
            violation: violation.map(ToString::to_string).unwrap_or_default(),
            digest: digest(run),
        }
    }
}

impl PhaseView {
    fn of(phase: &Phase) -> PhaseView {
        match phase {
            Phase::Faults => PhaseView::Faults,
            Phase::Calm(_) => PhaseView::Calm,
            Phase::Farewell(..) => PhaseView::Farewell,
            Phase::Closed(_) => PhaseView::Closed,
            Phase::Violated(_) => PhaseView::Violated,
        }
    }
}

fn settings(run: &FaultRun) -> SettingsView {
    let config = run.world.central.config();
    SettingsView {
        mode: config.mode,
        has_local_steps: config.has_local_steps,
        contribution_codec: config.contribution_codec,
        model_codec: config.model_codec,
        checkpoint_seconds: config
            .checkpoint_interval
            .map_or(0.0, |interval| interval.as_secs_f64()),
        faults_end_seconds: FAULTS_END.as_micros() as f64 / 1e6,
    }
}

fn server(run: &FaultRun) -> ServerView {
    let (server, central) = (&run.world.server, &run.world.central);
    let counts = run.world.observer.counts;
    let state = match (server.is_up(), server.is_frozen(), server.is_stopping()) {
        (false, _, _) => ServerState::Down,
        (true, true, _) => ServerState::Frozen,
        (true, false, true) => ServerState::Stopping,
        (true, false, false) => ServerState::Up,
    };
    ServerView {
        state,
        incarnation: central.stamp().incarnation,
        version: central.stamp().version,
        samples_in_model: central.totals().samples_in_model,
        crashes: counts.crashes,
        checkpoints: counts.checkpoints,
        failed_checkpoints: counts.failed_checkpoints,
        step: server.step().unwrap_or_default(),
        files: server.disk().map(|disk| disk.names()).unwrap_or_default(),
        disk_bytes: server.disk().map_or(0, |disk| disk.bytes()),
    }
}

fn volunteers(run: &FaultRun) -> Vec<VolunteerView> {
    let (world, watch) = (&run.world, &run.world.observer);
    let in_flight = world.frames_in_flight();
    let tabs = world.tabs.iter().enumerate();
    let view = tabs.map(|(number, tab)| {
        let state = volunteer_state(run, tab);
        let of_session = |count: &dyn Fn(SessionId) -> u64| tab.session.map_or(0, count);
        let missing = of_session(&|session| watch.once.lost_of(session));
        let is_gone = tab.local.is_none() || tab.ended.is_some();
        let (settled, durable) = (watch.told[number].settled, watch.told[number].durable);
        let kept = |above: u64| tab.local.as_ref().map_or(0, |local| kept_above(local, above));
        VolunteerView {
            state,
            ml_modules: tab.machine.ml_modules,
            computed: tab.stats.computed,
            accepted: of_session(&|session| watch.once.samples_of(session)),
            told: tab.local.as_ref().map(Local::accepted_samples),
            to_come_again: if is_gone { 0 } else { missing },
            lost: if is_gone { missing } else { 0 },
            kept: kept(durable),
            unacknowledged: kept(settled.max(durable)),
            frames_up: in_flight[number].up,
            frames_down: in_flight[number].down,
        }
    });
    view.collect()
}

/// Contributions above this number that are kept: they are numbered without a gap.
fn kept_above(local: &Local, above: u64) -> usize {
    let kept = (above + 1..).take_while(|sequence| local.contribution_frame(*sequence).is_some());
    kept.count()
}

fn volunteer_state<B>(run: &FaultRun, tab: &Tab<B>) -> VolunteerState {
    let now = run.world.now;
    let Some(local) = &tab.local else {
        return VolunteerState::Closed;
    };
    match &tab.ended {
        Some((_, End::Left)) => return VolunteerState::Left,
        Some((_, End::MlModuleDied)) => return VolunteerState::Restarts,
        Some((_, End::StartAfresh(_) | End::Refused(_))) => return VolunteerState::Refused,
        None => {}
    }
    if tab.outage.frozen_until > now {
        return VolunteerState::Frozen;
    }
    match local.link_state() {
        LinkState::Welcomed if tab.connection.is_none() => VolunteerState::CutOff,
        LinkState::Welcomed if local.is_paused() => VolunteerState::Paused,
        LinkState::Welcomed => VolunteerState::Connected,
        _ if tab.outage.offline_until > now => VolunteerState::Offline,
        _ => VolunteerState::Connecting,
    }
}

fn books(run: &FaultRun, volunteers: &[VolunteerView]) -> Books {
    let watch = &run.world.observer;
    let totals = run.world.central.totals();
    let now = run.world.server_time();
    let sum = |count: fn(&VolunteerView) -> u64| volunteers.iter().map(count).sum::<u64>();
    let accepted = watch.once.samples();
    let missing: u64 = watch.once.lost().iter().map(|(_, samples)| samples).sum();
    let to_come_again = sum(|volunteer| volunteer.to_come_again);
    Books {
        ever_accepted: accepted + missing,
        accepted,
        to_come_again,
        lost: missing - to_come_again,
        missing_as_said: run.world.central.samples_awaited(now) + run.world.central.samples_lost(now).total(),
        told: sum(|volunteer| volunteer.told.unwrap_or_default()),
        contributions: totals.accepted,
        refused: totals.refused,
        duplicates: totals.duplicates,
        resent: totals.resent,
        has_disk_lied: watch.durable.has_lied,
    }
}

fn digest(run: &FaultRun) -> String {
    let totals = run.world.central.totals();
    let mut digest: Fingerprint = run.world.observer.fingerprint;
    for number in [
        totals.samples,
        totals.accepted,
        totals.refused,
        totals.duplicates,
        totals.resent,
    ] {
        digest.add(number);
    }
    digest.add_model(run.world.central.model());
    format!("{:016x}", digest.value())
}
