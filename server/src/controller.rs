//! The driver around the central BSP module (102): a thread of its own that hands it events and does its actions.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bsp::central::{Action, Central, ClosedSuperstep, ConnectionId, Divergence};
use bsp::protocol::message::{ContributionRefusal, Refusal, SessionId};
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;
use bytes::Bytes;
use run::model_file::About;
use state::RunState;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::checkpoint_writer::Outcome;
use crate::divergence::{self, GradientChecker};
use crate::history::{EvaluatedModel, EvaluationPoint, EventKind, History};
use crate::outbox::{Outbox, Outgoing};
use crate::refusals::Refusals;
use crate::run_state::GoingBack;
use crate::stopping::{Stage, Stopping};
use crate::traffic::Traffic;

mod connections;
mod evaluations;
mod handle;
mod keeping;
mod start;

use connections::{Connections, Peer};
use evaluations::Evaluations;
pub(crate) use handle::{ControllerHandle, HasEnded};
pub(crate) use keeping::{Checkpoints, WentBack};
use keeping::{Keeping, News};
pub(crate) use start::{Ended, Start, start};

/// The most events that wait for the controller. While this many wait, sockets don't read on.
const QUEUE: usize = 1024;

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
    WentBack(Box<WentBack>),
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
    Stop(Stopping),
}

/// The driver around the central module.
pub(crate) struct Controller {
    central: Central,
    began: Instant,
    connections: Connections,
    history: History,
    traffic: Arc<Traffic>,
    evaluations: Evaluations,
    gradient_checker: GradientChecker,
    refusals: Refusals,
    keeping: Keeping,
    going_back: Option<GoingBack>,
    /// The writer goes back to an earlier checkpoint, and has not answered.
    is_going_back: bool,
    /// The run ends: nothing more is accepted.
    is_closing: bool,
    actions: Vec<Action>,
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
            Some(_) => self.best(),
            None => self.evaluations.reached(),
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
        self.evaluations.best()
    }

    /// The model that is kept as the best one, if one is kept.
    pub(crate) fn kept_best(&self) -> Option<&EvaluatedModel> {
        self.best().filter(|_| self.keeping.keeps_best())
    }

    /// The checkpoints of this server.
    pub(crate) fn checkpoints(&self) -> Checkpoints {
        self.keeping.checkpoints()
    }

    /// What has travelled over the volunteers' WebSockets.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }

    fn run(mut self, runtime: &Handle, mut inbox: mpsc::Receiver<Event>) -> (Controller, Stopping) {
        let stopping = loop {
            let now = self.now();
            let patience = self.central.next_timeout(now).map(|at| at.since(now));
            let event = next_event(runtime, &mut inbox, patience);
            let now = self.now();
            match event {
                None => self.central.on_timeout(now, &mut self.actions),
                Some(None) => break Stopping::now(),
                Some(Some(event)) => {
                    if let Some(stopping) = self.on_event(now, event) {
                        break stopping;
                    }
                }
            }
            self.act();
            // The aim will not be reached.
            let is_over = self.central.divergence().is_some() && !self.central.config().goes_back;
            if self.evaluations.stops_at_aim() && is_over {
                break Stopping::now();
            }
        };
        self.close(runtime, &mut inbox, stopping);
        (self, stopping)
    }

    /// Ends: the superstep closes, all that was accepted becomes durable, and volunteers are told that the server will
    /// be back, if they were not told that the run is finished.
    fn close(&mut self, runtime: &Handle, inbox: &mut mpsc::Receiver<Event>, stopping: Stopping) {
        self.is_closing = true;
        let now = self.now();
        self.central.close_superstep(now, &mut self.actions);
        self.central.make_checkpoint(now, &mut self.actions);
        self.act();
        self.wait_until_durable(runtime, inbox, stopping);
        if self.central.config().checkpoint_interval.is_none() || self.is_going_back {
            self.keeping.note_state(self.accuracy(), self.state());
        }
        if !self.central.phase().is_finished() {
            self.central.go_away(&mut self.actions);
            self.act();
        }
        self.connections.close_all();
    }

    fn wait_until_durable(&mut self, runtime: &Handle, inbox: &mut mpsc::Receiver<Event>, stopping: Stopping) {
        while !self.central.is_durable() && !self.central.phase().has_diverged() {
            let event = next_event(runtime, inbox, Some(stopping.left_for(Stage::Checkpoint)));
            let now = self.now();
            match event {
                Some(Some(event)) => drop(self.on_event(now, event)),
                Some(None) => break,
                None => {
                    tracing::error!(
                        "the last checkpoint is not written in time: volunteers that live send again what it would \
                         have held"
                    );
                    break;
                }
            }
            self.act();
        }
    }

    /// Goes on from an earlier checkpoint, which is written as this run's newest: the model has diverged since.
    fn go_on_from(&mut self, now: Time, went: WentBack) {
        self.is_going_back = false;
        let Some(going_back) = &self.going_back else { return };
        let config = self.central.config().clone();
        let resumed = went.map_err(anyhow::Error::from).and_then(|checkpoint| {
            self.keeping.on_gone_back(&checkpoint);
            going_back.central(now, config, checkpoint)
        });
        let central = match resumed {
            Ok(central) => central,
            Err(error) => {
                tracing::error!("the run can't go back to an earlier model: {error:#}. Volunteers rest");
                self.keeping.note_state(self.accuracy(), self.state());
                return self.central.give_up_going_back(&mut self.actions);
            }
        };
        self.central = central;
        let (stamp, setbacks, totals) = (self.central.stamp(), self.central.setbacks(), self.central.totals());
        let line = format!(
            "going back to version {}, with {} times the learning rate, as incarnation {}; {} accepted samples are in \
             no model any more",
            stamp.version,
            setbacks.rate_factor,
            stamp.incarnation,
            self.central.samples_lost(now).gone_back
        );
        tracing::warn!("{line}");
        self.history.begin(now, stamp, totals.samples_in_model);
        self.history.push_event(now, EventKind::Settings, None, line);
    }

    /// How the run stands, for who lists runs.
    fn state(&self) -> RunState {
        match () {
            () if self.evaluations.reached().is_some() => RunState::Finished,
            () if self.central.phase().has_diverged() && !self.is_going_back => RunState::Diverged,
            () if self.is_closing => RunState::Stopped,
            () => RunState::Training,
        }
    }

    fn push_checkpoint(&mut self, now: Time, news: News) {
        if let Some(line) = news {
            self.history.push_event(now, EventKind::Checkpoint, None, line);
        }
    }

    fn on_checkpoint_written(&mut self, now: Time, outcome: &Outcome) {
        let news = self.keeping.on_outcome(now, outcome);
        self.push_checkpoint(now, news);
        match outcome.written {
            Ok(_) => self
                .central
                .on_checkpoint_written(now, outcome.number, &mut self.actions),
            Err(_) => self.central.on_checkpoint_failed(now, outcome.number),
        }
    }

    /// Handles an event, and says whether the run ends with it.
    fn on_event(&mut self, now: Time, event: Event) -> Option<Stopping> {
        match event {
            Event::Connected {
                connection,
                peer,
                outbox,
            } => {
                tracing::debug!("{peer}: connected");
                self.connections.insert(connection, peer, outbox);
            }
            // What comes now is not acknowledged, and so it is sent again to the next server.
            Event::Frame { connection, .. } if self.is_closing || self.connections.is_leaving(connection) => {}
            Event::Frame { connection, frame } => {
                self.central.on_frame(now, connection, &frame, &mut self.actions);
                self.note_joined(now, connection);
            }
            Event::Disconnected { connection } => {
                if let Some(Peer { address, session }) = self.connections.remove(connection) {
                    tracing::debug!("{address}: disconnected");
                    if session.is_some() {
                        self.history.push_event(now, EventKind::Left, session, String::new());
                    }
                }
                self.central.on_disconnected(now, connection, &mut self.actions);
            }
            Event::CheckpointWritten(outcome) => self.on_checkpoint_written(now, &outcome),
            Event::WentBack(went) => self.go_on_from(now, *went),
            Event::Evaluated { .. } if self.is_closing => {}
            // The run has gone back meanwhile: this model is none of its own any more.
            Event::Evaluated { incarnation, .. } if incarnation != self.central.stamp().incarnation => {}
            Event::Evaluated { model, divergence, .. } => return self.on_evaluated(now, model, divergence),
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
            Event::Stop(stopping) => return Some(stopping),
        }
        None
    }

    /// A model was evaluated. Says whether the run ends with it.
    fn on_evaluated(&mut self, now: Time, model: EvaluatedModel, divergence: Option<Divergence>) -> Option<Stopping> {
        let EvaluationPoint {
            version, samples, loss, ..
        } = model.point;
        if let Some(divergence) = divergence {
            self.central.diverge(now, divergence, &mut self.actions);
            return None;
        }
        tracing::info!(
            "version {version}: accuracy {}, loss {loss:.4}, {samples} samples",
            model.evaluated().accuracy_text()
        );
        self.history.push_evaluation(&model.point);
        let is_best = self.evaluations.is_best(&model);
        if is_best {
            self.keeping.keep_as_best(&model);
        }
        self.evaluations.on_evaluated(model, is_best).then(|| {
            let stopping = Stopping::now();
            self.central.finish(&mut self.actions);
            self.act();
            stopping
        })
    }

    /// Writes down that a volunteer has joined, if this connection's first hello was just accepted.
    fn note_joined(&mut self, now: Time, connection: ConnectionId) {
        let session = self.central.session_of(connection);
        if let Some(session) = self.connections.note_session(connection, session) {
            self.history
                .push_event(now, EventKind::Joined, Some(session), String::new());
        }
    }

    fn act(&mut self) {
        let now = self.now();
        // What is done may lead to more: a run that can't go back tells its volunteers to rest.
        while !self.actions.is_empty() {
            for action in std::mem::take(&mut self.actions) {
                self.do_action(now, action);
            }
        }
    }

    fn do_action(&mut self, now: Time, action: Action) {
        match action {
            Action::Send { to, frame } => self.connections.send(to, Outgoing::Frame(frame)),
            Action::Disconnect { from, reason } => {
                if let Some(reason) = reason {
                    self.on_turned_away(now, from, &reason);
                }
                self.connections.close(from);
            }
            Action::ContributionRefused {
                session,
                sequence,
                reason,
            } => self.on_contribution_refused(now, session, sequence, &reason),
            Action::LaterIncarnationSeen { incarnation } => {
                let ours = self.central.stamp().incarnation;
                self.refusals.log_later_incarnation(ours, incarnation);
            }
            Action::NoteAccepted(contribution) => self.keeping.note_accepted(contribution),
            Action::WriteCheckpoint(checkpoint) => {
                let (number, accuracy, state) = (checkpoint.number, self.accuracy(), self.state());
                if let Err(news) = self.keeping.write(checkpoint, accuracy, state) {
                    self.push_checkpoint(now, news);
                    self.central.on_checkpoint_failed(now, number);
                }
            }
            Action::SuperstepClosed(closed) => self.on_superstep_closed(now, &closed),
            Action::CheckGradients => {
                tracing::warn!("volunteers compute nothing that is finite; checking a few gradients here");
                self.gradient_checker.check(&self.central);
            }
            Action::Diverged(divergence) => self.on_diverged(now, divergence),
        }
    }

    fn on_turned_away(&mut self, now: Time, from: ConnectionId, reason: &Refusal) {
        let Some(Peer { address, session }) = self.connections.peer(from) else {
            return;
        };
        match reason {
            Refusal::Finished | Refusal::Diverged => tracing::debug!("{address}: {reason}"),
            _ => {
                tracing::warn!("{address}: turned away: {reason}");
                self.history
                    .push_event(now, EventKind::Refused, session, reason.to_string());
            }
        }
    }

    fn on_contribution_refused(&mut self, now: Time, session: SessionId, sequence: u64, reason: &ContributionRefusal) {
        self.refusals.log(now, session.0, sequence, reason);
        let detail = format!("contribution {sequence}: {reason}");
        self.history.push_refused_contribution(now, session, detail);
    }

    /// The run has diverged: it goes back to an earlier model, or volunteers rest.
    fn on_diverged(&mut self, now: Time, divergence: Divergence) {
        let reason = divergence::reason(divergence);
        self.history.push_event(now, EventKind::Diverged, None, reason.clone());
        let goes_back = self.central.config().goes_back && !self.is_closing;
        let where_to = self.going_back.as_ref().filter(|_| goes_back);
        let where_to = where_to.map(|going_back| going_back.where_to(&mut self.central));
        self.is_going_back = where_to.is_some_and(|where_to| self.keeping.go_back(where_to));
        if self.is_going_back {
            tracing::error!("the run has diverged: {reason}");
            return;
        }
        tracing::error!("the run has diverged: {reason}. Volunteers rest; the best model so far is kept");
        // No checkpoint follows that would say how the run stands.
        self.keeping.note_state(self.accuracy(), RunState::Diverged);
        self.central.give_up_going_back(&mut self.actions);
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
}
