//! What the central module knows of one volunteer.

use std::time::Duration;

use super::link::LinkTimes;
use super::pace::Pace;
use super::period::{Known, WORTH_TELLING};
use crate::central::{Config, ConnectionId};
use crate::codec::Codec;
use crate::local::PULSE;
use crate::message::{Hello, Mode, ReadOut, Report, SessionId, Token};
use crate::shared_memory::{ModelStamp, PhaseTimes};
use crate::time::Time;

/// One session; see [`SessionId`].
#[derive(Debug)]
pub(super) struct Session {
    pub(super) token: Token,
    pub(super) connection: Option<ConnectionId>,
    /// When bytes of a message of its own last came; without a connection, when that ended.
    pub(super) last_seen: Time,
    /// Contributions up to this number are settled …
    pub(super) settled: u64,
    /// … and up to this one were when the current version was made: they are in it, or were refused.
    pub(super) settled_in_model: u64,
    /// The model that was sent and has not been reported as stored, and when it was sent.
    model_on_its_way: Option<(ModelStamp, Time)>,
    /// The last model that it reported as stored, on this connection.
    pub(super) stored: Option<ModelStamp>,
    /// The next model is to be sent; it is once it may.
    pub(super) is_model_asked_for: bool,
    /// Before that its link is to rest.
    pub(super) next_model_at: Time,
    /// How its contributions are to be encoded.
    pub(super) contribution_codec: Codec,
    /// Whether it can read models as the run encodes them.
    pub(super) can_read_models: bool,
    pub(super) link: LinkTimes,
    /// The read-out period that it was told.
    period: Duration,
    pub(super) pace: Pace,
    pub(super) report: Report,
    pub(super) refused: u64,
    samples: u64,
    accepted: u64,
    staleness: f64,
}

/// What is told of a volunteer.
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
    /// Mean staleness of its contributions, in versions, weighted towards the last ones.
    pub staleness: f64,
    /// Time of its ML modules, summed over them, in microseconds.
    pub time_us: PhaseTimes,
    /// Its read-out period.
    pub period: Duration,
    /// What a contribution takes until it is settled, beyond the round trip: the shortest of the last few; zero before the first.
    pub upload: Duration,
    /// What a model takes until it is stored, beyond the round trip: the shortest of the last few; zero before the first.
    pub download: Duration,
    /// What the shortest message and its answer take.
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

impl Session {
    pub(super) fn new(now: Time, token: Token) -> Session {
        Session {
            token,
            connection: None,
            last_seen: now,
            settled: 0,
            settled_in_model: 0,
            model_on_its_way: None,
            stored: None,
            is_model_asked_for: false,
            next_model_at: Time::ZERO,
            contribution_codec: Codec::F32,
            can_read_models: false,
            link: LinkTimes::default(),
            period: Duration::ZERO,
            pace: Pace::default(),
            report: Report::default(),
            refused: 0,
            samples: 0,
            accepted: 0,
            staleness: 0.0,
        }
    }

    /// A connection is new: whatever model was on its way may not have arrived, or be in another memory.
    pub(super) fn on_connected(&mut self) {
        (self.model_on_its_way, self.stored) = (None, None);
        self.next_model_at = Time::ZERO;
        self.pace.on_connected();
    }

    /// What it says of itself, and which codecs it can be asked for.
    pub(super) fn on_hello(&mut self, hello: &Hello, config: &Config) {
        let can = |codec: Codec| codec == Codec::F32 || hello.codecs.contains(&codec);
        self.can_read_models = can(config.model_codec);
        self.contribution_codec = if can(config.contribution_codec) {
            config.contribution_codec
        } else {
            Codec::F32
        };
        self.on_report(hello.report);
    }

    /// How it is doing.
    pub(super) fn on_report(&mut self, report: Report) {
        self.report = report;
        self.link.on_report(&report);
    }

    /// Whether it is to be sent the model `current`, as soon as its link may be busy.
    pub(super) fn wants_model(&self, current: ModelStamp) -> bool {
        self.is_model_asked_for
            && self.connection.is_some()
            && self.model_on_its_way.is_none()
            && self.stored != Some(current)
    }

    pub(super) fn on_model_sent(&mut self, now: Time, stamp: ModelStamp, config: &Config) {
        self.model_on_its_way = Some((stamp, now));
        self.is_model_asked_for = false;
        // The baselines send a model as soon as there is one.
        if config.mode == Mode::Decoupled {
            self.next_model_at = now + self.link.shortest_period(config);
        }
    }

    pub(super) fn on_stored(&mut self, now: Time, stamp: ModelStamp) {
        if let Some((_, sent_at)) = self.model_on_its_way.take_if(|(sent, _)| *sent == stamp) {
            self.stored = Some(stamp);
            self.link.on_stored(now, sent_at);
            self.pace.on_stored(now);
        }
    }

    /// All that is settled is in the version that was just made, or refused.
    pub(super) fn on_version_made(&mut self) {
        self.settled_in_model = self.settled;
    }

    /// Its read-out period, where the run's is `of_run`: what it is told in the welcome.
    pub(super) fn set_period(&mut self, of_run: Duration, config: &Config) -> Duration {
        self.period = of_run.max(self.link.shortest_period(config));
        self.period
    }

    /// What the run's period follows.
    pub(super) fn known(&self, now: Time, config: &Config) -> Known {
        Known {
            samples_per_second: self.pace.samples_per_second(now),
            measured_for: self.pace.measured_for(),
            shortest_period: self.link.shortest_period(config),
        }
    }

    /// Its new period, if that is worth telling.
    pub(super) fn change_of_period(&mut self, of_run: Duration, config: &Config) -> Option<Duration> {
        let told = self.period.as_secs_f64();
        let wanted = of_run.max(self.link.shortest_period(config));
        let is_worth_telling = (wanted.as_secs_f64() / told - 1.0).abs() >= WORTH_TELLING;
        is_worth_telling.then(|| self.set_period(of_run, config))
    }

    /// Says whether it is the first contribution since the volunteer stored its last model.
    pub(super) fn on_accepted(&mut self, now: Time, read_out: &ReadOut, staleness: f64) -> bool {
        /// The share of the newest contribution in the mean staleness.
        const NEWEST: f64 = 0.1;
        self.samples = self.samples.saturating_add(read_out.samples);
        self.accepted += 1;
        let newest = if self.accepted == 1 { 1.0 } else { NEWEST };
        self.staleness += newest * (staleness - self.staleness);
        self.pace.on_contribution(now, read_out.samples)
    }

    /// Whether a contribution can be hoped for: it is connected, computes, and was heard of within `live_for`.
    pub(super) fn is_expected(&self, now: Time, live_for: Duration) -> bool {
        self.connection.is_some()
            && !self.report.is_paused
            && self.report.ml_modules > 0
            && now.since(self.last_seen) <= live_for
    }

    /// Whether the period is to follow it: it is expected, or no longer silent than with a longer period of its own. (Its rate falls
    /// when a contribution is overdue.)
    pub(super) fn is_present(&self, now: Time, live_for: Duration) -> bool {
        /// So many periods without a contribution happen; and whoever has nothing to contribute sends pulses.
        const USUAL: u32 = 3;
        self.is_expected(
            now,
            live_for.max(self.period.max(PULSE).saturating_mul(USUAL)),
        )
    }

    /// Whether a superstep that is open for so long at the most can wait for it. One whose link makes its period longer than
    /// that contributes when it does.
    pub(super) fn keeps_step(&self, longest: Duration) -> bool {
        self.period <= longest
    }

    /// Its status, if it is connected.
    pub(super) fn status(&self, session: SessionId, now: Time, live_for: Duration) -> Option<VolunteerStatus> {
        self.connection?;
        let is_expected = self.is_expected(now, live_for);
        Some(VolunteerStatus {
            session,
            ml_modules: self.report.ml_modules,
            is_paused: self.report.is_paused,
            samples: self.samples,
            samples_per_second: if is_expected {
                self.pace.samples_per_second(now)
            } else {
                0.0
            },
            staleness: self.staleness,
            time_us: self.report.time_us,
            period: self.period,
            upload: self.link.upload(),
            download: self.link.download(),
            round_trip: self.link.round_trip(),
            accepted: self.accepted,
            refused: self.refused,
            not_finite: self.report.not_finite,
            discarded: self.report.discarded,
            last_seen: now.since(self.last_seen),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::central::test_config::test_config;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A session that was told the period of a run's 100 ms, and whose contributions take so long now.
    fn with_upload(upload_ms: u64) -> Session {
        let mut session = Session::new(Time::ZERO, Token(1));
        assert_eq!(session.set_period(ms(100), &test_config()), ms(100));
        session.on_report(Report {
            upload_us: 1000 * upload_ms,
            ..Report::default()
        });
        session
    }

    #[test]
    fn a_period_is_told_when_it_has_changed_by_three_percent_and_once() {
        let config = test_config();
        let mut session = with_upload(0);
        for (of_run, told) in [(102, None), (98, None), (104, Some(104)), (104, None), (99, Some(99))] {
            assert_eq!(session.change_of_period(ms(of_run), &config), told.map(ms), "{of_run}");
        }
    }

    #[test]
    fn a_slow_link_has_a_longer_period_and_a_fast_one_the_runs() {
        // Busy for half of the time at most.
        let config = test_config();
        assert_eq!(with_upload(50).change_of_period(ms(100), &config), None);
        let mut slow = with_upload(200);
        assert_eq!(slow.change_of_period(ms(100), &config), Some(ms(400)));
        assert_eq!(slow.change_of_period(ms(300), &config), None, "its own is longer still");
        assert_eq!(slow.change_of_period(ms(500), &config), Some(ms(500)));
        slow.on_report(Report::default());
        assert_eq!(slow.change_of_period(ms(100), &config), Some(ms(100)));
    }

    #[test]
    fn the_period_follows_a_slow_link_between_its_contributions_too() {
        let config = test_config();
        let mut slow = with_upload(2000);
        assert_eq!(slow.change_of_period(ms(100), &config), Some(ms(2000)));
        (slow.connection, slow.report.ml_modules) = (Some(ConnectionId(1)), 1);
        let after = |silence: u64| Time::ZERO + ms(silence);
        assert!(!slow.is_expected(after(1900), ms(300)) && slow.is_present(after(1900), ms(300)));
        assert!(!slow.is_present(after(6001), ms(300)), "it has gone");
    }

    #[test]
    fn only_who_contributes_within_a_superstep_keeps_step() {
        let mut session = with_upload(200);
        assert!(session.keeps_step(ms(200)));
        session.change_of_period(ms(100), &test_config());
        assert!(!session.keeps_step(ms(399)) && session.keeps_step(ms(400)));
    }

    #[test]
    fn the_next_model_waits_until_the_link_has_rested_but_not_on_a_new_connection() {
        let config = test_config();
        let stamp = |version| ModelStamp {
            incarnation: 1,
            version,
        };
        let mut session = with_upload(200);
        session.connection = Some(ConnectionId(1));
        session.on_model_sent(Time::ZERO, stamp(1), &config);
        assert_eq!(session.next_model_at, Time::ZERO + ms(400));
        session.is_model_asked_for = true;
        assert!(!session.wants_model(stamp(2)), "one is on its way");
        session.on_stored(Time::ZERO + ms(10), stamp(1));
        assert!(session.wants_model(stamp(2)) && !session.wants_model(stamp(1)));
        session.on_connected();
        assert_eq!((session.next_model_at, session.stored), (Time::ZERO, None));
        let lockstep = Config {
            mode: Mode::Lockstep,
            ..config
        };
        session.on_model_sent(Time::ZERO, stamp(2), &lockstep);
        assert_eq!(session.next_model_at, Time::ZERO, "the baselines' barrier waits for it");
    }

    #[test]
    fn a_volunteer_is_asked_for_the_runs_codecs_only_if_it_knows_them() {
        let config = Config {
            contribution_codec: Codec::Int8,
            model_codec: Codec::F16,
            ..test_config()
        };
        let after_hello = |codecs: &[Codec]| {
            let mut session = with_upload(0);
            let hello = Hello {
                protocol: crate::message::PROTOCOL,
                run: config.run,
                spec_hash: config.spec_hash,
                incarnation: None,
                session: None,
                codecs: codecs.to_vec(),
                report: Report::default(),
            };
            session.on_hello(&hello, &config);
            (session.contribution_codec, session.can_read_models)
        };
        assert_eq!(after_hello(&[]), (Codec::F32, false));
        assert_eq!(after_hello(&[Codec::F16]), (Codec::F32, true));
        assert_eq!(after_hello(&[Codec::Int8]), (Codec::Int8, false));
        assert_eq!(after_hello(&Codec::ALL), (Codec::Int8, true));
    }
}
