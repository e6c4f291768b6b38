//! When a superstep closes, and what it holds.

use std::time::Duration;

use bsp::central::{Action, Central, ClosedSuperstep, Config, ConnectionId, VolunteerStatus};
use bsp::message::{FromCentral, FromVolunteer, ReadOut, Report, SessionId};
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;

use super::gradients::{Gradients, PARAMETERS, Sgd};
use super::peer::{join, messages, plain, read_out, say};
use super::tab::Machine;
use super::world::{World, config, ms, seconds};

/// Hand-made volunteers who contribute in step, so that their rates and intervals are known.
struct Crowd {
    central: Central,
    now: Time,
    sessions: Vec<SessionId>,
    sequences: Vec<u64>,
    /// The model that was sent to each and that it has not reported as stored.
    to_store: Vec<Option<ModelStamp>>,
    closed: Vec<(Time, ClosedSuperstep)>,
}

const PERIOD: Duration = Duration::from_secs(1);

impl Crowd {
    /// `volunteers` volunteers that have contributed 100 samples each, at every full second up to the fifth.
    fn new(volunteers: u64) -> Crowd {
        let config = Config {
            min_period: PERIOD,
            max_period: PERIOD,
            superstep_samples: 400,
            ..config()
        };
        let mut crowd = Crowd::with(config, volunteers);
        for second in 1..=5 {
            for volunteer in 0..volunteers as usize {
                crowd.contribute(seconds(second), volunteer, 100);
            }
        }
        // The first supersteps closed before any rate was known, so the first volunteer is one ahead of the others: with one
        // sample more of it, the superstep that is open closes too, and the next one begins for all at 5 s.
        crowd.contribute(seconds(5), 0, 1);
        crowd.closed.clear();
        crowd
    }

    /// Volunteers that have contributed nothing yet.
    fn with(config: Config, volunteers: u64) -> Crowd {
        let config = Config {
            minibatch: 1000,
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

    fn note(&mut self, actions: Vec<Action>) {
        for (volunteer, to_store) in self.to_store.iter_mut().enumerate() {
            for message in messages(&actions, ConnectionId(volunteer as u64)) {
                if let FromCentral::StoreModel(stamp) = message {
                    *to_store = Some(stamp);
                }
            }
        }
        for action in actions {
            if let Action::SuperstepClosed(closed) = action {
                self.closed.push((self.now, closed));
            }
        }
    }

    fn wait_until(&mut self, end: Time) {
        while let Some(at) = self.central.next_timeout(self.now).filter(|at| *at <= end) {
            self.now = at;
            let mut actions = Vec::new();
            self.central.on_timeout(at, &mut actions);
            self.note(actions);
        }
        self.now = end;
    }

    /// Stores what was sent, then contributes to it.
    fn contribute(&mut self, at: Time, volunteer: usize, samples: u64) {
        self.wait_until(at);
        while let Some(stamp) = self.to_store[volunteer].take() {
            self.say(volunteer, &FromVolunteer::Stored(stamp).encode());
        }
        self.sequences[volunteer] += 1;
        let version = self.central.stamp().version;
        self.contribute_of_version(volunteer, samples, version);
    }

    fn contribute_of_version(&mut self, volunteer: usize, samples: u64, version: u64) {
        let contribution = ReadOut {
            samples,
            version_sum: u128::from(version * samples),
            ..read_out(self.sessions[volunteer], self.sequences[volunteer])
        };
        self.say(volunteer, &plain(&contribution));
    }

    fn pulse(&mut self, at: Time, volunteer: usize) {
        self.wait_until(at);
        let report = Report {
            ml_modules: 1,
            ..Report::default()
        };
        self.say(volunteer, &FromVolunteer::Pulse(report).encode());
    }

    fn say(&mut self, volunteer: usize, frame: &bytes::Bytes) {
        let actions = say(&mut self.central, self.now, ConnectionId(volunteer as u64), frame);
        self.note(actions);
    }
}

#[test]
fn a_superstep_closes_when_all_live_volunteers_have_contributed() {
    let mut crowd = Crowd::new(4);
    for volunteer in 0..3 {
        crowd.contribute(seconds(6), volunteer, 40);
        assert!(crowd.closed.is_empty());
    }
    crowd.contribute(seconds(6) + ms(3), 3, 40);
    let (at, closed) = crowd.closed[0];
    assert_eq!((at, closed.contributions, closed.samples), (seconds(6) + ms(3), 4, 160));
    assert_eq!((closed.staleness, closed.open_for), (0.0, PERIOD + ms(3)));
}

#[test]
fn after_a_quorum_only_a_predicted_arrival_is_waited_for_and_only_for_a_quarter_of_the_period() {
    let mut crowd = Crowd::new(4);
    for volunteer in 0..3 {
        crowd.contribute(seconds(6) - ms(100), volunteer, 100);
    }
    assert!(crowd.closed.is_empty(), "300 of 400 samples are no quorum of 0.8");
    crowd.contribute(seconds(6) - ms(100), 2, 50);
    assert!(crowd.closed.is_empty(), "a quorum, but one more is predicted soon");
    crowd.wait_until(seconds(7));
    let (at, closed) = crowd.closed[0];
    assert!(
        at > seconds(6) && at <= seconds(6) - ms(100) + PERIOD / 4,
        "closed at {at:?}"
    );
    assert_eq!((closed.contributions, closed.samples), (4, 350));
}

#[test]
fn after_a_quorum_nobody_is_waited_for_of_whom_nothing_is_predicted() {
    let mut crowd = Crowd::new(4);
    for volunteer in 0..3 {
        crowd.contribute(seconds(5) + ms(300), volunteer, 160);
    }
    assert_eq!(crowd.closed.len(), 1, "the fourth is due in 700 ms only");
}

#[test]
fn without_a_quorum_a_superstep_closes_at_its_deadline() {
    let mut crowd = Crowd::new(4);
    crowd.contribute(seconds(6), 0, 100);
    for volunteer in 1..4 {
        crowd.pulse(seconds(6) + ms(500), volunteer);
    }
    crowd.wait_until(seconds(8));
    let (at, closed) = crowd.closed[0];
    assert_eq!((at, closed.contributions), (seconds(5) + 2 * PERIOD, 1));
}

#[test]
fn no_version_is_made_without_samples() {
    let mut crowd = Crowd::new(2);
    let version = crowd.central.stamp().version;
    for second in 6..60 {
        crowd.pulse(seconds(second), 0);
    }
    assert_eq!(crowd.central.stamp().version, version);
    assert!(crowd.closed.is_empty());
    assert_eq!(
        World::new(1).central.next_timeout(Time::ZERO),
        None,
        "nor is anybody woken for nothing"
    );
}

#[test]
fn a_late_read_out_counts_in_the_next_superstep_with_its_staleness() {
    let mut crowd = Crowd::new(2);
    let base = crowd.central.stamp().version;
    crowd.contribute(seconds(6), 0, 100);
    crowd.wait_until(seconds(7) + ms(1));
    assert_eq!(crowd.closed.len(), 1, "the deadline passed without the second");
    crowd.sequences[1] += 1;
    crowd.contribute_of_version(1, 100, base);
    crowd.contribute(seconds(7) + ms(2), 0, 300);
    let (_, closed) = crowd.closed[1];
    assert_eq!(
        (closed.contributions, closed.samples),
        (2, 400),
        "no straggler's work is thrown away"
    );
    assert_eq!(closed.staleness, 0.25, "one version for a quarter of the samples");
}

#[test]
fn whoever_was_late_once_is_not_late_in_every_superstep_from_then_on() {
    let mut crowd = Crowd::new(4);
    let base = crowd.central.stamp().version;
    for volunteer in 0..3 {
        crowd.contribute(seconds(6), volunteer, 120);
    }
    crowd.wait_until(seconds(6) + ms(300));
    assert_eq!(
        crowd.closed[0].1.contributions, 3,
        "the fourth was waited for, and is late"
    );
    crowd.sequences[3] += 1;
    crowd.contribute_of_version(3, 100, base);
    for volunteer in 0..3 {
        crowd.contribute(seconds(7) + ms(300), volunteer, 100);
    }
    assert_eq!(
        crowd.closed.len(),
        1,
        "its late contribution does not stand for its next one"
    );
    crowd.contribute(seconds(7) + ms(301), 3, 100);
    let (at, closed) = crowd.closed[1];
    assert_eq!((at, closed.contributions), (seconds(7) + ms(301), 5));
}

#[test]
fn a_volunteer_that_has_paused_left_gone_or_fallen_silent_is_not_waited_for() {
    let paused = FromVolunteer::Pulse(Report {
        is_paused: true,
        ml_modules: 1,
        ..Report::default()
    })
    .encode();
    for how in 0..3 {
        let mut crowd = Crowd::new(2);
        crowd.contribute(seconds(6), 0, 10);
        assert!(crowd.closed.is_empty());
        match how {
            0 => crowd.say(1, &paused),
            1 => crowd.say(1, &FromVolunteer::Leave.encode()),
            _ => {
                let mut actions = Vec::new();
                crowd.central.on_disconnected(crowd.now, ConnectionId(1), &mut actions);
                crowd.note(actions);
            }
        }
        assert_eq!(crowd.closed.len(), 1, "case {how}");
    }
    let mut crowd = Crowd::new(2);
    crowd.pulse(seconds(8), 0);
    crowd.contribute(seconds(8) + ms(1), 0, 10);
    assert_eq!(
        crowd.closed.len(),
        1,
        "the other was heard of last at 5 s, more than three periods ago"
    );
}

#[test]
fn the_period_follows_the_throughput_and_a_superstep_holds_what_it_aims_at() {
    let mut world = World::with(
        1,
        Config {
            superstep_samples: 1000,
            ..config()
        },
        Gradients::Counting,
    );
    // 4.5 samples a minibatch on average: 900 samples a second each.
    let tabs: Vec<_> = (0..4).map(|_| world.join(Machine::default())).collect();
    world.run_until(seconds(40));
    let expected = 1000.0 / (4.0 * 900.0);
    let period = world.central.period().as_secs_f64();
    assert!((0.7 * expected..1.4 * expected).contains(&period), "{period} s");
    let mean_after = |world: &World, begin: Time| {
        let closed: Vec<_> = world.closed.iter().filter(|(at, _)| *at > begin).collect();
        closed.iter().map(|(_, closed)| closed.samples).sum::<u64>() as f64 / closed.len() as f64
    };
    let mean = mean_after(&world, seconds(10));
    assert!((900.0..1100.0).contains(&mean), "{mean} samples");
    for tab in &tabs[1..] {
        world.leave(*tab);
    }
    world.run_until(seconds(80));
    let period = world.central.period().as_secs_f64();
    assert!(
        (0.7 * 4.0 * expected..1.4 * 4.0 * expected).contains(&period),
        "{period} s for one of them"
    );
    let mean = mean_after(&world, seconds(60));
    assert!((900.0..1100.0).contains(&mean), "{mean} samples of one of them");
    assert_eq!(world.central.volunteers(world.now).count(), 1);
}

#[test]
fn a_volunteer_that_still_pulses_but_computes_nothing_any_more_is_counted_on_less_and_less() {
    let mut world = World::with(
        1,
        Config {
            superstep_samples: 1000,
            ..config()
        },
        Gradients::Counting,
    );
    let (_, stuck) = (world.join(Machine::default()), world.join(Machine::default()));
    world.run_until(seconds(20));
    world.tabs[stuck].machine.step = Duration::from_secs(100_000);
    world.run_until(seconds(60));
    // 900 samples a second are left.
    let period = world.central.period().as_secs_f64();
    assert!((0.9..1.3).contains(&period), "{period} s");
    let closed: Vec<_> = world.closed.iter().filter(|(at, _)| *at > seconds(40)).collect();
    let mean = closed.iter().map(|(_, closed)| closed.samples).sum::<u64>() / closed.len() as u64;
    assert!((850..1200).contains(&mean), "{mean} samples");
}

/// A superstep of 400 samples, with periods from 20 ms to 10 s, and one volunteer that contributes `samples` at each `at`.
fn after_contributions(contributions: &[(Duration, u64)]) -> Crowd {
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

#[test]
fn the_period_is_no_longer_than_the_rates_have_been_measured_for() {
    // One sample each 100 ms: at that rate 400 samples take 40 s. But it may be the first minibatches only that are so slow.
    let slow: Vec<_> = (1..=8).map(|tenth| (ms(100 * tenth), 1)).collect();
    let crowd = after_contributions(&slow);
    assert!(crowd.central.period() <= ms(350), "{:?}", crowd.central.period());
    let slow: Vec<_> = (1..=600).map(|tenth| (ms(100 * tenth), 1)).collect();
    let crowd = after_contributions(&slow);
    assert!(crowd.central.period() > ms(9000), "{:?}", crowd.central.period());
}

#[test]
fn the_period_stays_within_its_bounds() {
    for (superstep_samples, expected) in [(1, ms(50)), (1_000_000, Duration::from_secs(2))] {
        let mut world = World::with(
            1,
            Config {
                superstep_samples,
                ..config()
            },
            Gradients::Counting,
        );
        world.join(Machine::default());
        world.run_until(seconds(40));
        assert_eq!(world.central.period(), expected);
    }
}

#[test]
fn a_volunteers_status_says_what_it_did() {
    let mut world = World::new(1);
    let tab = world.join(Machine {
        ml_modules: 2,
        ..Machine::default()
    });
    world.run_until(seconds(30));
    let status: Vec<VolunteerStatus> = world.central.volunteers(world.now).collect();
    assert_eq!(status.len(), 1);
    let status = &status[0];
    assert_eq!(Some(status.session), world.tabs[tab].session);
    assert_eq!((status.ml_modules, status.is_paused, status.refused), (2, false, 0));
    assert_eq!(status.samples, world.central.totals().samples);
    assert_eq!(status.accepted, world.central.totals().accepted);
    assert!(
        (1700.0..1900.0).contains(&status.samples_per_second),
        "{}",
        status.samples_per_second
    );
    assert!(status.last_seen < ms(200));
    assert_eq!(world.local(tab).accepted_samples(), status.samples - in_flight(&world));
}

/// Samples that the central module has accepted and whose settling the tab has not heard of.
fn in_flight(world: &World) -> u64 {
    let known = world.local(0).accepted_samples();
    let mut sum = 0;
    for (_, samples, _) in &world.ledger.contributions {
        if sum == known {
            break;
        }
        sum += samples;
    }
    assert_eq!(sum, known, "the tab counts whole contributions");
    world.central.totals().samples - known
}

#[test]
fn the_learning_rate_follows_a_large_superstep_as_the_run_says() {
    use bsp::central::LearningRateScaling as Scaling;
    for (lr_scaling, factor) in [(Scaling::None, 1.0), (Scaling::SquareRoot, 2.0), (Scaling::Linear, 4.0)] {
        let config = Config {
            superstep_samples: 100,
            minibatch: 1000,
            lr_scaling,
            ..config()
        };
        let mut central = Central::new(Time::ZERO, config, vec![0.0; PARAMETERS], Box::new(Sgd { rate: 1.0 }));
        let session = join(&mut central, Time::ZERO, ConnectionId(1)).session;
        let contribution = ReadOut {
            samples: 400,
            ..read_out(session, 1)
        };
        let actions = say(
            &mut central,
            seconds(1),
            ConnectionId(1),
            &super::peer::frame(&contribution, &[400.0; 5]),
        );
        assert!(
            actions
                .iter()
                .any(|action| matches!(action, Action::SuperstepClosed(_)))
        );
        assert_eq!(central.model(), [-factor; 5]);
        let models = super::peer::messages(&actions, ConnectionId(1));
        assert!(
            !models
                .iter()
                .any(|message| matches!(message, FromCentral::StoreModel(_))),
            "one is on its way already"
        );
    }
}

#[test]
fn volunteers_that_joined_at_odd_times_come_to_read_out_together_so_that_little_is_stale() {
    let config = Config {
        superstep_samples: 1000,
        ..config()
    };
    for offset in [41, 97, 137, 211] {
        let mut world = World::with(1, config.clone(), Gradients::Counting);
        for volunteer in 0..4 {
            world.run_until(Time::ZERO + ms(offset * volunteer));
            world.join(Machine::default());
        }
        world.run_until(seconds(30));
        let late: Vec<_> = world.closed.iter().filter(|(at, _)| *at > seconds(10)).collect();
        let staleness = late.iter().map(|(_, closed)| closed.staleness).sum::<f64>() / late.len() as f64;
        // Of some 55 minibatches in a period, 5 are computed while a publish is on its way. Out of step it is 0.3 and more.
        assert!(staleness < 0.12, "{staleness} versions, {offset} ms");
    }
}
