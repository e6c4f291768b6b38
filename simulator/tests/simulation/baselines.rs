//! The baselines beside plain lockstep: asynchronous SGD, and lockstep with backup workers.

use std::time::Duration;

use bsp::central::{Config, ConnectionId};
use bsp::protocol::message::{Contribution, ContributionRefusal, Mode};
use bsp::time::Time;
use bytes::Bytes;

use super::gradients::{Gradients, PARAMETERS};
use super::lockstep::lockstep;
use super::peer::{PEER, central_and_peer, contribution, frame, hello, join, plain, say};
use super::tab::Machine;
use super::world::{World, config, ms, seconds};

pub(super) fn asynchronous() -> Config {
    Config {
        mode: Mode::Asynchronous,
        ..config()
    }
}

fn with_backup_workers(backup_workers: usize) -> Config {
    Config {
        backup_workers,
        ..lockstep()
    }
}

/// A world of volunteers whose minibatches take these milliseconds.
fn world(config: Config, steps: &[u64]) -> World {
    let mut world = World::with(1, config, Gradients::Quadratic);
    for step in steps {
        world.join(Machine {
            step: ms(*step),
            ..Machine::default()
        });
    }
    world
}

/// The number of settled gradients of each tab.
fn settled(world: &World) -> Vec<usize> {
    let sessions = world.tabs.iter().map(|tab| tab.session.expect("it has joined"));
    sessions
        .map(|session| world.observer.ledger.of_session(session).len())
        .collect()
}

#[test]
fn asynchronously_each_accepted_contribution_makes_one_version() {
    let mut world = world(asynchronous(), &[5, 30, 100]);
    world.run_until(seconds(10));
    let closed = &world.observer.closed;
    assert!(closed.len() > 500);
    assert!(closed.iter().all(|(_, closed)| closed.contributions == 1));
    assert_eq!(world.central.totals().accepted, closed.len() as u64);
    assert!(
        world
            .central
            .model()
            .iter()
            .all(|parameter| (parameter - 3.0).abs() < 0.1)
    );
    world.assert_totals();
}

#[test]
fn asynchronously_a_fast_volunteer_is_not_held_up_by_one_a_hundred_times_slower() {
    let of_the_fast = |steps: &[u64]| {
        let mut world = world(asynchronous(), steps);
        world.run_until(seconds(20));
        settled(&world)[0]
    };
    let (alone, beside) = (of_the_fast(&[5]), of_the_fast(&[5, 500]));
    assert_eq!(alone, beside);
}

#[test]
fn asynchronously_a_stragglers_contribution_is_applied_stale() {
    let mut world = world(asynchronous(), &[5, 500]);
    world.run_until(seconds(20));
    assert!(settled(&world)[1] >= 35, "{:?}", settled(&world));
    assert!(world.observer.refusals.is_empty());
    let stalest = world.observer.closed.iter().map(|(_, closed)| closed.staleness);
    assert!(stalest.fold(0.0, f64::max) > 15.0);
}

#[test]
fn asynchronously_nobody_waits_for_ever_after_a_refusal() {
    let config = Config {
        max_staleness: 3,
        ..asynchronous()
    };
    let mut world = world(config, &[5, 7, 300]);
    for cut in 1..20 {
        world.at(seconds(0) + ms(611) * cut, move |world| {
            world.cut(cut as usize % 3, Some(ms(3)), Some(ms(5)))
        });
    }
    world.run_until(seconds(20));
    let before = settled(&world);
    assert!(world.observer.refusals.len() > 20, "{}", world.observer.refusals.len());
    world.run_until(seconds(30));
    let after = settled(&world);
    let settled = |tab: usize| after[tab] - before[tab];
    assert!(
        settled(0) > 250 && settled(1) > 250 && settled(2) > 20,
        "{before:?}, {after:?}"
    );
}

#[test]
fn asynchronously_every_gradient_is_in_exactly_one_settled_contribution_through_100_schedules_of_faults() {
    for seed in 0..100 {
        super::exactly_once::check(seed, asynchronous(), Gradients::Counting);
    }
}

#[test]
fn with_backup_workers_a_superstep_closes_without_the_slowest_whose_contributions_are_dropped() {
    for backup_workers in [0, 1, 2] {
        let mut world = world(with_backup_workers(backup_workers), &[5, 6, 400, 500]);
        world.run_until(seconds(20));
        let late: Vec<_> = world
            .observer
            .closed
            .iter()
            .filter(|(at, _)| *at > seconds(3))
            .collect();
        let in_time = 4 - backup_workers;
        assert!(
            late.iter()
                .all(|(_, closed)| closed.contributions == in_time && closed.staleness == 0.0)
        );
        let (least, most) = [(30, 34), (38, 42), (600, 700)][backup_workers];
        assert!(
            (least..=most).contains(&late.len()),
            "{} with {backup_workers}",
            late.len()
        );
        let is_dropped = |reason: &ContributionRefusal| matches!(reason, ContributionRefusal::Dropped { .. });
        assert!(world.observer.refusals.iter().all(|(_, reason)| is_dropped(reason)));
        assert_eq!(world.observer.refusals.is_empty(), backup_workers == 0);
        assert!(
            world
                .central
                .model()
                .iter()
                .all(|parameter| (parameter - 3.0).abs() < 0.3)
        );
        world.assert_totals();
    }
}

#[test]
fn a_volunteer_whose_contribution_is_dropped_goes_on_with_the_newest_model() {
    let mut world = world(with_backup_workers(1), &[5, 5, 60]);
    world.run_until(seconds(20));
    let waited = world.tabs[2].ml[0].waited;
    assert!(waited < ms(100), "it waited for {waited:?}");
    assert!(settled(&world)[2] > 300, "{:?}", settled(&world));
    let contribution = world.observer.tabs[2].sent.values().last().cloned();
    let received = bsp::protocol::message::FromVolunteer::decode(&contribution.expect("it contributes")).unwrap();
    let bsp::protocol::message::FromVolunteer::Contribution(contribution) = received.message else {
        panic!("{:?}", received.message)
    };
    let staleness = world.central.stamp().version - contribution.step_runs[0].version;
    assert!(
        staleness <= 5,
        "{staleness} versions after a minibatch of the time of two"
    );
}

#[test]
fn with_more_backup_workers_than_volunteers_each_contribution_closes_a_superstep() {
    let mut world = world(with_backup_workers(5), &[5, 5]);
    world.run_until(seconds(10));
    let closed = &world.observer.closed;
    assert!(closed.len() > 300);
    assert!(closed.iter().all(|(_, closed)| closed.contributions == 1));
}

#[test]
fn with_backup_workers_too_every_gradient_is_in_exactly_one_settled_contribution() {
    let mut world = world(with_backup_workers(1), &[5, 9, 40]);
    for cut in 1..20 {
        world.at(seconds(0) + ms(311) * cut, move |world| {
            world.cut(cut as usize % 3, Some(ms(3)), Some(ms(5)))
        });
    }
    world.run_until(seconds(30));
    let before = world.observer.closed.len();
    world.run_until(seconds(32));
    assert!(world.observer.closed.len() > before + 50, "it goes on after the cuts");
    for tab in 0..3 {
        world.leave(tab);
    }
    world.run_for(Duration::from_secs(3));
    for tab in 0..3 {
        world.assert_all_is_settled(tab);
    }
    world.assert_totals();
}

/// Two volunteers in lockstep. The contribution of one is refused, before or after that of the other.
#[test]
fn in_lockstep_what_is_refused_counts_as_come_and_only_in_its_superstep() {
    let implausible = |honest: Contribution| Contribution { gradients: 0, ..honest };
    let useless: [&dyn Fn(Contribution) -> Bytes; 2] = [&|honest| frame(&honest, &[f32::NAN; PARAMETERS]), &|honest| {
        plain(&implausible(honest))
    }];
    for (useless, is_first) in useless
        .into_iter()
        .flat_map(|useless| [(useless, true), (useless, false)])
    {
        let (mut central, first) = central_and_peer(lockstep(), hello());
        let other = ConnectionId(PEER.0 + 1);
        let second = join(&mut central, Time::ZERO, other);
        let mut say = |from: ConnectionId, frame: &Bytes| {
            say(&mut central, Time::ZERO, from, frame);
            central.stamp().version
        };
        let refused = useless(contribution(first.session, 1));
        let good = plain(&contribution(second.session, 1));
        let contributions = match is_first {
            true => [(PEER, &refused), (other, &good)],
            false => [(other, &good), (PEER, &refused)],
        };
        assert_eq!(contributions.map(|(from, frame)| say(from, frame)), [0, 1]);
        let next = |session, sequence| Contribution {
            version_sum: 4,
            ..contribution(session, sequence)
        };
        // A late contribution does not count for this superstep, which waits for its volunteer's next one.
        assert_eq!(say(PEER, &useless(contribution(first.session, 2))), 1);
        assert_eq!(say(other, &plain(&next(second.session, 2))), 1);
        assert_eq!(say(PEER, &plain(&next(first.session, 3))), 2);
    }
}

/// A volunteer that has contributed is not counted once more for a further contribution that is refused.
#[test]
fn in_lockstep_nobody_makes_a_superstep_close_without_another() {
    let (mut central, first) = central_and_peer(lockstep(), hello());
    join(&mut central, Time::ZERO, ConnectionId(PEER.0 + 1));
    say(&mut central, Time::ZERO, PEER, &plain(&contribution(first.session, 1)));
    for sequence in 2..5 {
        let useless = frame(&contribution(first.session, sequence), &[f32::NAN; PARAMETERS]);
        say(&mut central, Time::ZERO, PEER, &useless);
    }
    assert_eq!(central.stamp().version, 0);
}
