//! What a volunteer says of itself while its server is away, and afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::time::Duration;

use bsp::protocol::message::{Ack, FromCentral};
use volunteer::messages::State;
use world::{World, settings};

/// A volunteer that has lost its link, and has computed until it sleeps.
fn waiting(mut world: World) -> World {
    world.on(|volunteer, now, actions| volunteer.on_closed(now, actions));
    for _ in 0..1_000 {
        world.take_contributions();
        if world.take_states().contains(&State::Waiting) {
            return world;
        }
        world.compute();
        world.pass(Duration::from_millis(300));
    }
    panic!("it computes on for ever");
}

#[test]
fn a_volunteer_without_its_server_says_whether_it_computes_on_or_waits_and_whether_the_server_will_be_back() {
    let mut world = World::training(settings());
    world.take_states();
    world.frame(&FromCentral::BackSoon);
    assert_eq!(world.take_states(), []);
    world.on(|volunteer, now, actions| volunteer.on_closed(now, actions));
    assert_eq!(world.take_states(), [State::BackSoon]);
    let world = waiting(world);
    assert!(world.now.as_micros() > 5_000_000, "only after {:?}", world.now);
}

#[test]
fn a_volunteer_that_is_back_says_how_long_it_was_away_and_what_became_of_its_work() {
    let mut world = waiting(World::training(settings()));
    world.take_connects();
    while world.take_connects() == 0 {
        world.pass(Duration::from_millis(300));
    }
    world.take_told();
    world.welcome();
    let told = world.take_told().pop().unwrap();
    assert_eq!(
        told.state,
        State::NotStored,
        "there is no room before the first is durable"
    );
    assert!(told.away_seconds > 5 && told.kept_samples > 16, "{told:?}");
    assert!(!told.are_sent && told.accepted_samples == 0, "{told:?}");
    let mut last = told.clone();
    for through in 1.. {
        if world.take_contributions() != [through] {
            break;
        }
        let refused = None;
        world.frame(&FromCentral::Ack(Ack {
            through,
            durable: through,
            refused,
        }));
        last = world.take_told().pop().unwrap_or(last);
    }
    assert!(last.are_sent && last.state == State::Training, "{last:?}");
    assert_eq!(
        (last.accepted_samples, last.away_seconds),
        (told.kept_samples, told.away_seconds)
    );
    world.pass(Duration::from_secs(61));
    let told = world.take_told().pop().unwrap();
    assert_eq!(told, State::Training.into(), "a minute later that is old news");
}

#[test]
fn a_freeze_whose_first_sign_is_a_closed_link_counts_from_its_beginning() {
    let mut world = World::training(settings());
    world.pass(Duration::from_secs(1));
    // Nobody calls until the browser lets the tab go on, and says first that it has closed the socket.
    world.now = world.now + Duration::from_secs(60);
    world.on(|volunteer, now, actions| volunteer.on_closed(now, actions));
    world.take_connects();
    while world.take_connects() == 0 {
        world.next_timeout().unwrap();
    }
    world.take_told();
    world.welcome();
    let told = world.take_told().pop().unwrap();
    assert!(
        told.state == State::Training && (59..=61).contains(&told.away_seconds),
        "{told:?}"
    );
}

#[test]
fn a_tab_that_may_close_sends_what_it_has_whatever_the_period() {
    let mut world = World::training(settings());
    world.compute();
    world.take_contributions();
    world.on(|volunteer, now, actions| volunteer.on_closing(now, actions));
    assert_eq!(world.take_contributions(), [1]);
    world.compute();
    world.on(|volunteer, now, actions| volunteer.on_closing(now, actions));
    assert_eq!(world.take_contributions(), [2], "right behind");
}
