//! The driver around the central BSP module (102): a thread of its own that hands it events and does its actions.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bsp::central::{Action, Awaited, Central, ClosedSuperstep, ConnectionId, Divergence};
use bsp::protocol::message::{Refusal, SessionId};
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;
use bytes::Bytes;
use run::Run;
use run::goal::{Evaluated, Goal};
use run::model_file::About;
use state::{Best, DiskError, Ledger, RunState, Snapshot, WentBack};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::checkpoint_writer::{CheckpointWriter, Outcome};
use crate::divergence::{self, GradientChecker};
use crate::history::{EvaluatedModel, EvaluationPoint, EventKind, History};
use crate::outbox::{Outbox, Outgoing};
use crate::refusals::Refusals;
use crate::run_state::GoingBack;
use crate::traffic::Traffic;

mod handle;

pub(crate) use handle::{ControllerHandle, HasEnded};

/// The most events that wait for the controller. While this many wait, sockets don't read on.
const QUEUE: usize = 1024;

/// How long the end of a run waits for the history's disk: within the seconds that a service manager leaves.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// How long the last checkpoint may take at the end.
const DURABLE_WITHIN: Duration = Duration::from_secs(3);

/// A look at the controller, and what is done with what is seen.
type Look = Box<dyn FnOnce(&Controller, Time) + Send>;

/// What happens to a controller.
pub(crate) enum Event {
    /// A volunteer's socket is open.
    Connected {
        connection: ConnectionId,
        peer: SocketAddr,
        outbox: Outbox,
    },
    /// A frame came in.
    Frame { connection: ConnectionId, frame: Bytes },
    /// A socket has closed.
    Disconnected { connection: ConnectionId },
    /// A checkpoint was written, or could not be.
    CheckpointWritten(Outcome),
    /// The run has gone back to an earlier checkpoint, or could not.
    WentBack(Box<Result<WentBack, DiskError>>),
    /// A model was evaluated; `divergence` says how the run has diverged, if it has.
    Evaluated {
        model: EvaluatedModel,
        incarnation: u32,
        divergence: Option<Divergence>,
    },
    /// Another thread looks at the controller.
    Inspect(Look),
    /// Gradients of this model were computed.
    GradientsChecked { stamp: ModelStamp, are_finite: bool },
    /// The run ends, at the operator's wish.
    Stop,
}

/// A run that has ended: its controller, and how long the run took.
pub(crate) struct Ended {
    pub(crate) controller: Controller,
    pub(crate) elapsed: Duration,
}

/// The driver around the central module.
pub(crate) struct Controller {
    central: Central,
    began: Instant,
    connections: HashMap<ConnectionId, Connection>,
    history: History,
    traffic: Arc<Traffic>,
    stop_at: Option<Goal>,
    /// The model whose evaluation reached `stop_at`.
    reached: Option<EvaluatedModel>,
    /// The best model that was evaluated until now.
    best: Option<EvaluatedModel>,
    gradient_checker: GradientChecker,
    refusals: Refusals,
    /// Whether that is kept beside the checkpoints.
    keeps_best: bool,
    going_back: Option<GoingBack>,
    ledger: Ledger,
    /// The ledger can't be written; it was said.
    has_ledger_failed: bool,
    writer: CheckpointWriter,
    checkpoints: Checkpoints,
    /// The run ends: nothing more is accepted.
    is_closing: bool,
    actions: Vec<Action>,
}

/// What a controller begins with.
pub(crate) struct Start {
    pub(crate) run: Run,
    pub(crate) central: Central,
    pub(crate) began: Instant,
    /// The aim with which the run ends.
    pub(crate) stop_at: Option<Goal>,
    pub(crate) history: History,
    /// Whether the best evaluated model is kept.
    pub(crate) keeps_best: bool,
    /// That model, if there is one.
    pub(crate) best: Option<EvaluatedModel>,
    /// What happens after a divergence, if not a stop.
    pub(crate) going_back: Option<GoingBack>,
    pub(crate) ledger: Ledger,
    pub(crate) writer: CheckpointWriter,
}

/// The last checkpoint of this server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checkpoints {
    /// When it was written.
    pub(crate) last_at: Option<Time>,
    /// How long that took.
    pub(crate) seconds: f64,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// Whether the last attempt failed.
    pub(crate) is_failing: bool,
}

struct Connection {
    peer: SocketAddr,
    outbox: Outbox,
    /// The session of its volunteer, once it has said hello.
    session: Option<SessionId>,
    /// It is being closed: what still comes from it was sent before its volunteer heard of that.
    is_leaving: bool,
}

/// Starts the controller on a thread of its own. It ends when it is told to stop, or when an evaluation reaches
/// `stop_at`.
pub(crate) fn start(runtime: Handle, start: Start) -> std::io::Result<(ControllerHandle, oneshot::Receiver<Ended>)> {
    let Start {
        central, mut history, ..
    } = start;
    let (events, inbox) = mpsc::channel(QUEUE);
    let (ended, end) = oneshot::channel();
    let traffic = Arc::new(Traffic::default());
    history.begin(Time::ZERO, central.stamp(), central.totals().samples_in_model);
    let controller = Controller {
        central,
        began: start.began,
        connections: HashMap::new(),
        history,
        traffic: Arc::clone(&traffic),
        gradient_checker: GradientChecker::new(start.run, events.downgrade()),
        refusals: Refusals::default(),
        stop_at: start.stop_at,
        reached: None,
        best: start.best,
        keeps_best: start.keeps_best,
        going_back: start.going_back,
        ledger: start.ledger,
        has_ledger_failed: false,
        writer: start.writer,
        checkpoints: Checkpoints::default(),
        is_closing: false,
        actions: Vec::new(),
    };
    std::thread::Builder::new()
        .name("controller".to_owned())
        .spawn(move || {
            let mut controller = controller.run(&runtime, inbox);
            let elapsed = controller.began.elapsed();
            controller.history.flush(FLUSH_WITHIN);
            // Nobody waits for the end of a server that was not fully started.
            let _ = ended.send(Ended { controller, elapsed });
        })?;
    Ok((ControllerHandle::new(events, traffic), end))
}

/// Waits for the next event: `None` when `patience` is over, and `Some(None)` when nobody is left to tell one.
fn next_event(
    runtime: &Handle,
    inbox: &mut mpsc::Receiver<Event>,
    patience: Option<Duration>,
) -> Option<Option<Event>> {
    runtime.block_on(async {
        match patience {
            Some(patience) => tokio::time::timeout(patience, inbox.recv()).await.ok(),
            None => Some(inbox.recv().await),
        }
    })
}

impl Controller {
    /// The central module.
    pub(crate) fn central(&self) -> &Central {
        &self.central
    }

    /// The history of the run.
    pub(crate) fn history(&self) -> &History {
        &self.history
    }

    /// What a file of the current model says of it.
    pub(crate) fn about(&self, run: String) -> About {
        About {
            run,
            version: self.central.stamp().version,
            samples: self.central.totals().samples_in_model,
        }
    }

    /// The model that the run leaves, and what its file says of it: the one whose evaluation reached the run's aim, if
    /// the run ended with that, or the last. Versions are made while a model is evaluated; only the evaluated one is
    /// known to have reached the aim. Of a run that has diverged it is the best that was evaluated, if any was.
    pub(crate) fn result(&self, run: String) -> (About, &[f32]) {
        let known = match self.central.divergence() {
            Some(_) => self.best.as_ref(),
            None => self.reached.as_ref(),
        };
        match known {
            Some(EvaluatedModel { point, parameters }) => {
                let (version, samples) = (point.version, point.samples);
                (About { run, version, samples }, parameters)
            }
            None => (self.about(run), self.central.model()),
        }
    }

    /// The best model that was evaluated.
    pub(crate) fn best(&self) -> Option<&EvaluatedModel> {
        self.best.as_ref()
    }

    /// The last checkpoint of this server.
    pub(crate) fn last_checkpoint(&self) -> Checkpoints {
        self.checkpoints
    }

    /// What has travelled over the volunteers' WebSockets.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn run(mut self, runtime: &Handle, mut inbox: mpsc::Receiver<Event>) -> Controller {
        loop {
            let now = self.now();
            let patience = self.central.next_timeout(now).map(|at| at.since(now));
            let event = next_event(runtime, &mut inbox, patience);
            let now = self.now();
            match event {
                None => self.central.on_timeout(now, &mut self.actions),
                Some(None | Some(Event::Stop)) => break,
                Some(Some(event)) => {
                    if self.on_event(now, event) {
                        break;
                    }
                }
            }
            self.act();
            // The aim will not be reached.
            let is_over = self.central.divergence().is_some() && !self.central.config().goes_back;
            if self.stop_at.is_some() && is_over {
                break;
            }
        }
        self.close(runtime, &mut inbox);
        self
    }

    /// Ends: the superstep closes, all that was accepted becomes durable, and volunteers are told that the server will
    /// be back, if they were not told that the run is finished.
    fn close(&mut self, runtime: &Handle, inbox: &mut mpsc::Receiver<Event>) {
        self.is_closing = true;
        let now = self.now();
        self.central.close_superstep(now, &mut self.actions);
        self.central.make_checkpoint(now, &mut self.actions);
        self.act();
        let until = now + DURABLE_WITHIN;
        while !self.central.is_durable() && !self.central.phase().has_diverged() {
            let patience = until.since(self.now());
            let event = next_event(runtime, inbox, Some(patience));
            let now = self.now();
            match event {
                Some(Some(event)) => drop(self.on_event(now, event)),
                Some(None) => break,
                None => {
                    tracing::error!(
                        "the last checkpoint is not written after {DURABLE_WITHIN:?}: volunteers that live send again \
                         what it would have held"
                    );
                    break;
                }
            }
            self.act();
        }
        if !self.central.phase().is_finished() {
            self.central.go_away(&mut self.actions);
            self.act();
        }
        for connection in self.connections.values() {
            let _ = connection.outbox.send(Outgoing::Close);
        }
    }

    /// Goes on from an earlier checkpoint: the model has diverged since.
    fn go_on_from(&mut self, now: Time, went: Result<WentBack, DiskError>) {
        let Some(going_back) = &self.going_back else { return };
        let resumed = went
            .map_err(anyhow::Error::from)
            .and_then(|went| going_back.central(now, &self.central, went));
        let central = match resumed {
            Ok(central) => central,
            Err(error) => {
                tracing::error!("the run can't go back to an earlier model: {error:#}. Volunteers rest");
                return self.central.give_up_going_back(&mut self.actions);
            }
        };
        self.central = central;
        let (stamp, setbacks, totals) = (self.central.stamp(), self.central.setbacks(), self.central.totals());
        let line = format!(
            "going back to version {}, with {} times the learning rate, as incarnation {}",
            stamp.version, setbacks.rate_factor, stamp.incarnation
        );
        tracing::warn!("{line}");
        let (incarnation, number) = (stamp.incarnation, 0);
        self.ledger.rotate(Snapshot { incarnation, number });
        self.history.begin(now, stamp, totals.samples_in_model);
        self.history.push_event(now, EventKind::Settings, None, line);
        // So that a restart goes on from here, too.
        self.central.make_checkpoint(now, &mut self.actions);
    }

    /// How the run stands, for who lists runs.
    fn state(&self) -> RunState {
        match () {
            () if self.reached.is_some() => RunState::Finished,
            () if self.central.phase().has_diverged() => RunState::Diverged,
            () if self.is_closing => RunState::Stopped,
            () => RunState::Training,
        }
    }

    fn on_checkpoint_written(&mut self, now: Time, outcome: Outcome) {
        let Outcome { number, written } = outcome;
        match written {
            Ok(written) => {
                tracing::debug!(
                    "checkpoint {number}: {} bytes in {:.3} s",
                    written.bytes,
                    written.seconds
                );
                for warning in &written.warnings {
                    tracing::warn!("{warning}");
                }
                if self.checkpoints.is_failing {
                    tracing::info!("checkpoints can be written again");
                }
                self.checkpoints = Checkpoints {
                    last_at: Some(now),
                    seconds: written.seconds,
                    bytes: written.bytes,
                    is_failing: false,
                };
                self.history
                    .push_event(now, EventKind::Checkpoint, None, format!("{} bytes", written.bytes));
                self.central.on_checkpoint_written(now, number, &mut self.actions);
            }
            Err(error) => {
                if !self.checkpoints.is_failing {
                    tracing::error!(
                        "a checkpoint can't be written: {error}; the run goes on, and volunteers keep what is not \
                         durable"
                    );
                }
                self.checkpoints.is_failing = true;
                self.central.on_checkpoint_failed(now, number);
            }
        }
    }

    /// Keeps a model beside the checkpoints, if the best one is kept there.
    fn keep_as_best(&mut self, model: &EvaluatedModel) {
        if self.keeps_best {
            self.writer.keep_best(Best {
                version: model.point.version,
                samples: model.point.samples,
                accuracy: model.point.accuracy,
                loss: model.point.loss,
                model: model.parameters.clone(),
            });
        }
    }

    fn note_accepted(&mut self, contribution: Awaited) {
        let outcome = self.ledger.append(contribution);
        if let Err(error) = &outcome
            && !self.has_ledger_failed
        {
            tracing::warn!("{error}; after a crash it would not be known how many samples are lost");
        }
        self.has_ledger_failed = outcome.is_err();
    }

    /// Handles an event, and says whether the run has ended with it.
    fn on_event(&mut self, now: Time, event: Event) -> bool {
        match event {
            Event::Connected {
                connection,
                peer,
                outbox,
            } => {
                tracing::debug!("{peer}: connected");
                let new = Connection {
                    peer,
                    outbox,
                    session: None,
                    is_leaving: false,
                };
                self.connections.insert(connection, new);
            }
            // What comes now is not acknowledged, and so it is sent again to the next server.
            Event::Frame { connection, .. } if self.is_closing || self.is_leaving(connection) => {}
            Event::Frame { connection, frame } => {
                self.central.on_frame(now, connection, &frame, &mut self.actions);
                self.note_joined(now, connection);
            }
            Event::Disconnected { connection } => {
                if let Some(Connection { peer, session, .. }) = self.connections.remove(&connection) {
                    tracing::debug!("{peer}: disconnected");
                    if session.is_some() {
                        self.history.push_event(now, EventKind::Left, session, String::new());
                    }
                }
                self.central.on_disconnected(now, connection, &mut self.actions);
            }
            Event::CheckpointWritten(outcome) => self.on_checkpoint_written(now, outcome),
            Event::WentBack(went) => self.go_on_from(now, *went),
            Event::Evaluated { .. } if self.is_closing => {}
            // The run has gone back meanwhile: this model is none of its own any more.
            Event::Evaluated { incarnation, .. } if incarnation != self.central.stamp().incarnation => {}
            Event::Evaluated { model, divergence, .. } => {
                let EvaluationPoint {
                    version,
                    samples,
                    accuracy,
                    loss,
                    ..
                } = model.point;
                let evaluated = Evaluated { loss, accuracy };
                if let Some(divergence) = divergence {
                    self.central.diverge(now, divergence, &mut self.actions);
                    return false;
                }
                tracing::info!(
                    "version {version}: accuracy {}, loss {loss:.4}, {samples} samples",
                    evaluated.accuracy_text()
                );
                self.history.push_evaluation(&model.point);
                let best = self.best.as_ref().map(EvaluatedModel::evaluated);
                let is_best = best.is_none_or(|best| evaluated.is_better_than(&best));
                if is_best {
                    self.keep_as_best(&model);
                }
                if self.stop_at.is_some_and(|goal| goal.is_reached_by(&evaluated)) {
                    self.reached = Some(model);
                    self.central.finish(&mut self.actions);
                    self.act();
                    return true;
                }
                if is_best {
                    self.best = Some(model);
                }
            }
            Event::GradientsChecked { stamp, are_finite } => {
                let version = stamp.version;
                // Somebody has contributed if there is a newer version.
                if are_finite || stamp != self.central.stamp() {
                    self.central.on_gradients_finite(now);
                } else {
                    self.central
                        .diverge(now, Divergence::Gradients { version }, &mut self.actions);
                }
            }
            Event::Inspect(look) => look(self, now),
            Event::Stop => return true,
        }
        false
    }

    fn is_leaving(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|connection| connection.is_leaving)
    }

    /// Writes down that a volunteer has joined, if this connection's first hello was just accepted.
    fn note_joined(&mut self, now: Time, connection: ConnectionId) {
        if let Some(Connection { session, .. }) = self.connections.get_mut(&connection)
            && session.is_none()
        {
            *session = self.central.session_of(connection);
            if session.is_some() {
                self.history.push_event(now, EventKind::Joined, *session, String::new());
            }
        }
    }

    fn act(&mut self) {
        let now = self.now();
        let mut actions = std::mem::take(&mut self.actions);
        let mut rests = false;
        for action in actions.drain(..) {
            match action {
                Action::Send { to, frame } => self.send(to, Outgoing::Frame(frame)),
                Action::Disconnect { from, reason } => {
                    if let (Some(reason), Some(Connection { peer, session, .. })) =
                        (reason, self.connections.get(&from))
                    {
                        match reason {
                            Refusal::Finished | Refusal::Diverged => tracing::debug!("{peer}: {reason}"),
                            _ => {
                                tracing::warn!("{peer}: turned away: {reason}");
                                let detail = reason.to_string();
                                self.history.push_event(now, EventKind::Refused, *session, detail);
                            }
                        }
                    }
                    self.send(from, Outgoing::Close);
                    if let Some(connection) = self.connections.get_mut(&from) {
                        connection.is_leaving = true;
                    }
                }
                Action::ContributionRefused {
                    session,
                    sequence,
                    reason,
                } => {
                    let SessionId(id) = session;
                    self.refusals.log(now, id, sequence, &reason);
                    let detail = format!("contribution {sequence}: {reason}");
                    self.history.push_refused_contribution(now, session, detail);
                }
                Action::NoteAccepted(contribution) => self.note_accepted(contribution),
                Action::WriteCheckpoint(checkpoint) => {
                    self.ledger.rotate(Snapshot::of(&checkpoint));
                    let accuracy = self.accuracy();
                    let number = checkpoint.number;
                    if !self.writer.write(checkpoint, accuracy, self.state()) {
                        if !self.checkpoints.is_failing {
                            tracing::error!("a checkpoint can't be written: the disk is still busy with earlier ones");
                        }
                        self.checkpoints.is_failing = true;
                        self.central.on_checkpoint_failed(now, number);
                    }
                }
                Action::SuperstepClosed(closed) => self.on_superstep_closed(now, &closed),
                Action::CheckGradients => {
                    tracing::warn!("volunteers compute nothing that is finite; checking a few gradients here");
                    self.gradient_checker.check(&self.central);
                }
                Action::Diverged(divergence) => {
                    let reason = divergence::reason(divergence);
                    self.history.push_event(now, EventKind::Diverged, None, reason.clone());
                    if self.central.config().goes_back && !self.is_closing && self.writer.go_back() {
                        tracing::error!("the run has diverged: {reason}");
                    } else {
                        tracing::error!(
                            "the run has diverged: {reason}. Volunteers rest; the best model so far is kept"
                        );
                        rests = true;
                    }
                }
            }
        }
        self.actions = actions;
        if rests {
            // No checkpoint follows that would say how the run stands.
            self.writer.note_state(self.accuracy(), RunState::Diverged);
            self.central.give_up_going_back(&mut self.actions);
        }
    }

    /// The accuracy of the last evaluation.
    fn accuracy(&self) -> Option<f64> {
        self.history.last_evaluation().and_then(|point| point.accuracy)
    }

    fn on_superstep_closed(&mut self, now: Time, closed: &ClosedSuperstep) {
        let ClosedSuperstep {
            version,
            contributions,
            samples,
            loss,
            staleness,
            weight,
            open_for,
        } = *closed;
        tracing::debug!(
            "version {version}: {samples} samples in {contributions} contributions, loss {loss:.4}, \
             staleness {staleness:.2}, weight {weight:.2}, {open_for:?}"
        );
        let samples_in_model = self.central.totals().samples_in_model;
        let volunteers = self.central.volunteer_count();
        self.history.push_superstep(now, closed, samples_in_model, volunteers);
    }

    fn send(&self, to: ConnectionId, outgoing: Outgoing) {
        if let Some(Connection { peer, outbox, .. }) = self.connections.get(&to)
            && let Err(error) = outbox.send(outgoing)
        {
            tracing::warn!("{peer}: {error}");
        }
    }
}
