//! The central BSP control module (102): sessions, supersteps, the model.
//!
//! A state machine without I/O. Its driver hands in frames, disconnections and time-outs, and does the actions that come
//! out, in order. The same state, time and event give the same actions.
//!
//! [`Central`] is a router over parts that own their data. A contribution goes through its session's numbers, [`admission`],
//! the [`totals`] and the [`open_superstep`]. After each event the [`policy`] says whether that closes; then the [`trainer`]
//! makes the next version and the [`broadcast`] its frames, which go to those of the [`sessions`] that can take one.

use std::time::Duration;

use bytes::Bytes;

use crate::message::{FromCentral, FromVolunteer, Hello, ReadOut, Received, Refusal, Report, SessionId, Token};
use crate::shared_memory::ModelStamp;
use crate::time::{Time, duration_micros};

mod action;
mod activity;
mod admission;
mod broadcast;
mod config;
mod link;
mod open_superstep;
mod pace;
mod phase;
mod policy;
mod reviews;
mod session;
mod sessions;
mod settlement;
mod supersteps;
#[cfg(test)]
mod test_config;
mod totals;
mod trainer;

pub use action::{Action, ConnectionId};
use admission::check_hello;
use broadcast::Broadcast;
pub use config::{Config, LearningRateScaling};
pub use phase::Phase;
use policy::Receivers;
pub use session::VolunteerStatus;
use sessions::{Joined, Sessions};
use settlement::Settlement;
use supersteps::{Supersteps, Verdict};
pub use totals::Totals;
pub use trainer::{ClosedSuperstep, Diverged, Record, RecordError, ServerOptimizer, Trainer};

/// The central BSP control module.
pub struct Central {
    config: Config,
    phase: Phase,
    sessions: Sessions,
    supersteps: Supersteps,
    trainer: Trainer,
    broadcast: Broadcast,
    totals: Totals,
}

impl Central {
    /// A run that begins at `now` with the model `model`, as incarnation 1, version 0.
    pub fn new(now: Time, config: Config, model: Vec<f32>, optimizer: Box<dyn ServerOptimizer>) -> Central {
        let config = config.with_ordered_periods();
        let trainer = Trainer::new(&config, model, optimizer);
        Central {
            phase: Phase::Open,
            sessions: Sessions::new(trainer.stamp()),
            supersteps: Supersteps::new(now, &config),
            broadcast: Broadcast::new(config.model_codec, trainer.stamp(), trainer.model()),
            totals: Totals::default(),
            trainer,
            config,
        }
    }

    // Events in.

    /// A frame has arrived. `token` is a number that nobody can guess, for the session that a hello may open.
    pub fn on_frame(&mut self, now: Time, from: ConnectionId, frame: &Bytes, token: Token, actions: &mut Vec<Action>) {
        let outcome = match FromVolunteer::decode(frame) {
            Err(error) => Err(Refusal::Malformed(error.to_string())),
            Ok(Received { message, payload }) => match message {
                FromVolunteer::Hello(hello) => self.on_hello(now, from, &hello, token, actions),
                FromVolunteer::ReadOut(header) => self.on_contribution(now, from, &header, payload, actions),
                FromVolunteer::Stored(stamp) => self.on_stored(now, from, stamp, actions),
                FromVolunteer::Pulse(report) => self.on_heartbeat(now, from, report),
                FromVolunteer::Leave => self.on_leave(from, actions),
            },
        };
        if let Err(reason) = outcome {
            self.refuse(from, reason, actions);
        }
        self.after_event(now, actions);
    }

    /// A connection has ended, by itself or because of an [`Action::Disconnect`]. Its session stays for `session_ttl`.
    pub fn on_disconnected(&mut self, now: Time, connection: ConnectionId, actions: &mut Vec<Action>) {
        self.sessions.on_disconnected(Some(now), connection, &self.config);
        self.supersteps.on_absence();
        self.after_event(now, actions);
    }

    /// It is [`Central::next_timeout`].
    pub fn on_timeout(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.sessions.expire(now);
        self.review(now, actions);
        for session in self.sessions.due_deliveries(now) {
            self.send_model(now, session, actions);
        }
    }

    /// Closes the open superstep now, if it holds samples: what was accepted shall be in a model before the server stops. The
    /// optimizer's step is as much shorter as the superstep holds fewer samples than it aims at.
    pub fn close_superstep(&mut self, now: Time, actions: &mut Vec<Action>) {
        let samples = self.supersteps.open().samples();
        if samples > 0 && !self.phase.has_diverged() {
            let share = samples as f64 / self.config.superstep_samples as f64;
            self.close(now, share.min(1.0) as f32, actions);
        }
    }

    /// Ends the run: every volunteer is told, and nothing is accepted any more.
    pub fn finish(&mut self, actions: &mut Vec<Action>) {
        self.phase = self.phase.finished();
        for connection in self.sessions.connections() {
            self.refuse(connection, Refusal::Finished, actions);
        }
    }

    // What is asked of it.

    /// When `on_timeout` wants to be called next, if at all.
    pub fn next_timeout(&self, now: Time) -> Option<Time> {
        let look = self.supersteps.next_look(now, &self.sessions);
        self.sessions.next_timeout(now).into_iter().chain(look).min()
    }

    /// The current model's parameters.
    pub fn model(&self) -> &[f32] {
        self.trainer.model()
    }

    /// The current model's stamp.
    pub fn stamp(&self) -> ModelStamp {
        self.trainer.stamp()
    }

    /// What the run fixes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How far the run has come.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The read-out period.
    pub fn period(&self) -> Duration {
        self.supersteps.policy().period()
    }

    /// How long a superstep waits at most, after its quorum, for an arrival that is predicted; zero in the baselines.
    pub fn grace_window(&self) -> Duration {
        self.supersteps.policy().grace_window()
    }

    /// Totals of the run so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The volunteer of this session, if it is connected.
    pub fn volunteer(&self, now: Time, id: SessionId) -> Option<VolunteerStatus> {
        self.sessions.get(id)?.status(id, now, self.supersteps.live_for())
    }

    /// All connected volunteers, by session.
    pub fn volunteers(&self, now: Time) -> impl Iterator<Item = VolunteerStatus> + '_ {
        self.sessions.statuses(now, self.supersteps.live_for())
    }

    // Messages.

    fn on_hello(
        &mut self,
        now: Time,
        from: ConnectionId,
        hello: &Hello,
        token: Token,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        check_hello(hello, &self.config, self.phase)?;
        let Joined { session, replaced } = self.sessions.on_hello(now, from, hello, token, &self.config)?;
        if let Some(from) = replaced {
            actions.push(Action::Disconnect { from, reason: None });
        }
        let welcome = self
            .sessions
            .welcome(session, self.supersteps.policy().period(), &self.config)?;
        actions.push(Action::send(from, &FromCentral::Welcome(welcome)));
        self.send_model(now, session, actions);
        Ok(())
    }

    fn on_contribution(
        &mut self,
        now: Time,
        from: ConnectionId,
        header: &ReadOut,
        payload: Bytes,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let mut settlement = Settlement {
            config: &self.config,
            phase: self.phase,
            trainer: &self.trainer,
            sessions: &mut self.sessions,
            supersteps: &mut self.supersteps,
            totals: &mut self.totals,
        };
        let (session, answer) = settlement.settle(now, from, header, payload)?;
        let refused = answer.refused.clone();
        if let Some(reason) = refused.clone() {
            let sequence = header.sequence;
            actions.push(Action::ContributionRefused {
                session,
                sequence,
                reason,
            });
        }
        actions.push(Action::send(from, &FromCentral::Settled(answer)));
        if refused.is_some() && self.supersteps.policy().receivers() == Receivers::Contributors {
            // No version is made of it, but its volunteer waits for one.
            self.send_model(now, session, actions);
        }
        Ok(())
    }

    fn on_stored(
        &mut self,
        now: Time,
        from: ConnectionId,
        stamp: ModelStamp,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let id = self.sessions.on_heard(now, from, &self.config)?;
        self.sessions
            .change(id, &self.config, |session| session.on_stored(now, stamp));
        if self.supersteps.policy().receivers() == Receivers::Everyone {
            self.send_model(now, id, actions);
        }
        Ok(())
    }

    fn on_heartbeat(&mut self, now: Time, from: ConnectionId, report: Report) -> Result<(), Refusal> {
        let id = self.sessions.on_heard(now, from, &self.config)?;
        let is_computing = self.sessions.change(id, &self.config, |session| {
            session.activity.on_report(report);
            session.activity.is_computing()
        });
        if is_computing == Some(false) {
            self.supersteps.on_absence();
        }
        Ok(())
    }

    fn on_leave(&mut self, from: ConnectionId, actions: &mut Vec<Action>) -> Result<(), Refusal> {
        self.sessions.on_leave(from)?;
        self.supersteps.on_absence();
        actions.push(Action::Disconnect { from, reason: None });
        Ok(())
    }

    fn refuse(&mut self, to: ConnectionId, reason: Refusal, actions: &mut Vec<Action>) {
        self.sessions.on_disconnected(None, to, &self.config);
        self.supersteps.on_absence();
        actions.push(Action::send(to, &FromCentral::Refused(reason.clone())));
        actions.push(Action::Disconnect {
            from: to,
            reason: Some(reason),
        });
    }

    // What follows.

    fn after_event(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.supersteps.on_event() {
            self.review(now, actions);
        }
    }

    fn review(&mut self, now: Time, actions: &mut Vec<Action>) {
        match self.supersteps.review(now, &self.sessions) {
            Verdict::Close if !self.phase.has_diverged() => self.close(now, 1.0, actions),
            Verdict::WaitAndAdapt => self.adapt_period(now, actions),
            Verdict::Close | Verdict::Wait => {}
        }
    }

    /// Makes the next version of the model out of the open superstep; `rate_share` multiplies the learning rate.
    fn close(&mut self, now: Time, rate_share: f32, actions: &mut Vec<Action>) {
        let mut closing = self.supersteps.close(now);
        if let Err(Diverged) = self.trainer.step(closing.contributions_mut(), rate_share) {
            self.phase = Phase::Diverged;
            actions.push(Action::Diverged);
            return;
        }
        let stamp = self.trainer.stamp();
        self.broadcast.publish(stamp, self.trainer.model());
        self.sessions.on_version_made(stamp, &self.config);
        let policy = self.supersteps.policy();
        let closed = closing.summary(now, stamp.version, |staleness| policy.weight_of(staleness));
        let receivers = match policy.receivers() {
            Receivers::Everyone => self.sessions.by_connection(),
            Receivers::Contributors => closing.sessions(),
        };
        self.totals.on_closed(&closed);
        actions.push(Action::SuperstepClosed(closed));
        for session in receivers {
            self.send_model(now, session, actions);
        }
        self.adapt_period(now, actions);
    }

    /// Sends the newest model, unless the volunteer has it, has one on its way, or its link is to rest.
    fn send_model(&mut self, now: Time, session: SessionId, actions: &mut Vec<Action>) {
        let (policy, config) = (self.supersteps.policy(), &self.config);
        let rest = |link: &_| policy.rest_after_model(link, config);
        let Some(due) = self.sessions.ask_for_model(now, session, config, rest) else {
            return;
        };
        let to = due.to;
        if config.has_local_steps {
            let through = due.settles;
            actions.push(Action::send(to, &FromCentral::NextModelSettles { through }));
        }
        let frame = self.broadcast.frame(due.stored, self.trainer.model());
        actions.push(Action::Send { to, frame });
    }

    /// Lets the period follow the volunteers' throughput, and tells those whose period has changed.
    fn adapt_period(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.supersteps.adapt(now, self.sessions.activities(), &self.config) {
            return;
        }
        let period = self.supersteps.policy().period();
        for (to, period) in self.sessions.change_periods(period, &self.config) {
            let period_us = duration_micros(period);
            actions.push(Action::send(to, &FromCentral::ReadOutEvery { period_us }));
        }
    }
}
