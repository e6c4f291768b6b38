//! The central BSP control module (102): sessions, supersteps, the model.
//!
//! A state machine without I/O. Its driver hands in frames, disconnections and time-outs, and does the actions that
//! come out, in order. The same state, time and event give the same actions.
//!
//! [`Central`] is a router between two parts: the [`sessions`], and the [`training`] of the model. In training a
//! contribution passes its session's numbers, [`admission`], the [`totals`] and the [`open_superstep`]. After each
//! event the [`policy`] says whether the superstep closes. If it does, the [`trainer`] makes the next version, the
//! [`broadcast`] makes its frames, and the sessions that can take a model receive it.
//!
//! # Example: a hello, a contribution, a version
//!
//! ```
//! # use bsp::central::{Action, Central, Config, ConnectionId, OptimizerMemory, RecordError, ServerOptimizer};
//! # use bsp::protocol::{codec::Codec, frame::ContributionFrame};
//! # use bsp::protocol::message::{Contribution, FromVolunteer, Hello, PROTOCOL, Report, RunId, SessionId};
//! # use bsp::time::Time;
//! # use bytes::Bytes;
//! # struct Sgd;
//! # impl ServerOptimizer for Sgd {
//! #     fn step(&mut self, model: &mut [f32], gradient: &[f32], _: u64, factor: f32) {
//! #         model.iter_mut().zip(gradient).for_each(|(parameter, slope)| *parameter -= 0.5 * factor * slope);
//! #     }
//! #     fn record(&self) -> OptimizerMemory { OptimizerMemory::default() }
//! #     fn load(&mut self, _: OptimizerMemory) -> Result<(), RecordError> { Ok(()) }
//! # }
//! # let (now, run, spec_hash) = (Time::ZERO, RunId(1), 2);
//! # let report = Report { ml_modules: 1, ..Report::default() };
//! # let (session, codecs) = (None, Vec::new());
//! # let hello = Hello { protocol: PROTOCOL, run, spec_hash, incarnation: None, session, durable: 0, codecs, report };
//! # let contribution = Contribution {
//! #     run, spec_hash, incarnation: 1, session: SessionId(1), sequence: 1, samples: 32, gradients: 1, loss_sum: 9.0,
//! #     version_sum: 0, step_sum: 0, codec: Codec::F32, step_runs: Vec::new(), step_runs_not_listed: 0, report,
//! # };
//! let config = Config { superstep_samples: 32, ..Config::new(run, spec_hash) };
//! let mut central = Central::new(now, config, vec![1.0; 4], Box::new(Sgd));
//! let volunteer = ConnectionId(1);
//! let receive = |central: &mut Central, frame: Bytes| {
//!     let mut actions = Vec::new();
//!     central.on_frame(now, volunteer, &frame, &mut actions);
//!     actions
//! };
//! let answers = receive(&mut central, FromVolunteer::Hello(hello).encode());
//! assert_eq!(answers.len(), 2); // a welcome, and the model of version 0
//! let stored = FromVolunteer::Stored(central.stamp());
//! receive(&mut central, stored.encode());
//!
//! let mut frame = ContributionFrame::new(4);
//! Codec::F32.encode(&[8.0; 4], frame.payload_mut(16)); // the sum of the gradients of 32 samples
//! frame.seal(&contribution)?;
//! let answers = receive(&mut central, Bytes::copy_from_slice(frame.as_bytes()));
//! assert!(matches!(answers[1], Action::SuperstepClosed(_))); // after the acknowledgement
//! assert_eq!((central.stamp().version, central.model()), (1, &[0.875; 4][..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::local::kept_contributions;
use crate::protocol::message::{FromCentral, FromVolunteer, Refusal, SessionId};
use crate::shared_memory::ModelStamp;
use crate::time::Time;

mod action;
mod activity;
mod admission;
mod broadcast;
mod checkpoint;
mod config;
mod delivery;
mod divergence;
mod durability;
mod going_back;
mod lineage;
mod link;
mod lost;
mod open_superstep;
mod pace;
mod phase;
mod policy;
mod resting_sessions;
mod reviews;
mod session;
mod sessions;
mod supersteps;
#[cfg(test)]
mod test_config;
mod timers;
mod token_key;
mod totals;
mod trainer;
mod training;

pub use action::{Action, ConnectionId};
use admission::{check_hello, later_incarnation};
pub use checkpoint::{Awaited, Checkpoint, ContributionRecord, OpenRecord, SessionRecord, SessionsRecord};
pub use config::{Config, LearningRateScaling};
pub use divergence::Divergence;
use durability::Durability;
pub use going_back::Books;
pub use lost::LostSamples;
pub use phase::Phase;
pub use session::VolunteerStatus;
use sessions::{Joined, Sessions};
pub use token_key::TokenKey;
pub use totals::Totals;
pub use trainer::{
    ClosedSuperstep, Diverged, OptimizerMemory, Record, RecordError, ServerOptimizer, Setbacks, Trainer,
};
use training::Training;

/// The central BSP control module.
pub struct Central {
    sessions: Sessions,
    training: Training,
    /// When checkpoints are made; none in a run without them.
    durability: Option<Durability>,
}

impl Central {
    /// A run that begins at `now` with the model `model`, as incarnation 1, version 0.
    pub fn new(now: Time, config: Config, model: Vec<f32>, optimizer: Box<dyn ServerOptimizer>) -> Central {
        let training = Training::new(now, config.with_ordered_periods(), model, optimizer);
        let sessions = Sessions::new(training.trainer().stamp());
        Central::of_parts(now, sessions, training)
    }

    /// A run that goes on at `now` from a checkpoint, as incarnation `incarnation`, which no server of this run was
    /// before. `awaited` are contributions that earlier incarnations accepted and that the checkpoint does not hold.
    ///
    /// # Errors
    /// The checkpoint does not fit the run's model or its optimizer.
    pub fn resume(
        now: Time,
        config: Config,
        mut checkpoint: Checkpoint,
        incarnation: u32,
        optimizer: Box<dyn ServerOptimizer>,
        awaited: Vec<Awaited>,
    ) -> Result<Central, RecordError> {
        let record = std::mem::take(&mut checkpoint.sessions);
        let config = config.with_ordered_periods();
        let training = Training::resumed(now, config, checkpoint, incarnation, optimizer, awaited)?;
        let sessions = Sessions::resumed(training.trainer().stamp(), record);
        Ok(Central::of_parts(now, sessions, training))
    }

    fn of_parts(now: Time, sessions: Sessions, training: Training) -> Central {
        let kept = kept_contributions(training.trainer().model().len());
        let interval = training.config().checkpoint_interval;
        Central {
            sessions,
            durability: interval.map(|interval| Durability::new(now, interval, kept)),
            training,
        }
    }

    // Events in.

    /// A frame has arrived.
    pub fn on_frame(&mut self, now: Time, from: ConnectionId, frame: &Bytes, actions: &mut Vec<Action>) {
        if let Err(reason) = self.on_message(now, from, frame, actions) {
            self.refuse(from, reason, actions);
        }
        self.training.after_event(&mut self.sessions, now, actions);
        self.turn_all_away_if_diverged(actions);
        self.make_checkpoint_if_due(now, actions);
        self.assert_consistent();
    }

    /// A connection has ended, by itself or because of an [`Action::Disconnect`]. Its session stays for `session_ttl`.
    pub fn on_disconnected(&mut self, now: Time, connection: ConnectionId, actions: &mut Vec<Action>) {
        self.disconnect(Some(now), connection);
        self.training.after_event(&mut self.sessions, now, actions);
        self.turn_all_away_if_diverged(actions);
        self.assert_consistent();
    }

    /// The time is [`Central::next_timeout`].
    pub fn on_timeout(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.sessions.expire(now);
        self.training.on_timeout(&mut self.sessions, now, actions);
        for session in self.sessions.due_deliveries(now) {
            self.training.send_model(&mut self.sessions, now, session, actions);
        }
        self.turn_all_away_if_diverged(actions);
        self.make_checkpoint_if_due(now, actions);
        self.assert_consistent();
    }

    /// The checkpoint of this number is written, and will be there after a crash.
    pub fn on_checkpoint_written(&mut self, now: Time, number: u64, actions: &mut Vec<Action>) {
        let Some(durability) = &mut self.durability else { return };
        if durability.on_written(number) {
            for (to, through) in self.sessions.on_checkpoint_written() {
                actions.push(Action::send(to, &FromCentral::Durable { through }));
            }
        }
        self.make_checkpoint_if_due(now, actions);
        self.assert_consistent();
    }

    /// The checkpoint of this number could not be written. Another one follows after a while.
    pub fn on_checkpoint_failed(&mut self, now: Time, number: u64) {
        if let Some(durability) = &mut self.durability {
            durability.on_failed(now, number);
        }
    }

    /// Makes a checkpoint now, or as soon as the one that is being written is written.
    pub fn make_checkpoint(&mut self, now: Time, actions: &mut Vec<Action>) {
        if let Some(durability) = &mut self.durability {
            durability.set_due_now(now);
        }
        self.make_checkpoint_if_due(now, actions);
    }

    /// The run as it stands, where a checkpoint is the way to go on: under another incarnation.
    pub fn into_checkpoint(mut self) -> Checkpoint {
        self.training.make_checkpoint(&mut self.sessions, 0)
    }

    /// What the run keeps when it goes back to an earlier model: it has diverged, and its volunteers were sent away.
    pub fn books(&mut self) -> Books {
        self.training.books(&mut self.sessions)
    }

    /// The server stops, and will be back: every volunteer is told, and keeps its session.
    pub fn go_away(&mut self, actions: &mut Vec<Action>) {
        for from in self.sessions.connections() {
            self.disconnect(None, from);
            actions.push(Action::send(from, &FromCentral::BackSoon));
            actions.push(Action::Disconnect { from, reason: None });
        }
        self.assert_consistent();
    }

    /// Closes the open superstep now, if it holds samples, so that all accepted samples are in a model before the
    /// server stops. The optimizer's step shrinks with the share of the intended samples that the superstep holds.
    pub fn close_superstep(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.training.close_early(&mut self.sessions, now, actions);
        self.assert_consistent();
    }

    /// Ends the run: every volunteer is told, and no contribution is accepted any more.
    pub fn finish(&mut self, actions: &mut Vec<Action>) {
        self.training.finish();
        for connection in self.sessions.connections() {
            self.refuse(connection, Refusal::Finished, actions);
        }
        self.assert_consistent();
    }

    /// The run has diverged, as its driver has found.
    pub fn diverge(&mut self, now: Time, divergence: Divergence, actions: &mut Vec<Action>) {
        self.training.diverge(now, divergence, actions);
        self.turn_all_away_if_diverged(actions);
        self.assert_consistent();
    }

    /// The answer to [`Action::CheckGradients`]: those that the driver computed are finite.
    pub fn on_gradients_finite(&mut self, now: Time) {
        self.training.on_gradients_finite(now);
    }

    // Queries.

    /// The time at which `on_timeout` wants to be called next, if at all.
    pub fn next_timeout(&self, now: Time) -> Option<Time> {
        let look = self.training.supersteps().next_look(now, &self.sessions);
        let checkpoint = self.durability.as_ref().filter(|_| !self.phase().has_diverged());
        let checkpoint = checkpoint.and_then(Durability::next_timeout).map(|at| at.max(now));
        let timeouts = self
            .sessions
            .next_timeout(now)
            .into_iter()
            .chain(look)
            .chain(checkpoint);
        timeouts.min()
    }

    /// Whether a crash would lose nothing that was settled.
    pub fn is_durable(&self) -> bool {
        self.durability.as_ref().is_none_or(Durability::is_complete)
    }

    /// Samples of contributions that an earlier incarnation had accepted, that no checkpoint holds, and that may still
    /// come again.
    pub fn samples_awaited(&self, now: Time) -> u64 {
        self.training.samples_awaited(now)
    }

    /// Accepted samples that no model holds, and none will.
    pub fn samples_lost(&self, now: Time) -> LostSamples {
        self.training.samples_lost(now)
    }

    /// The current model's parameters.
    pub fn model(&self) -> &[f32] {
        self.training.trainer().model()
    }

    /// The current model's stamp.
    pub fn stamp(&self) -> ModelStamp {
        self.training.trainer().stamp()
    }

    /// The run's settings.
    pub fn config(&self) -> &Config {
        self.training.config()
    }

    /// How far the run has come.
    pub fn phase(&self) -> Phase {
        self.training.phase()
    }

    /// How the run was found to have diverged, if it has.
    pub fn divergence(&self) -> Option<Divergence> {
        self.training.divergence()
    }

    /// The run has diverged, and its driver can't go back: volunteers that come are told so from now on.
    pub fn give_up_going_back(&mut self, actions: &mut Vec<Action>) {
        self.training.give_up_going_back();
        self.turn_all_away_if_diverged(actions);
    }

    /// What divergences have cost.
    pub fn setbacks(&self) -> Setbacks {
        self.training.trainer().setbacks()
    }

    /// The read-out period.
    pub fn period(&self) -> Duration {
        self.training.supersteps().policy().period()
    }

    /// The longest wait after the quorum for a predicted arrival; zero in the baselines.
    pub fn grace_window(&self) -> Duration {
        self.training.supersteps().policy().grace_window()
    }

    /// Totals of the run so far.
    pub fn totals(&self) -> Totals {
        self.training.totals()
    }

    /// The volunteer of this session, if it is connected.
    pub fn volunteer(&self, now: Time, id: SessionId) -> Option<VolunteerStatus> {
        let live_for = self.training.supersteps().live_for();
        self.sessions.get(id)?.status(id, now, live_for)
    }

    /// The number of connected volunteers.
    pub fn volunteer_count(&self) -> usize {
        self.sessions.connected_count()
    }

    /// The session of the volunteer on this connection, once it has said hello.
    pub fn session_of(&self, connection: ConnectionId) -> Option<SessionId> {
        self.sessions.of_connection(connection)
    }

    /// All connected volunteers, by session.
    pub fn volunteers(&self, now: Time) -> impl Iterator<Item = VolunteerStatus> + '_ {
        self.sessions.statuses(now, self.training.supersteps().live_for())
    }

    // The effects of a message.

    fn on_message(
        &mut self,
        now: Time,
        from: ConnectionId,
        frame: &Bytes,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let Central {
            sessions,
            training,
            durability,
        } = self;
        let received = FromVolunteer::decode(frame).map_err(|error| Refusal::Malformed(error.to_string()))?;
        match received.message {
            FromVolunteer::Hello(_) if training.phase() == Phase::Diverged && training.config().goes_back => {
                actions.push(Action::send(from, &FromCentral::BackSoon));
                actions.push(Action::Disconnect { from, reason: None });
            }
            FromVolunteer::Hello(hello) => {
                if let Some(incarnation) = later_incarnation(&hello, training.config(), training.trainer().stamp()) {
                    actions.push(Action::LaterIncarnationSeen { incarnation });
                }
                check_hello(&hello, training.config(), training.phase())?;
                let Joined { session, replaced, gap } = sessions.on_hello(now, from, &hello, training.config())?;
                if let Some(from) = replaced {
                    actions.push(Action::Disconnect { from, reason: None });
                }
                training.on_gap(gap);
                let period = training.supersteps().policy().period();
                sessions.set_period(session, period, training.config());
                let welcome = sessions.welcome(session, training.config())?;
                actions.push(Action::send(from, &FromCentral::Welcome(welcome)));
                training.send_model(sessions, now, session, actions);
            }
            FromVolunteer::Contribution(header) => {
                let before = sessions.not_finite(from);
                let session = training.settle(sessions, now, from, &header, received.payload, actions)?;
                if let Some(durability) = durability {
                    durability.on_settled(now, sessions.not_in_checkpoint(session));
                }
                let since = sessions.not_finite(from).saturating_sub(before);
                training.on_not_finite(now, since, actions);
            }
            FromVolunteer::Stored(stamp) => {
                let session = sessions.on_stored(now, from, stamp, training.config())?;
                training.on_stored(sessions, now, session, actions);
            }
            FromVolunteer::Heartbeat(report) => {
                let since = report.not_finite.saturating_sub(sessions.not_finite(from));
                if let Some(session) = sessions.on_heartbeat(now, from, report, training.config())? {
                    training.on_absence(session);
                }
                training.on_not_finite(now, since, actions);
            }
            FromVolunteer::Leave => {
                if let Some(session) = sessions.on_leave(from)? {
                    training.on_absence(session);
                }
                actions.push(Action::Disconnect { from, reason: None });
            }
        }
        Ok(())
    }

    /// A run that has diverged makes no checkpoint any more: the last one before that stays.
    fn make_checkpoint_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.phase().has_diverged() {
            return;
        }
        if let Some(number) = self
            .durability
            .as_mut()
            .and_then(|durability| durability.begin_if_due(now))
        {
            self.training.forget_if_due(now);
            let checkpoint = self.training.make_checkpoint(&mut self.sessions, number);
            actions.push(Action::WriteCheckpoint(Box::new(checkpoint)));
        }
    }

    /// Nobody computes for a run that has diverged.
    fn turn_all_away_if_diverged(&mut self, actions: &mut Vec<Action>) {
        if self.phase() == Phase::Diverged && self.config().goes_back {
            self.go_away(actions);
        } else if self.phase() == Phase::Diverged {
            for connection in self.sessions.connections() {
                self.refuse(connection, Refusal::Diverged, actions);
            }
        }
    }

    fn refuse(&mut self, to: ConnectionId, reason: Refusal, actions: &mut Vec<Action>) {
        self.disconnect(None, to);
        actions.push(Action::send(to, &FromCentral::Refused(reason.clone())));
        actions.push(Action::Disconnect {
            from: to,
            reason: Some(reason),
        });
    }

    /// A connection is no more. `now` is the time at which its volunteer was last there, if that is known.
    fn disconnect(&mut self, now: Option<Time>, connection: ConnectionId) {
        let absent = self.sessions.on_disconnected(now, connection, self.training.config());
        if let Some(session) = absent {
            self.training.on_absence(session);
        }
    }

    /// Checks the promises that hold after each event, whatever peers send. Each check costs O(1).
    fn assert_consistent(&self) {
        self.sessions.assert_consistent();
        self.training.assert_consistent();
        assert_eq!(
            self.sessions.current(),
            self.stamp(),
            "sessions are sent the trainer's model"
        );
    }
}

#[cfg(test)]
mod tests;
