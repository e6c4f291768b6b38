//! When a superstep closes, and its content.

use std::time::Duration;

use bsp::central::{
    Action, Central, Config, ConnectionId, OptimizerMemory, RecordError, ServerOptimizer, VolunteerStatus,
};
use bsp::protocol::message::{Contribution, FromCentral, FromVolunteer, Report};
use bsp::time::Time;

use super::crowd::{Crowd, PERIOD, after_contributions};
use super::gradients::{Gradients, PARAMETERS, Sgd};
use super::peer::{contribution, join, plain, say};
use super::tab::Machine;
use super::world::{World, config, ms, seconds};

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
        crowd.heartbeat(seconds(6) + ms(500), volunteer);
    }
    crowd.wait_until(seconds(8));
    let (at, closed) = crowd.closed[0];
    assert_eq!((at, closed.contributions), (seconds(5) + 2 * PERIOD, 1));
}

#[test]
fn after_a_hiccup_no_version_is_made_of_late_contributions_alone() {
    let mut crowd = Crowd::new(2);
    let base = crowd.central.stamp().version;
    crowd.contribute(seconds(6), 0, 200);
    crowd.contribute(seconds(6), 1, 200);
    assert_eq!(crowd.closed.len(), 1);
    // Contributions of the hiccup arrive after it.
    for at in [1, 2] {
        crowd.wait_until(seconds(6) + ms(at));
        for volunteer in 0..2 {
            crowd.sequences[volunteer] += 1;
            crowd.contribute_of_version(volunteer, 200, base);
        }
    }
    crowd.contribute(seconds(6) + ms(900), 0, 100);
    let (at, closed) = crowd.closed[1];
    assert_eq!((at, closed.contributions), (seconds(6) + ms(900), 5));
    assert_eq!(closed.samples, 900, "no late work is thrown away");
}

#[test]
fn late_contributions_alone_make_a_version_at_the_deadline() {
    let mut crowd = Crowd::new(2);
    let base = crowd.central.stamp().version;
    crowd.contribute(seconds(6), 0, 100);
    crowd.contribute(seconds(6), 1, 100);
    crowd.sequences[1] += 1;
    crowd.contribute_of_version(1, 500, base);
    crowd.wait_until(seconds(9));
    let (at, closed) = crowd.closed[1];
    assert_eq!((at, closed.contributions), (seconds(6) + 2 * PERIOD, 1));
}

/// One volunteer in a run of 400 samples a superstep, with periods from 20 ms to 10 s; the first 300 ms at a tenth of
/// its rate.
#[test]
fn a_superstep_holds_half_of_what_it_aims_at_at_least_from_the_first_one_on() {
    let slow = (0..10).map(|n| (ms(30 * n), 10));
    let fast = (0..50).map(|n| (ms(300 + 30 * n), 100));
    let crowd = after_contributions(&slow.chain(fast).collect::<Vec<_>>());
    assert!(crowd.closed.len() > 10);
    for (at, closed) in &crowd.closed {
        assert!(closed.samples >= 200, "{} samples at {at:?}", closed.samples);
    }
}

#[test]
fn a_superstep_that_stays_too_small_closes_after_the_longest_period() {
    let mut crowd = after_contributions(&[(ms(1000), 10)]);
    for second in 2..=12 {
        crowd.heartbeat(seconds(second), 0);
    }
    let (at, closed) = crowd.closed[0];
    assert_eq!(
        (at, closed.samples),
        (seconds(11), 10),
        "its first contribution came at 1 s"
    );
}

#[test]
fn a_superstep_that_stays_too_small_closes_before_it_would_refuse_a_contribution() {
    let tiny: Vec<_> = (0..40).map(|n| (ms(20 * n), 1)).collect();
    let crowd = after_contributions(&tiny);
    let samples: Vec<u64> = crowd.closed.iter().map(|(_, closed)| closed.samples).collect();
    assert_eq!(samples, [16, 16]);
    assert_eq!(
        (crowd.central.totals().accepted, crowd.central.totals().refused),
        (40, 0)
    );
}

#[test]
fn under_local_steps_nobody_waits_for_samples_that_cannot_come_before_the_next_version() {
    let with_local_steps = Config {
        has_local_steps: true,
        ..config()
    };
    let mut central = Central::new(
        Time::ZERO,
        with_local_steps,
        vec![0.0; PARAMETERS],
        Box::new(Sgd { rate: 0.1 }),
    );
    let volunteer = ConnectionId(1);
    let session = join(&mut central, Time::ZERO, volunteer).session;
    let first = contribution(session, 1);
    assert!(
        first.samples < config().superstep_samples / 2,
        "too few for a superstep otherwise"
    );
    let first = Contribution {
        step_sum: u128::from(first.samples),
        ..first
    };
    let actions = say(&mut central, seconds(1), volunteer, &plain(&first));
    assert!(
        actions
            .iter()
            .any(|action| matches!(action, Action::SuperstepClosed(_)))
    );
}

#[test]
fn no_version_is_made_without_samples() {
    let mut crowd = Crowd::new(2);
    let version = crowd.central.stamp().version;
    for second in 6..60 {
        crowd.heartbeat(seconds(second), 0);
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
fn a_volunteer_that_was_late_once_is_not_late_in_every_superstep_from_then_on() {
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
    let paused = FromVolunteer::Heartbeat(Report {
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
    crowd.heartbeat(seconds(8), 0);
    crowd.contribute(seconds(8) + ms(1), 0, 10);
    assert_eq!(
        crowd.closed.len(),
        1,
        "the other was heard of last at 5 s, more than three periods ago"
    );
}

#[test]
fn a_volunteer_that_still_sends_heartbeats_but_computes_nothing_any_more_is_counted_on_less_and_less() {
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
    let closed: Vec<_> = world
        .observer
        .closed
        .iter()
        .filter(|(at, _)| *at > seconds(40))
        .collect();
    let mean = closed.iter().map(|(_, closed)| closed.samples).sum::<u64>() / closed.len() as u64;
    assert!((850..1200).contains(&mean), "{mean} samples");
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

/// Samples that the central module has accepted and the tab has no acknowledgement of.
fn in_flight(world: &World) -> u64 {
    let known = world.local(0).accepted_samples();
    let mut sum = 0;
    for (_, samples, _) in &world.observer.ledger.contributions {
        if sum == known {
            break;
        }
        sum += samples;
    }
    assert_eq!(sum, known, "the tab counts whole contributions");
    world.central.totals().samples - known
}

/// Notes the samples and the factor of each step.
struct Listening;

impl ServerOptimizer for Listening {
    fn step(&mut self, model: &mut [f32], _: &[f32], samples_in_model: u64, rate_factor: f32) {
        (model[0], model[1]) = (samples_in_model as f32, rate_factor);
    }

    fn record(&self) -> OptimizerMemory {
        OptimizerMemory::default()
    }

    fn load(&mut self, _: OptimizerMemory) -> Result<(), RecordError> {
        Ok(())
    }
}

#[test]
fn a_schedule_counts_the_samples_of_the_step_and_a_long_step_those_of_them_that_weigh() {
    let config = Config {
        superstep_samples: 100,
        minibatch: 1000,
        lr_scaling: bsp::central::LearningRateScaling::Linear,
        ..config()
    };
    let weighting = bsp::combine::Weighting {
        max_read_out_samples: 300,
        ..config.weighting
    };
    let config = Config { weighting, ..config };
    let mut central = Central::new(Time::ZERO, config, vec![0.0; PARAMETERS], Box::new(Listening));
    let session = join(&mut central, Time::ZERO, ConnectionId(1)).session;
    // (After the first superstep, too, half of the intended samples are enough.)
    for (sequence, samples, told) in [(1, 200, [200.0, 2.0]), (2, 900, [1100.0, 3.0])] {
        let contribution = Contribution {
            samples,
            ..contribution(session, sequence)
        };
        say(
            &mut central,
            seconds(sequence),
            ConnectionId(1),
            &super::peer::frame(&contribution, &[1.0; 5]),
        );
        assert_eq!(central.model()[..2], told);
    }
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
        let contribution = Contribution {
            samples: 400,
            ..contribution(session, 1)
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
