//! One session, as the central module knows it.

use std::time::Duration;

use super::ConnectionId;
use super::activity::Activity;
use super::checkpoint::SessionRecord;
use super::config::Config;
use super::delivery::Delivery;
use crate::estimators::MovingAverage;
use crate::protocol::codec::Codec;
use crate::protocol::message::{Hello, SessionId};
use crate::shared_memory::{ModelStamp, PhaseTimes};
use crate::time::Time;

/// One session; see [`SessionId`].
#[derive(Debug)]
pub(super) struct Session {
    /// Its one connection, if it has one now.
    pub(super) connection: Option<ConnectionId>,
    /// Upwards: how far its contributions are settled.
    pub(super) numbers: Numbers,
    /// Downwards: the models that it has and that are on their way.
    pub(super) delivery: Delivery,
    /// The codecs that both sides know.
    pub(super) codecs: Codecs,
    /// How its volunteer works.
    pub(super) activity: Activity,
    /// The outcome of its contributions.
    pub(super) tally: Tally,
}

impl Session {
    /// A session without a connection, at its beginning or after a rest.
    pub(super) fn new(now: Time, resting: Resting) -> Session {
        let Resting { numbers, tally } = resting;
        Session {
            connection: None,
            numbers,
            delivery: Delivery::default(),
            codecs: Codecs::default(),
            activity: Activity::new(now),
            tally,
        }
    }

    /// What stays of it when it has been without a connection for long.
    pub(super) fn rest(self) -> Resting {
        Resting {
            numbers: self.numbers,
            tally: self.tally,
        }
    }

    /// It has a new connection.
    pub(super) fn on_connected(&mut self) {
        self.delivery.on_connected();
        self.activity.pace.on_connected();
    }

    /// It reports a model as stored.
    pub(super) fn on_stored(&mut self, now: Time, stamp: ModelStamp) {
        if let Some(sent_at) = self.delivery.on_stored(stamp) {
            self.activity.link.on_stored(now, sent_at);
            self.activity.pace.on_stored(now);
        }
    }

    /// Whether the model `current` is to be sent to it, as soon as its link has rested.
    pub(super) fn wants_model(&self, current: ModelStamp) -> bool {
        self.connection.is_some() && self.delivery.wants(current)
    }

    /// Whether it is to be sent the next model that it does not have.
    pub(super) fn waits_for_model(&self) -> bool {
        self.connection.is_some() && self.delivery.is_waiting()
    }

    /// Its status, if it is connected.
    pub(super) fn status(&self, session: SessionId, now: Time, live_for: Duration) -> Option<VolunteerStatus> {
        self.connection?;
        let Activity { pace, link, .. } = &self.activity;
        let report = self.activity.report();
        let is_expected = self.activity.is_expected(now, live_for);
        Some(VolunteerStatus {
            session,
            ml_modules: report.ml_modules,
            is_paused: report.is_paused,
            samples: self.tally.samples,
            samples_per_second: if is_expected { pace.samples_per_second(now) } else { 0.0 },
            staleness: self.tally.staleness.get().unwrap_or_default(),
            time_us: report.time_us,
            period: self.activity.period(),
            upload: link.upload(),
            download: link.download(),
            round_trip: link.round_trip(),
            accepted: self.tally.accepted,
            refused: self.tally.refused,
            not_finite: report.not_finite,
            discarded: report.discarded,
            last_seen: now.since(self.activity.last_heard),
        })
    }
}

/// What stays of a session: enough to go on with it without counting anything twice.
#[derive(Debug, Default)]
pub(super) struct Resting {
    /// How far its contributions are settled.
    pub(super) numbers: Numbers,
    /// The outcome of its contributions.
    pub(super) tally: Tally,
}

impl Resting {
    /// What a checkpoint holds of the session.
    pub(super) fn record(session: SessionId, numbers: &Numbers, tally: &Tally) -> SessionRecord {
        SessionRecord {
            session,
            settled: numbers.settled,
            settled_before: numbers.settled_before,
            since: numbers.since,
            is_last_refused: numbers.is_last_refused,
            samples: tally.samples,
            accepted: tally.accepted,
            refused: tally.refused,
        }
    }

    /// The session that a checkpoint holds. All that was settled in it is durable.
    pub(super) fn from_record(record: &SessionRecord) -> Resting {
        Resting {
            numbers: Numbers {
                settled: record.settled,
                settled_before: record.settled_before,
                since: record.since,
                is_last_refused: record.is_last_refused,
                in_checkpoint: record.settled,
                durable: record.settled,
                is_compared: false,
            },
            tally: Tally {
                samples: record.samples,
                accepted: record.accepted,
                refused: record.refused,
                ..Tally::default()
            },
        }
    }
}

/// How far a session's contributions are settled. Numbers are settled in order, without gaps.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    settled: u64,
    /// Contributions up to this number were settled when version `since` was made.
    settled_before: u64,
    since: u64,
    is_last_refused: bool,
    /// The last checkpoint that was made, written or not, holds contributions up to this number, …
    in_checkpoint: u64,
    /// … and the last that was written those up to this one.
    durable: u64,
    /// Its volunteer has said, in this incarnation, what it was told is durable. From then on it can't know of more
    /// than is settled here.
    is_compared: bool,
}

impl Numbers {
    /// Contributions up to this number are settled.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    /// The next contribution is settled while the model is of version `version`.
    pub(super) fn settle_next(&mut self, version: u64) {
        if version > self.since {
            (self.settled_before, self.since) = (self.settled, version);
        }
        self.settled += 1;
        self.is_last_refused = false;
        assert!(
            self.settled_before < self.settled,
            "a contribution is settled after those in the model"
        );
    }

    /// Whether the contribution that was settled last was refused.
    pub(super) fn is_last_refused(&self) -> bool {
        self.is_last_refused
    }

    /// Contributions up to this number are durable.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// The volunteer has forgotten contributions up to this number, because they were called durable. If less is
    /// settled, the checkpoint that held them was lost with its disk: their session goes on behind the gap. Returns how
    /// many are in it. Only the first word of an incarnation can be true.
    pub(super) fn on_forgotten(&mut self, through: u64) -> u64 {
        let is_first = !std::mem::replace(&mut self.is_compared, true);
        let gap = if is_first { self.gap_to(through) } else { 0 };
        self.settled += gap;
        // No checkpoint is owed for what is lost.
        self.in_checkpoint += gap;
        gap
    }

    /// How many contributions up to this number are not settled.
    pub(super) fn gap_to(&self, through: u64) -> u64 {
        through.saturating_sub(self.settled)
    }

    /// A checkpoint is made: it holds all that is settled.
    pub(super) fn on_checkpoint(&mut self) {
        self.in_checkpoint = self.settled;
    }

    /// The number of contributions that were settled since the last checkpoint was made.
    pub(super) fn not_in_checkpoint(&self) -> u64 {
        self.settled - self.in_checkpoint
    }

    /// The last checkpoint that was made is written. Returns the number up to which contributions are durable, if that
    /// is news.
    pub(super) fn on_checkpoint_written(&mut self) -> Option<u64> {
        let is_news = self.durable < self.in_checkpoint;
        self.durable = self.in_checkpoint;
        is_news.then_some(self.durable)
    }

    /// The contribution that was settled last was refused: no model will hold it. If all before it are in the current
    /// model, this model settles it, too. So a volunteer whose link breaks before it hears of the refusal learns of it
    /// with the model after the reconnect.
    pub(super) fn on_refused(&mut self) {
        self.is_last_refused = true;
        if self.settled_before + 1 == self.settled {
            self.settled_before = self.settled;
        }
    }

    /// Contributions up to this number are in version `version`, the current one, or were refused.
    pub(super) fn in_model(&self, version: u64) -> u64 {
        if version > self.since {
            self.settled
        } else {
            self.settled_before
        }
    }
}

/// The codecs of a session.
#[derive(Debug, Default)]
pub(super) struct Codecs {
    /// The codec of its contributions.
    pub(super) contribution: Codec,
    /// Whether it can read models as the run encodes them.
    pub(super) can_read_models: bool,
}

impl Codecs {
    /// The run's codecs, where the volunteer knows them.
    pub(super) fn agreed(hello: &Hello, config: &Config) -> Codecs {
        let can = |codec: Codec| codec == Codec::F32 || hello.codecs.contains(&codec);
        Codecs {
            contribution: if can(config.contribution_codec) {
                config.contribution_codec
            } else {
                Codec::F32
            },
            can_read_models: can(config.model_codec),
        }
    }
}

/// The outcome of a session's contributions.
#[derive(Debug)]
pub(super) struct Tally {
    samples: u64,
    accepted: u64,
    refused: u64,
    staleness: MovingAverage,
}

impl Default for Tally {
    fn default() -> Tally {
        /// The mean follows about the last ten contributions.
        const NEWEST: f64 = 0.1;
        Tally {
            samples: 0,
            accepted: 0,
            refused: 0,
            staleness: MovingAverage::new(NEWEST),
        }
    }
}

impl Tally {
    /// A contribution was accepted.
    pub(super) fn on_accepted(&mut self, samples: u64, staleness: f64) {
        self.samples = self.samples.saturating_add(samples);
        self.accepted += 1;
        self.staleness.push(staleness);
    }

    /// A contribution was refused.
    pub(super) fn on_refused(&mut self) {
        self.refused += 1;
    }
}

/// The state of a volunteer, for pages and logs.
#[derive(Clone, Debug, PartialEq)]
pub struct VolunteerStatus {
    /// Its session.
    pub session: SessionId,
    /// ML modules that compute.
    pub ml_modules: u16,
    /// Whether it has paused.
    pub is_paused: bool,
    /// Samples in its accepted contributions.
    pub samples: u64,
    /// Samples per second, over the last few seconds; 0 when it is not live.
    pub samples_per_second: f64,
    /// Moving average of its contributions' staleness, in versions.
    pub staleness: f64,
    /// Time of its ML modules, summed over them, in microseconds.
    pub time_us: PhaseTimes,
    /// Its read-out period.
    pub period: Duration,
    /// The time from sending a contribution to its acknowledgement, less the round trip: the shortest of the last few;
    /// zero before the first.
    pub upload: Duration,
    /// The time from sending a model to the report that it is stored, less the round trip: the shortest of the last
    /// few; zero before the first.
    pub download: Duration,
    /// The time that the shortest message and its answer take.
    pub round_trip: Duration,
    /// Contributions that were accepted.
    pub accepted: u64,
    /// Contributions that were refused.
    pub refused: u64,
    /// Gradients that it refused itself, because they were not finite.
    pub not_finite: u64,
    /// Gradients that it lost because an ML module died while it added.
    pub discarded: u64,
    /// Time since its last message.
    pub last_seen: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::central::test_config::test_config;
    use crate::protocol::message::Report;

    fn stamp(version: u64) -> ModelStamp {
        ModelStamp {
            incarnation: 1,
            version,
        }
    }

    #[test]
    fn the_next_model_waits_until_the_link_has_rested_but_not_on_a_new_connection() {
        let mut session = Session::new(Time::ZERO, Resting::default());
        session.connection = Some(ConnectionId(1));
        let rest = Duration::from_millis(400);
        session.delivery.on_sent(Time::ZERO, stamp(1), rest);
        assert_eq!(session.delivery.next_at(), Time::ZERO + rest);
        session.delivery.ask();
        assert!(!session.wants_model(stamp(2)), "one is on its way");
        session.on_stored(Time::ZERO + Duration::from_millis(10), stamp(1));
        assert!(session.wants_model(stamp(2)) && !session.wants_model(stamp(1)));
        session.on_connected();
        assert_eq!(
            (session.delivery.next_at(), session.delivery.stored()),
            (Time::ZERO, None)
        );
    }

    #[test]
    fn a_volunteer_is_asked_for_the_runs_codecs_only_if_it_knows_them() {
        let config = Config {
            contribution_codec: Codec::Int8,
            model_codec: Codec::F16,
            ..test_config()
        };
        let agreed = |codecs: &[Codec]| {
            let hello = Hello {
                protocol: crate::protocol::message::PROTOCOL,
                run: config.run,
                spec_hash: config.spec_hash,
                incarnation: None,
                session: None,
                durable: 0,
                codecs: codecs.to_vec(),
                report: Report::default(),
            };
            let agreed = Codecs::agreed(&hello, &config);
            (agreed.contribution, agreed.can_read_models)
        };
        assert_eq!(agreed(&[]), (Codec::F32, false));
        assert_eq!(agreed(&[Codec::F16]), (Codec::F32, true));
        assert_eq!(agreed(&[Codec::Int8]), (Codec::Int8, false));
        assert_eq!(agreed(&Codec::ALL), (Codec::Int8, true));
    }

    #[test]
    fn a_settled_contribution_is_in_the_next_model_and_not_in_the_current_one() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.in_model(0), 0);
        numbers.settle_next(0);
        numbers.settle_next(0);
        assert_eq!((numbers.settled(), numbers.in_model(0), numbers.in_model(1)), (2, 0, 2));
        numbers.settle_next(4);
        assert_eq!((numbers.in_model(4), numbers.in_model(5)), (2, 3));
    }

    #[test]
    #[should_panic(expected = "a contribution is settled after those in the model")]
    fn a_contribution_that_would_be_settled_twice_is_noticed() {
        let mut numbers = Numbers {
            settled: 3,
            settled_before: 4,
            since: 1,
            ..Numbers::default()
        };
        numbers.settle_next(1);
    }

    #[test]
    fn a_refused_contribution_is_settled_by_the_current_model_if_all_before_it_are() {
        let mut numbers = Numbers::default();
        numbers.settle_next(0);
        numbers.settle_next(1);
        numbers.on_refused();
        assert_eq!(numbers.in_model(1), 2, "the first one is in version 1");
        numbers.settle_next(1);
        numbers.settle_next(1);
        numbers.on_refused();
        assert_eq!(numbers.in_model(1), 2, "the third one waits for the next model");
        assert_eq!(numbers.in_model(2), 4);
    }
}
