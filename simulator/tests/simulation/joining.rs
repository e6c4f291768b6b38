//! Coming, going on, and coming again.

use std::time::Duration;

use bsp::central::Central;
use bsp::local::{End, LinkState};
use bsp::protocol::message::{Refusal, RunId};

use super::gradients::{PARAMETERS, Sgd};
use super::tab::Machine;
use super::world::{World, config, ms, seconds};

#[test]
fn a_restarted_server_is_another_run_and_its_volunteers_start_afresh() {
    let mut world = World::new(1);
    let tabs = [world.join(Machine::default()), world.join(Machine::default())];
    world.run_until(seconds(3));
    let config = bsp::central::Config {
        run: RunId(78),
        ..config()
    };
    world.central = Central::new(world.now, config, vec![0.0; PARAMETERS], Box::new(Sgd { rate: 0.1 }));
    world.observer.closed.clear();
    for tab in tabs {
        world.take_offline(tab, Duration::from_secs(3));
    }
    world.run_until(seconds(20));
    for tab in tabs {
        assert_eq!(world.end_of(tab), Some(&End::StartAfresh(Refusal::AnotherRun)));
        assert!(
            world.tabs[tab].ml.iter().all(|ml| ml.training.is_none()),
            "its ML modules were told to stop"
        );
        assert_eq!(world.local(tab).link_state(), LinkState::Ended);
    }
}

#[test]
fn a_volunteer_that_joins_late_gets_the_newest_model_at_once_and_counts() {
    let mut world = World::new(1);
    world.join(Machine::default());
    world.run_until(seconds(5));
    let version = world.central.stamp().version;
    let late = world.join(Machine::default());
    world.run_for(ms(60));
    let first = world.latest_model_of(late).unwrap().version;
    assert!(first + 2 >= version && first > 5);
    world.run_until(seconds(6));
    assert!(
        world
            .observer
            .ledger
            .settled
            .contains_key(&world.tabs[late].session.unwrap())
    );
}

#[test]
fn a_reconnect_is_the_same_session_and_is_not_counted_twice() {
    let mut world = World::new(1);
    let tab = world.join(Machine::default());
    for second in 1..20 {
        world.run_until(seconds(second));
        world.cut(tab, Some(ms(1)), Some(ms(2000)));
        assert!(world.central.volunteers(world.now).count() <= 1);
    }
    world.run_until(seconds(22));
    assert_eq!(world.central.volunteers(world.now).count(), 1);
    assert_eq!(
        world
            .central
            .volunteers(world.now)
            .next()
            .map(|volunteer| volunteer.session),
        world.tabs[tab].session
    );
    assert!(world.observer.tabs[tab].connects.len() >= 19);
    world.assert_totals();
}

#[test]
fn a_welcome_that_is_lost_costs_a_session_number_and_nothing_else() {
    let mut world = World::new(1);
    let tab = world.join(Machine {
        latency: ms(50),
        ..Machine::default()
    });
    // The hello arrives at 150 ms, its welcome would at 200 ms.
    world.run_until(seconds(0) + ms(170));
    world.cut(tab, Some(ms(1)), Some(ms(1)));
    world.run_until(seconds(5));
    assert!(world.is_welcomed(tab));
    assert_eq!(world.tabs[tab].session.map(|session| session.0), Some(2));
    assert!(
        world.central.stamp().version > 10,
        "no superstep waits for a session without a volunteer"
    );
    world.run_until(seconds(120));
    world.assert_totals();
}

#[test]
fn the_volunteers_of_a_finished_run_are_told_and_end() {
    let mut world = World::new(1);
    let tabs = [world.join(Machine::default()), world.join(Machine::default())];
    world.run_until(seconds(3));
    world.with_central(|central, _, actions| central.finish(actions));
    world.run_until(seconds(5));
    for tab in tabs {
        assert_eq!(world.end_of(tab), Some(&End::Refused(Refusal::Finished)));
        assert!(world.tabs[tab].ml.iter().all(|ml| ml.training.is_none()));
    }
}
