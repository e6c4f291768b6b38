//! The server's process: it writes checkpoints to its disk step by step, can be killed between any two steps and in the
//! middle of one, and starts again from what its disk has.

use std::time::Duration;

use bsp::central::{Awaited, Central, Checkpoint, Config, ServerOptimizer};
use bsp::time::Time;
use state::writing::{Operation, Writing, perform};
use state::{About, Ledger, Newest, OpenError, Opened, Secrets, Snapshot, Wanted, checkpoint, open_on};

use crate::damage::{Damage, Progress, step_text};
use crate::disk::SimulatedDisk;
use crate::gradients::Gradients;
use crate::observer::Observer;
use crate::random::Random;
use crate::world::{Event, World};

/// The server's process, and what it keeps on its disk.
pub struct Server<G: Gradients, O> {
    pub(crate) is_up: bool,
    /// It has told its volunteers that it stops, and does so when all is durable.
    pub(crate) is_stopping: bool,
    /// Counts its starts: what an earlier process had planned does not happen any more.
    process: u64,
    /// Its clock is ahead of the world's by this.
    clock: Duration,
    /// While nothing of it runs: the events that wait.
    held: Option<Vec<Event<G, O>>>,
    storage: Option<Storage>,
}

/// How the server keeps its run.
pub struct StorageSettings {
    /// Checkpoints that stay.
    pub keep: usize,
    /// The time of a step of writing, at least …
    pub shortest_step: Duration,
    /// … and at most.
    pub longest_step: Duration,
    /// Makes the optimizer of a server that starts.
    pub optimizer: Box<dyn Fn() -> Box<dyn ServerOptimizer>>,
}

/// The run's folder, and what the process has in its memory of it.
struct Storage {
    disk: SimulatedDisk,
    settings: StorageSettings,
    /// The model at the run's beginning.
    model: Vec<f32>,
    random: Random,
    folder: Option<OpenFolder>,
}

/// The folder as the running process knows it.
struct OpenFolder {
    about: About,
    newest: Newest,
    ledger: Ledger,
    writing: Option<CheckpointWriting>,
}

/// A checkpoint that is being written.
struct CheckpointWriting {
    checkpoint: Box<Checkpoint>,
    /// What points to it.
    newest: Newest,
    /// The step that is being done.
    step: Operation,
    steps: Writing,
    unfinished: Option<String>,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what it has written lies in the system's memory, and its connections end.
    Process,
    /// The machine stops: what was not synced may be lost or torn, and its connections say nothing any more.
    Machine,
}

/// Why a start did not succeed.
#[derive(Debug)]
pub enum StartError {
    /// The process was killed meanwhile.
    Killed,
    /// The run can't be opened.
    Open(OpenError),
}

impl<G: Gradients, O> Server<G, O> {
    /// A server that runs and keeps nothing.
    pub(crate) fn new() -> Server<G, O> {
        Server {
            is_up: true,
            is_stopping: false,
            process: 1,
            clock: Duration::ZERO,
            held: None,
            storage: None,
        }
    }

    /// Whether its process runs.
    pub fn is_up(&self) -> bool {
        self.is_up
    }

    /// Whether it takes new connections.
    pub(crate) fn accepts(&self) -> bool {
        self.is_up && !self.is_stopping
    }

    /// The time on its clock.
    pub(crate) fn time(&self, now: Time) -> Time {
        now + self.clock
    }

    /// The world's time when its clock shows `at`.
    pub(crate) fn world_time(&self, at: Time) -> Time {
        at - self.clock
    }

    /// If nothing of it runs now, keeps the event for later. Else gives it back.
    pub(crate) fn hold(&mut self, event: Event<G, O>) -> Option<Event<G, O>> {
        match &mut self.held {
            Some(held) => {
                held.push(event);
                None
            }
            None => Some(event),
        }
    }

    /// Whether it has been told to stop, and is not down yet.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Whether nothing of it runs, though its process is there.
    pub fn is_frozen(&self) -> bool {
        self.held.is_some()
    }

    /// The step of a checkpoint's writing that is under way, in words.
    pub fn step(&self) -> Option<String> {
        let folder = self.storage.as_ref()?.folder.as_ref()?;
        folder.writing.as_ref().map(|writing| step_text(&writing.step))
    }

    /// Its disk, if it has one.
    pub fn disk(&self) -> Option<&SimulatedDisk> {
        self.storage.as_ref().map(|storage| &storage.disk)
    }

    fn folder(&mut self) -> Option<&mut OpenFolder> {
        self.storage.as_mut()?.folder.as_mut()
    }

    /// Notes a contribution that was accepted. Returns whether the disk took it.
    pub(crate) fn note_accepted(&mut self, contribution: Awaited) -> bool {
        let folder = self.folder();
        folder.is_none_or(|folder| folder.ledger.append(contribution).is_ok())
    }
}

impl<G: Gradients + 'static, O: Observer + 'static> World<G, O> {
    /// The server keeps its run on this disk from now on: its first incarnation begins. To be called before a
    /// volunteer joins.
    ///
    /// # Errors
    /// The disk refuses it.
    pub fn keep_run_on(&mut self, disk: SimulatedDisk, settings: StorageSettings) -> Result<(), StartError> {
        self.server.storage = Some(Storage {
            disk,
            settings,
            model: self.central.model().to_vec(),
            random: Random::stream(self.random.seed(), u64::MAX),
            folder: None,
        });
        self.server.is_up = false;
        self.start_server(None)
    }

    /// The server starts. If `killed_after` says so, it is killed after this many changes of its disk, unless it is up
    /// by then. Then it runs on.
    ///
    /// # Errors
    /// It could not start, and is down.
    pub fn start_server(&mut self, killed_after: Option<u64>) -> Result<(), StartError> {
        assert!(!self.server.is_up, "it runs already");
        let config = self.central.config().clone();
        let Some(storage) = &mut self.server.storage else {
            self.server.is_up = true;
            return Ok(());
        };
        storage.disk.kill_after(killed_after);
        let opened = storage.open(&config, self.now);
        storage.disk.kill_after(None);
        storage.disk.heal();
        let Opened {
            incarnation,
            checkpoint,
            awaited,
            identity,
            newest,
            ..
        } = opened.map_err(|error| match killed_after {
            Some(_) => StartError::Killed,
            None => StartError::Open(error),
        })?;
        let snapshot = checkpoint.as_ref().map(Snapshot::of);
        self.observer
            .on_server_started(self.now, incarnation, checkpoint.as_ref(), &awaited);
        let start = Snapshot { incarnation, number: 0 };
        storage.folder = Some(OpenFolder {
            about: identity.about(incarnation),
            newest,
            ledger: Ledger::new(Box::new(storage.disk.clone()), start),
            writing: None,
        });
        let optimizer = (storage.settings.optimizer)();
        let now = self.now + self.server.clock;
        // It was stopped before its first checkpoint: it goes on from its beginning.
        let checkpoint = checkpoint.unwrap_or_else(|| storage.first(now, config.clone()).into_checkpoint());
        let resumed = Central::resume(now, config, checkpoint, incarnation, optimizer, awaited);
        self.central = match resumed {
            Ok(central) => central,
            Err(error) => panic!("the run's own checkpoint {snapshot:?} can't be resumed: {error}"),
        };
        self.server.is_up = true;
        self.with_central(|_, _, _| ());
        Ok(())
    }

    /// The server's process or its machine ends, at once.
    pub fn crash_server(&mut self, crash: Crash) {
        if !self.server.is_up {
            return;
        }
        let mut damage = Damage::default();
        if let Some(storage) = &mut self.server.storage {
            damage.step = storage.kill();
            if crash == Crash::Machine {
                damage.torn = storage.disk.stop(&mut storage.random);
            }
        }
        self.observer.on_server_crashed(self.now, crash, &damage);
        self.end_process(crash);
    }

    /// The machine of a server that is down stops, too.
    pub fn stop_machine(&mut self) {
        if let (false, Some(storage)) = (self.server.is_up, &mut self.server.storage) {
            storage.disk.stop(&mut storage.random);
        }
    }

    /// The time on the server's clock.
    pub fn server_time(&self) -> Time {
        self.server.time(self.now)
    }

    /// The server stops properly: the superstep closes, and when all is durable, or that takes too long, it tells its
    /// volunteers that it will be back, and ends.
    pub fn stop_server(&mut self) {
        const DURABLE_WITHIN: Duration = Duration::from_secs(3);
        if !self.server.accepts() {
            return;
        }
        self.server.is_stopping = true;
        self.with_central(|central, now, actions| {
            central.close_superstep(now, actions);
            central.make_checkpoint(now, actions);
        });
        let process = self.server.process;
        self.at(self.now + DURABLE_WITHIN, move |world| {
            if world.server.process == process {
                world.go_away();
            }
        });
        self.end_if_durable();
    }

    /// Nothing of the server runs for `duration`. What arrives meanwhile waits.
    pub fn freeze_server(&mut self, duration: Duration) {
        if self.server.is_up && self.server.held.is_none() {
            self.server.held = Some(Vec::new());
            self.schedule(self.now + duration, Event::ServerThaws(self.server.process));
        }
    }

    /// The server's clock jumps ahead by `duration`.
    pub fn jump_server_clock(&mut self, duration: Duration) {
        self.server.clock += duration;
        self.with_central(|_, _, _| ());
    }

    pub(crate) fn thaw_server(&mut self, process: u64) {
        if process == self.server.process {
            for event in self.server.held.take().unwrap_or_default() {
                self.on_event(event);
            }
        }
    }

    /// A checkpoint was made: it is written, one step after the other.
    pub(crate) fn begin_checkpoint(&mut self, checkpoint: Box<Checkpoint>) {
        self.observer.on_checkpoint_made(self.now, &checkpoint);
        let Some(storage) = &mut self.server.storage else {
            return;
        };
        storage.begin(checkpoint);
        self.schedule_step();
    }

    fn schedule_step(&mut self) {
        if let Some(storage) = &mut self.server.storage {
            let takes = storage.step_time();
            self.schedule(self.now + takes, Event::StateStep(self.server.process));
        }
    }

    /// The step of the checkpoint that is being written is done.
    pub(crate) fn on_state_step(&mut self, process: u64) {
        if process != self.server.process {
            return;
        }
        let Some(storage) = &mut self.server.storage else {
            return;
        };
        match storage.step() {
            None => {}
            Some(Step::Next) => self.schedule_step(),
            Some(Step::Written(number)) => {
                self.observer.on_checkpoint_written(self.now, number);
                self.with_central(|central, now, actions| central.on_checkpoint_written(now, number, actions));
            }
            Some(Step::Failed(number)) => {
                self.observer.on_checkpoint_failed(self.now, number);
                self.with_central(|central, now, _| central.on_checkpoint_failed(now, number));
            }
        }
        self.end_if_durable();
    }

    fn end_if_durable(&mut self) {
        if self.server.is_up && self.server.is_stopping && self.central.is_durable() {
            self.go_away();
        }
    }

    fn go_away(&mut self) {
        self.with_central(|central, _, actions| central.go_away(actions));
        self.end_process(Crash::Process);
    }

    fn end_process(&mut self, crash: Crash) {
        const SILENCE: Duration = Duration::from_secs(3);
        let server = &mut self.server;
        (server.is_up, server.is_stopping, server.held) = (false, false, None);
        server.process += 1;
        if let Some(storage) = &mut server.storage {
            storage.folder = None;
        }
        self.central_timer.set(None, self.now);
        for (id, tab) in self.network.close_all_at_central() {
            let after = match crash {
                Crash::Process => self.tabs[tab].machine.latency,
                Crash::Machine => SILENCE,
            };
            self.schedule(self.now + after, Event::ClosedAtTab(id));
        }
    }
}

/// What a step of writing has come to.
enum Step {
    Next,
    Written(u64),
    Failed(u64),
}

impl Storage {
    /// The central module at the run's beginning.
    fn first(&self, now: Time, config: Config) -> Central {
        Central::new(now, config, self.model.clone(), (self.settings.optimizer)())
    }

    fn open(&mut self, config: &Config, now: Time) -> Result<Opened, OpenError> {
        let wanted = Wanted {
            run: "simulated".to_owned(),
            spec_hash: config.spec_hash,
            data_hash: 0,
            seed: 0,
            parameters: self.model.len() as u64,
            run_file: Default::default(),
        };
        let mut secrets = || Secrets {
            run_id: config.run.0,
            token_key: config.token_key.0,
        };
        let now_ms = now.as_micros() / 1000;
        open_on(&mut self.disk, &wanted, &mut secrets, &|_, _| Vec::new(), now_ms)
    }

    fn step_time(&mut self) -> Duration {
        let StorageSettings {
            shortest_step,
            longest_step,
            ..
        } = self.settings;
        let span = longest_step.saturating_sub(shortest_step).as_micros() as u64;
        shortest_step + Duration::from_micros(self.random.below(span + 1))
    }

    fn begin(&mut self, checkpoint: Box<Checkpoint>) {
        let present = self.disk.names();
        let Some(folder) = &mut self.folder else { return };
        let snapshot = Snapshot::of(&checkpoint);
        folder.ledger.rotate(snapshot);
        let mut newest = folder.newest.clone();
        newest.point_to(&checkpoint);
        let mut steps = Writing::checkpoint(snapshot, &newest, &present, self.settings.keep);
        folder.writing = steps.next().map(|step| CheckpointWriting {
            checkpoint,
            newest,
            step,
            steps,
            unfinished: None,
        });
    }

    /// Does the step that is due.
    fn step(&mut self) -> Option<Step> {
        let folder = self.folder.as_mut()?;
        let mut writing = folder.writing.take()?;
        let number = writing.checkpoint.number;
        let done = writing.perform(&folder.about, &mut self.disk);
        if !done && !matches!(writing.step, Operation::Remove { .. }) {
            if let Some(file) = &writing.unfinished {
                // As the real one does; the first error counts.
                let _ = state::Disk::remove(&mut self.disk, file);
            }
            return Some(Step::Failed(number));
        }
        match writing.steps.next() {
            Some(step) => {
                writing.step = step;
                folder.writing = Some(writing);
                Some(Step::Next)
            }
            None => {
                folder.newest = writing.newest;
                Some(Step::Written(number))
            }
        }
    }

    /// The process is killed. The step that was under way is done, is not, or is done in part. Returns that in words,
    /// if there was one.
    fn kill(&mut self) -> Option<String> {
        let mut folder = self.folder.take()?;
        let mut writing = folder.writing.take()?;
        let progress = match self.random.below(3) {
            0 => Progress::NotBegun,
            1 => Progress::Part,
            _ => Progress::Whole,
        };
        match progress {
            Progress::NotBegun => {}
            Progress::Part => self.disk.kill_after(Some(0)),
            Progress::Whole => {}
        }
        if !matches!(progress, Progress::NotBegun) {
            writing.perform(&folder.about, &mut self.disk);
        }
        self.disk.kill_after(None);
        Some(format!("{} ({progress})", step_text(&writing.step)))
    }
}

impl CheckpointWriting {
    /// Does the step. Returns whether it was done.
    fn perform(&mut self, about: &About, disk: &mut SimulatedDisk) -> bool {
        match &self.step {
            Operation::Write { file, .. } => self.unfinished = Some(file.clone()),
            Operation::Rename { .. } => {}
            _ => {}
        }
        let checkpoint = &self.checkpoint;
        let mut encode = |to: &mut dyn std::io::Write| checkpoint::encode(about, checkpoint, to).map(|_| ());
        let done = perform(&self.step, disk, &mut encode).is_ok();
        if done && matches!(self.step, Operation::Rename { .. }) {
            self.unfinished = None;
        }
        done
    }
}
