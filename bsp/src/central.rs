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
//! # use bsp::central::{Action, Central, Config, ConnectionId, RecordError, ServerOptimizer};
//! # use bsp::protocol::{codec::Codec, frame::ContributionFrame};
//! # use bsp::protocol::message::{Contribution, FromVolunteer, Hello, PROTOCOL, Report, RunId, SessionId, Token};
//! # use bsp::time::Time;
//! # use bytes::Bytes;
//! # struct Sgd;
//! # impl ServerOptimizer for Sgd {
//! #     fn step(&mut self, model: &mut [f32], gradient: &[f32], _: u64, factor: f32) {
//! #         model.iter_mut().zip(gradient).for_each(|(parameter, slope)| *parameter -= 0.5 * factor * slope);
//! #     }
//! #     fn record(&self) -> Vec<u8> { Vec::new() }
//! #     fn load(&mut self, _: &[u8]) -> Result<(), RecordError> { Ok(()) }
//! # }
//! # let (now, run, spec_hash) = (Time::ZERO, RunId(1), 2);
//! # let report = Report { ml_modules: 1, ..Report::default() };
//! # let (session, codecs) = (None, Vec::new());
//! # let hello = Hello { protocol: PROTOCOL, run, spec_hash, incarnation: None, session, codecs, report };
//! # let contribution = Contribution {
//! #     run, spec_hash, incarnation: 1, session: SessionId(1), sequence: 1, samples: 32, gradients: 1, loss_sum: 9.0,
//! #     version_sum: 0, step_sum: 0, codec: Codec::F32, step_runs: Vec::new(), step_runs_not_listed: 0, report,
//! # };
//! let config = Config { superstep_samples: 32, ..Config::new(run, spec_hash) };
//! let mut central = Central::new(now, config, vec![1.0; 4], Box::new(Sgd));
//! let volunteer = ConnectionId(1);
//! let receive = |central: &mut Central, frame: Bytes| {
//!     let mut actions = Vec::new();
//!     central.on_frame(now, volunteer, &frame, Token(3), &mut actions);
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

use crate::protocol::message::{FromCentral, FromVolunteer, Refusal, SessionId, Token};
use crate::shared_memory::ModelStamp;
use crate::time::Time;

mod action;
mod activity;
mod admission;
mod broadcast;
mod config;
mod delivery;
mod link;
mod open_superstep;
mod pace;
mod phase;
mod policy;
mod reviews;
mod session;
mod sessions;
mod supersteps;
#[cfg(test)]
mod test_config;
mod totals;
mod trainer;
mod training;

pub use action::{Action, ConnectionId};
use admission::check_hello;
pub use config::{Config, LearningRateScaling};
pub use phase::Phase;
pub use session::VolunteerStatus;
use sessions::{Joined, Sessions};
pub use totals::Totals;
pub use trainer::{ClosedSuperstep, Diverged, Record, RecordError, ServerOptimizer, Trainer};
use training::Training;

/// The central BSP control module.
pub struct Central {
    sessions: Sessions,
    training: Training,
}

impl Central {
    /// A run that begins at `now` with the model `model`, as incarnation 1, version 0.
    pub fn new(now: Time, config: Config, model: Vec<f32>, optimizer: Box<dyn ServerOptimizer>) -> Central {
        let training = Training::new(now, config.with_ordered_periods(), model, optimizer);
        Central {
            sessions: Sessions::new(training.trainer().stamp()),
            training,
        }
    }

    // Events in.

    /// A frame has arrived. `token` is a number that no peer can guess, for the session that a hello may open.
    pub fn on_frame(&mut self, now: Time, from: ConnectionId, frame: &Bytes, token: Token, actions: &mut Vec<Action>) {
        if let Err(reason) = self.on_message(now, from, frame, token, actions) {
            self.refuse(from, reason, actions);
        }
        self.training.after_event(&mut self.sessions, now, actions);
        self.assert_consistent();
    }

    /// A connection has ended, by itself or because of an [`Action::Disconnect`]. Its session stays for `session_ttl`.
    pub fn on_disconnected(&mut self, now: Time, connection: ConnectionId, actions: &mut Vec<Action>) {
        self.disconnect(Some(now), connection);
        self.training.after_event(&mut self.sessions, now, actions);
        self.assert_consistent();
    }

    /// The time is [`Central::next_timeout`].
    pub fn on_timeout(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.sessions.expire(now);
        self.training.on_timeout(&mut self.sessions, now, actions);
        for session in self.sessions.due_deliveries(now) {
            self.training.send_model(&mut self.sessions, now, session, actions);
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

    // Queries.

    /// The time at which `on_timeout` wants to be called next, if at all.
    pub fn next_timeout(&self, now: Time) -> Option<Time> {
        let look = self.training.supersteps().next_look(now, &self.sessions);
        self.sessions.next_timeout(now).into_iter().chain(look).min()
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
        token: Token,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let Central { sessions, training } = self;
        let received = FromVolunteer::decode(frame).map_err(|error| Refusal::Malformed(error.to_string()))?;
        match received.message {
            FromVolunteer::Hello(hello) => {
                check_hello(&hello, training.config(), training.phase())?;
                let Joined { session, replaced } = sessions.on_hello(now, from, &hello, token, training.config())?;
                if let Some(from) = replaced {
                    actions.push(Action::Disconnect { from, reason: None });
                }
                let period = training.supersteps().policy().period();
                sessions.set_period(session, period, training.config());
                let welcome = sessions.welcome(session)?;
                actions.push(Action::send(from, &FromCentral::Welcome(welcome)));
                training.send_model(sessions, now, session, actions);
            }
            FromVolunteer::Contribution(header) => {
                training.settle(sessions, now, from, &header, received.payload, actions)?;
            }
            FromVolunteer::Stored(stamp) => {
                let session = sessions.on_stored(now, from, stamp, training.config())?;
                training.on_stored(sessions, now, session, actions);
            }
            FromVolunteer::Heartbeat(report) => {
                if let Some(session) = sessions.on_heartbeat(now, from, report, training.config())? {
                    training.on_absence(session);
                }
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
