//! The central BSP control module (102): sessions, supersteps, the model.
//!
//! A state machine without I/O. Its driver hands in frames, disconnections and time-outs, and does the actions that come
//! out, in order. The same state, time and event give the same actions.
//!
//! A superstep is open all the time. Contributions settle when they arrive, and wait in the open superstep; when it
//! closes (see [`superstep`]) they are combined, the optimizer makes the next version, and it is sent to every volunteer
//! that has no model on its way. Who has one gets the newest when that has arrived.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::Codec;
use crate::combine::{Combiner, Weighting, staleness_weight};
use crate::message::{
    ContributionRefusal, FromCentral, FromVolunteer, Mode, Received, Refusal, RunId, SessionId, Token,
};
use crate::shared_memory::ModelStamp;
use crate::time::{Time, duration_micros};

mod broadcast;
mod link;
mod membership;
mod pace;
mod period;
mod session;
mod settling;
mod superstep;
#[cfg(test)]
mod test_config;

use broadcast::Broadcast;
use period::Period;
use session::Session;
pub use session::VolunteerStatus;
use superstep::Superstep;

/// Shorter periods are not worth their messages.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);

/// A connection, as its driver numbers it. Never used again for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What the driver has to do next. Returned in order; the driver does not decide anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send this frame. A model's frame is one buffer, shared by all.
    Send {
        /// To whom.
        to: ConnectionId,
        /// What.
        frame: Bytes,
    },
    /// Send what there is for this connection, then close it. The reason was sent, where there was somebody to tell.
    Disconnect {
        /// Whom.
        from: ConnectionId,
        /// Why; `None` if it left or was replaced by a newer connection of its own.
        reason: Option<Refusal>,
    },
    /// A contribution was refused; the volunteer stays. For the log.
    ContributionRefused {
        /// Whose.
        session: SessionId,
        /// Which.
        sequence: u64,
        /// Why.
        reason: ContributionRefusal,
    },
    /// A superstep closed and made a version.
    SuperstepClosed(ClosedSuperstep),
    /// The model is not finite any more: the optimizer diverged. No version was made, and none will be.
    Diverged,
}

/// What a superstep came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClosedSuperstep {
    /// The version that it made.
    pub version: u64,
    /// Contributions in it.
    pub contributions: usize,
    /// Samples in it.
    pub samples: u64,
    /// Mean loss of these samples, each on the version that it was computed on.
    pub loss: f64,
    /// Mean staleness of these samples, in versions.
    pub staleness: f64,
    /// Mean weight of these samples by their staleness, from 0 to 1; see [`Config::weight_of`].
    pub weight: f64,
    /// How long it was open.
    pub open_for: Duration,
}

/// Makes the next version of the model out of the combined gradient.
pub trait ServerOptimizer: Send {
    /// Moves `model` along the mean gradient `gradient`.
    ///
    /// `samples_in_model` counts the samples in all supersteps, those of this one included: schedules go by it. `rate_factor` is what
    /// `lr_scaling` makes of this superstep's size.
    fn step(&mut self, model: &mut [f32], gradient: &[f32], samples_in_model: u64, rate_factor: f32);
}

/// How the learning rate follows a superstep that holds more samples than `superstep_samples`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LearningRateScaling {
    /// Not at all.
    #[default]
    None,
    /// With the square root of the ratio.
    SquareRoot,
    /// With the ratio (Goyal et al., arXiv 1706.02677).
    Linear,
}

impl LearningRateScaling {
    fn factor(self, samples: u64, superstep_samples: u64) -> f32 {
        let ratio = (samples as f64 / superstep_samples as f64).max(1.0);
        match self {
            LearningRateScaling::None => 1.0,
            LearningRateScaling::SquareRoot => libm::sqrt(ratio) as f32,
            LearningRateScaling::Linear => ratio as f32,
        }
    }
}

/// What a run fixes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The run.
    pub run: RunId,
    /// The hash of its model spec.
    pub spec_hash: u64,
    /// Decoupled, or one of the baselines.
    pub mode: Mode,
    /// In lockstep, so many of the volunteers are not waited for, and what they bring late is dropped (Chen et al., arXiv
    /// 1604.00981).
    pub backup_workers: usize,
    /// Whether ML modules also move along their own gradients: contributions are displacements then.
    pub has_local_steps: bool,
    /// How contributions are encoded, by who can.
    pub contribution_codec: Codec,
    /// How models are encoded, for whom can decode it.
    pub model_codec: Codec,
    /// The share of the time that a volunteer's link is to be busy with contributions and models, above 0 to 1.
    pub communication_share: f64,
    /// Samples of one gradient, at most.
    pub minibatch: u64,
    /// The number of samples that a superstep aims at.
    pub superstep_samples: u64,
    /// The share of the expected samples after which only a grace window is left to the others.
    pub quorum: f64,
    /// The read-out period is not below this …
    pub min_period: Duration,
    /// … nor above that.
    pub max_period: Duration,
    /// Older contributions are refused, in versions.
    pub max_staleness: u64,
    /// How contributions weigh.
    pub weighting: Weighting,
    /// How the learning rate follows large supersteps.
    pub lr_scaling: LearningRateScaling,
    /// How long a session lives without a connection.
    pub session_ttl: Duration,
    /// The most sessions at a time.
    pub max_sessions: usize,
}

impl Config {
    /// What a sample weighs by its staleness, beside the others of its superstep. Asynchronously there are none, and it counts in full.
    pub fn weight_of(&self, staleness: f64) -> f64 {
        match self.mode {
            Mode::Decoupled | Mode::Lockstep => staleness_weight(staleness, self.weighting.staleness_exponent),
            Mode::Asynchronous => 1.0,
        }
    }
}

/// Totals of the run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Samples in accepted contributions.
    pub samples: u64,
    /// Gradients in accepted contributions.
    pub gradients: u64,
    /// Contributions that were accepted.
    pub accepted: u64,
    /// Contributions that were refused.
    pub refused: u64,
}

/// The central BSP control module.
pub struct Central {
    config: Config,
    optimizer: Box<dyn ServerOptimizer>,
    model: Vec<f32>,
    gradient: Vec<f32>,
    /// The model before the last step, which stays if that one diverges.
    model_before: Vec<f32>,
    combiner: Combiner,
    stamp: ModelStamp,
    broadcast: Broadcast,
    sessions: BTreeMap<SessionId, Session>,
    connections: BTreeMap<ConnectionId, SessionId>,
    last_session: u64,
    superstep: Superstep,
    period: Period,
    totals: Totals,
    /// Samples in closed supersteps.
    samples_in_model: u64,
    is_finished: bool,
    has_diverged: bool,
}

impl Central {
    /// A run that begins at `now` with the model `model`, as incarnation 1, version 0.
    pub fn new(now: Time, config: Config, model: Vec<f32>, optimizer: Box<dyn ServerOptimizer>) -> Central {
        let min_period = config.min_period.max(SHORTEST_PERIOD);
        let config = Config {
            min_period,
            max_period: config.max_period.max(min_period),
            ..config
        };
        let stamp = ModelStamp {
            incarnation: 1,
            version: 0,
        };
        Central {
            period: Period::new(&config),
            broadcast: Broadcast::new(config.model_codec, stamp, &model),
            combiner: Combiner::new(config.weighting, model.len()),
            gradient: vec![0.0; model.len()],
            model_before: model.clone(),
            config,
            optimizer,
            model,
            stamp,
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            last_session: 0,
            superstep: Superstep::open_at(now),
            totals: Totals::default(),
            samples_in_model: 0,
            is_finished: false,
            has_diverged: false,
        }
    }

    /// A frame has arrived. `token` is a number that nobody can guess, for the session that a hello may open.
    pub fn on_frame(&mut self, now: Time, from: ConnectionId, frame: &Bytes, token: Token, actions: &mut Vec<Action>) {
        let outcome = match FromVolunteer::decode(frame) {
            Err(error) => Err(Refusal::Malformed(error.to_string())),
            Ok(Received { message, payload }) => match message {
                FromVolunteer::Hello(hello) => self.on_hello(now, from, &hello, token, actions),
                FromVolunteer::ReadOut(read_out) => self.on_read_out(now, from, &read_out, payload, actions),
                FromVolunteer::Stored(stamp) => self.on_stored(now, from, stamp, actions),
                FromVolunteer::Pulse(report) => self.seen(now, from).map(|session| session.on_report(report)),
                FromVolunteer::Leave => self.on_leave(from, actions),
            },
        };
        if let Err(reason) = outcome {
            self.refuse(from, reason, actions);
        }
        self.close_if_due(now, actions);
    }

    /// A connection has ended, by itself or because of an [`Action::Disconnect`]. Its session stays for `session_ttl`.
    pub fn on_disconnected(&mut self, now: Time, connection: ConnectionId, actions: &mut Vec<Action>) {
        if let Some(session) = self.detach(connection) {
            session.last_seen = now;
        }
        self.close_if_due(now, actions);
    }

    /// It is [`Central::next_timeout`].
    pub fn on_timeout(&mut self, now: Time, actions: &mut Vec<Action>) {
        let ttl = self.config.session_ttl;
        self.sessions
            .retain(|_, session| session.connection.is_some() || now.since(session.last_seen) < ttl);
        self.close_if_due(now, actions);
        self.send_models_that_are_due(now, actions);
    }

    /// When `on_timeout` wants to be called next, if at all.
    pub fn next_timeout(&self, now: Time) -> Option<Time> {
        let expiries = self
            .sessions
            .values()
            .filter(|session| session.connection.is_none())
            .map(|session| session.last_seen + self.config.session_ttl);
        let closing = self
            .superstep
            .next_look(now, &self.config, self.period.interval(), &self.sessions);
        let models = self
            .sessions
            .values()
            .filter(|session| session.wants_model(self.stamp))
            .map(|session| session.next_model_at.max(now));
        expiries.chain(closing).chain(models).min()
    }

    /// Closes the open superstep now, if it holds samples: what was accepted shall be in a model before the server stops.
    pub fn close_superstep(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.superstep.samples > 0 && !self.has_diverged {
            self.close(now, actions);
        }
    }

    /// Ends the run: every volunteer is told, and nothing is accepted any more.
    pub fn finish(&mut self, actions: &mut Vec<Action>) {
        self.is_finished = true;
        let connections: Vec<_> = self.connections.keys().copied().collect();
        for connection in connections {
            self.refuse(connection, Refusal::Finished, actions);
        }
    }

    /// The current model's parameters.
    pub fn model(&self) -> &[f32] {
        &self.model
    }

    /// The current model's stamp.
    pub fn stamp(&self) -> ModelStamp {
        self.stamp
    }

    /// What the run fixes.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The read-out period.
    pub fn period(&self) -> Duration {
        self.period.current()
    }

    /// How long a superstep waits at most, after its quorum, for an arrival that is predicted; zero in the baselines.
    pub fn grace_window(&self) -> Duration {
        superstep::grace_window(&self.config, self.period.interval())
    }

    /// Totals of the run so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Whether the run was ended by [`Central::finish`].
    pub fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Whether the optimizer has diverged; see [`Action::Diverged`].
    pub fn has_diverged(&self) -> bool {
        self.has_diverged
    }

    /// The volunteer of this session, if it is connected.
    pub fn volunteer(&self, now: Time, id: SessionId) -> Option<VolunteerStatus> {
        let live_for = superstep::live_for(&self.config, self.period.interval());
        self.sessions.get(&id)?.status(id, now, live_for)
    }

    /// All connected volunteers, by session.
    pub fn volunteers(&self, now: Time) -> impl Iterator<Item = VolunteerStatus> + '_ {
        let live_for = superstep::live_for(&self.config, self.period.interval());
        self.sessions
            .iter()
            .filter_map(move |(id, session)| session.status(*id, now, live_for))
    }

    fn on_stored(
        &mut self,
        now: Time,
        from: ConnectionId,
        stamp: ModelStamp,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let session = self.seen(now, from)?;
        session.on_stored(now, stamp);
        if let Some(id) = self.connections.get(&from).copied()
            && self.config.mode != Mode::Asynchronous
        {
            self.send_model(now, id, actions);
        }
        Ok(())
    }

    fn close_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        let interval = self.period.interval();
        let closes_at = self.superstep.closes_at(now, &self.config, interval, &self.sessions);
        if closes_at.is_some_and(|at| at <= now) && !self.has_diverged {
            self.close(now, actions);
        } else if self.superstep.is_too_small(&self.config) {
            // The first superstep is open for many of the shortest periods: nobody shall go on sending at that rate.
            self.adapt_period(now, actions);
        }
    }

    fn close(&mut self, now: Time, actions: &mut Vec<Action>) {
        let Superstep {
            opened,
            mut contributions,
            samples,
            loss_sum,
            ..
        } = std::mem::replace(&mut self.superstep, Superstep::open_at(now));
        let version = self.stamp.version;
        self.combiner.combine(&mut contributions, version, &mut self.gradient);
        // Samples that weigh nothing, beyond the bound, are no reason for a longer step.
        let most = self.config.weighting.max_read_out_samples;
        let weighed: u64 = contributions.iter().map(|of| of.samples.min(most)).sum();
        let rate_factor = self.config.lr_scaling.factor(weighed, self.config.superstep_samples);
        let samples_in_model = self.samples_in_model.saturating_add(samples);
        self.model_before.copy_from_slice(&self.model);
        self.optimizer
            .step(&mut self.model, &self.gradient, samples_in_model, rate_factor);
        if !self.model.iter().all(|parameter| parameter.is_finite()) {
            self.has_diverged = true;
            self.model.copy_from_slice(&self.model_before);
            actions.push(Action::Diverged);
            return;
        }
        self.samples_in_model = samples_in_model;
        self.stamp.version += 1;
        self.broadcast.publish(self.stamp, &self.model);
        for session in self.sessions.values_mut() {
            session.on_version_made();
        }
        let mean = |of_contribution: &dyn Fn(f64) -> f64| {
            let sum: f64 = contributions
                .iter()
                .map(|of| of_contribution(version as f64 - of.version) * of.samples as f64)
                .sum();
            sum / samples as f64
        };
        actions.push(Action::SuperstepClosed(ClosedSuperstep {
            version: self.stamp.version,
            contributions: contributions.len(),
            samples,
            loss: loss_sum / samples as f64,
            staleness: mean(&|staleness| staleness),
            weight: mean(&|staleness| self.config.weight_of(staleness)),
            open_for: now.since(opened),
        }));
        let receivers: Vec<_> = match self.config.mode {
            // Only whoever has contributed asks for the next model.
            Mode::Asynchronous => contributions.iter().map(|of| of.session).collect(),
            Mode::Decoupled | Mode::Lockstep => self.connections.values().copied().collect(),
        };
        for id in receivers {
            self.send_model(now, id, actions);
        }
        self.adapt_period(now, actions);
    }

    /// Lets the period follow the volunteers' throughput.
    fn adapt_period(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.config.mode != Mode::Decoupled {
            return;
        }
        let live_for = superstep::live_for(&self.config, self.period.interval());
        let live = self.sessions.values().filter(|of| of.is_present(now, live_for));
        let known = live.map(|session| session.known(now, &self.config)).collect();
        self.period.adapt(&self.config, known);
        for session in self.sessions.values_mut() {
            let Some(to) = session.connection else { continue };
            if let Some(period) = session.change_of_period(self.period.current(), &self.config) {
                let period_us = duration_micros(period);
                let frame = FromCentral::ReadOutEvery { period_us }.encode();
                actions.push(Action::Send { to, frame });
            }
        }
    }
}
