//! Volunteers made by hand, for tests of when supersteps close and how long periods are.

use std::time::Duration;

use bsp::central::{Action, Central, ClosedSuperstep, Config, ConnectionId};
use bsp::protocol::message::{Contribution, FromCentral, FromVolunteer, Report, SessionId};
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;

use super::gradients::{PARAMETERS, Sgd};
use super::peer::{contribution, join, messages, plain, say};
use super::world::{config, ms, seconds};

/// Hand-made volunteers that contribute in step, so that their rates and intervals are known.
pub(super) struct Crowd {
    pub(super) central: Central,
    pub(super) now: Time,
    pub(super) sessions: Vec<SessionId>,
    pub(super) sequences: Vec<u64>,
    /// The model that was sent to each and that it has not reported as stored.
    to_store: Vec<Option<ModelStamp>>,
    pub(super) closed: Vec<(Time, ClosedSuperstep)>,
}

pub(super) const PERIOD: Duration = Duration::from_secs(1);

impl Crowd {
    /// `volunteers` volunteers that have contributed 100 samples each, at every full second up to the fifth.
    pub(super) fn new(volunteers: u64) -> Crowd {
        let config = Config {
            min_period: PERIOD,
            max_period: PERIOD,
            // No superstep is too small to close.
            superstep_samples: 1,
            ..config()
        };
        let mut crowd = Crowd::with(config, volunteers);
        for second in 1..=5 {
            for volunteer in 0..volunteers as usize {
                crowd.contribute(seconds(second), volunteer, 100);
            }
        }
        // The first supersteps closed before any rate was known, so the first volunteer is one ahead of the others:
        // with one sample more of it, the superstep that is open closes too, and the next one begins for all at 5 s.
        crowd.contribute(seconds(5), 0, 1);
        crowd.closed.clear();
        crowd
    }

    /// Volunteers that have contributed nothing yet.
    pub(super) fn with(config: Config, volunteers: u64) -> Crowd {
        let config = Config {
            minibatch: 1000,
            // They report a model as stored when they contribute: these tests are not about links.
            communication_share: 1e6,
            ..config
        };
        let central = Central::new(Time::ZERO, config, vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }));
        let mut crowd = Crowd {
            central,
            now: Time::ZERO,
            sessions: Vec::new(),
            sequences: Vec::new(),
            to_store: Vec::new(),
            closed: Vec::new(),
        };
        for volunteer in 0..volunteers {
            crowd
                .sessions
                .push(join(&mut crowd.central, Time::ZERO, ConnectionId(volunteer)).session);
            crowd.sequences.push(0);
            crowd.to_store.push(Some(crowd.central.stamp()));
        }
        crowd
    }

    pub(super) fn note(&mut self, actions: Vec<Action>) {
        for (volunteer, to_store) in self.to_store.iter_mut().enumerate() {
            for message in messages(&actions, ConnectionId(volunteer as u64)) {
                if let FromCentral::StoreModel(model) = message {
                    *to_store = Some(model.stamp);
                }
            }
        }
        for action in actions {
            if let Action::SuperstepClosed(closed) = action {
                self.closed.push((self.now, closed));
            }
        }
    }

    pub(super) fn wait_until(&mut self, end: Time) {
        while let Some(at) = self.central.next_timeout(self.now).filter(|at| *at <= end) {
            self.now = at;
            let mut actions = Vec::new();
            self.central.on_timeout(at, &mut actions);
            self.note(actions);
        }
        self.now = end;
    }

    /// Stores what was sent, then contributes to it.
    pub(super) fn contribute(&mut self, at: Time, volunteer: usize, samples: u64) {
        self.wait_until(at);
        while let Some(stamp) = self.to_store[volunteer].take() {
            self.say(volunteer, &FromVolunteer::Stored(stamp).encode());
        }
        self.sequences[volunteer] += 1;
        let version = self.central.stamp().version;
        self.contribute_of_version(volunteer, samples, version);
    }

    pub(super) fn contribute_of_version(&mut self, volunteer: usize, samples: u64, version: u64) {
        let contribution = Contribution {
            samples,
            version_sum: u128::from(version * samples),
            ..contribution(self.sessions[volunteer], self.sequences[volunteer])
        };
        self.say(volunteer, &plain(&contribution));
    }

    pub(super) fn heartbeat(&mut self, at: Time, volunteer: usize) {
        self.wait_until(at);
        let report = Report {
            ml_modules: 1,
            ..Report::default()
        };
        self.say(volunteer, &FromVolunteer::Heartbeat(report).encode());
    }

    pub(super) fn say(&mut self, volunteer: usize, frame: &bytes::Bytes) {
        let actions = say(&mut self.central, self.now, ConnectionId(volunteer as u64), frame);
        self.note(actions);
    }
}

/// A superstep of 400 samples, with periods from 20 ms to 10 s, and one volunteer that contributes `samples` at each
/// `at`.
pub(super) fn after_contributions(contributions: &[(Duration, u64)]) -> Crowd {
    let config = Config {
        min_period: ms(20),
        max_period: Duration::from_secs(10),
        superstep_samples: 400,
        ..config()
    };
    let mut crowd = Crowd::with(config, 1);
    for (at, samples) in contributions {
        crowd.contribute(Time::ZERO + *at, 0, *samples);
    }
    crowd
}
