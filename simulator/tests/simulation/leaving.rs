//! The end of a membership.

use std::time::Duration;

use bsp::local::{Action, End, LinkState};
use bsp::shared_memory::shared_memory;
use bsp::time::Time;

use super::tab::{Machine, welcomed};
use super::world::{World, ms, seconds};

#[test]
fn a_volunteer_that_leaves_has_everything_settled_first() {
    for latency in [0, 30, 400] {
        let mut world = World::new(latency);
        let tab = world.join(Machine {
            ml_modules: 2,
            latency: ms(latency),
            step: ms(70),
            ..Machine::default()
        });
        world.run_until(seconds(5));
        world.leave(tab);
        world.run_for(Duration::from_secs(4));
        assert_eq!(world.end_of(tab), Some(&End::Left));
        world.assert_all_is_settled(tab);
        world.assert_totals();
        assert_eq!(
            world.central.totals().gradients,
            world.observer.tabs[tab].added.len() as u64
        );
        assert_eq!(world.local(tab).accepted_samples(), world.central.totals().samples);
        assert_eq!(
            world.central.volunteers(world.now).count(),
            0,
            "its session is over, and its place free"
        );
        assert_eq!(world.central.next_timeout(world.now), None);
    }
}

#[test]
fn a_volunteer_that_leaves_while_its_link_is_down_ends_after_the_farewell() {
    let mut world = World::new(1);
    let tab = world.join(Machine::default());
    world.run_until(seconds(2));
    world.take_offline(tab, Duration::from_secs(100));
    world.run_until(seconds(3));
    world.leave(tab);
    world.run_until(seconds(20));
    let (at, end) = world.tabs[tab].ended.clone().unwrap();
    assert_eq!((at, end), (seconds(8), End::Left));
}

#[test]
fn a_volunteer_that_leaves_before_its_first_welcome_ends_too() {
    let mut world = World::new(1);
    let tab = world.join(Machine {
        latency: Duration::from_secs(3),
        ..Machine::default()
    });
    world.run_until(seconds(1));
    world.leave(tab);
    world.run_until(seconds(60));
    assert_eq!(world.end_of(tab), Some(&End::Left));
    assert_eq!(world.central.volunteers(world.now).count(), 0);
}

#[test]
fn nothing_follows_the_end() {
    // The world checks with every action that none follows the end.
    let mut world = World::new(1);
    let tab = world.join(Machine {
        ml_modules: 2,
        ..Machine::default()
    });
    world.run_until(seconds(2));
    world.leave(tab);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.end_of(tab), Some(&End::Left));
    let model =
        bsp::protocol::message::FromCentral::encode_model(Default::default(), &[0.0; super::gradients::PARAMETERS]);
    let welcome = bsp::protocol::message::FromCentral::Welcome(bsp::protocol::message::Welcome {
        session: bsp::protocol::message::SessionId(9),
        token: bsp::protocol::message::Token(9),
        period_us: 1,
        settled: 0,
        durable: 0,
        is_last_refused: false,
        codec: bsp::protocol::codec::Codec::F32,
    });
    world.with_local(tab, |local, now, actions| local.on_open(now, actions));
    world.with_local(tab, |local, now, actions| local.on_frame(now, &model, actions).unwrap());
    world.with_local(tab, |local, now, actions| {
        local.on_frame(now, &welcome.encode(), actions).unwrap()
    });
    world.pause(tab);
    world.resume(tab);
    world.with_local(tab, |local, now, actions| local.set_active_ml_modules(now, 1, actions));
    world.leave(tab);
    world.with_local(tab, |local, now, actions| local.on_ml_module_died(now, 1, actions));
    world.with_local(tab, |local, now, actions| local.on_closed(now, actions));
    world.run_for(Duration::from_secs(100));
    assert_eq!(world.local(tab).link_state(), LinkState::Ended);
}

#[test]
fn a_tab_that_leaves_in_the_middle_of_a_long_minibatch_waits_for_it_without_spinning() {
    // The world checks with every time-out that no state machine asks again and again to be woken.
    let mut world = World::new(1);
    let tab = world.join(Machine {
        step: ms(2500),
        ..Machine::default()
    });
    world.run_until(seconds(4));
    world.leave(tab);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.end_of(tab), Some(&End::Left));
    assert_eq!(world.observer.tabs[tab].added.len(), 2);
    world.assert_all_is_settled(tab);
}

#[test]
fn a_tab_with_room_for_more_ml_modules_than_it_runs_does_not_wait_for_those_when_it_leaves() {
    let (memory, mut sides) = shared_memory(1, 3);
    let mut local = welcomed(memory);
    let mut actions = Vec::new();
    local.set_active_ml_modules(Time::ZERO, 1, &mut actions);
    local.leave(Time::ZERO, &mut actions);
    assert!(
        !actions.contains(&Action::Ended(End::Left)),
        "the one that runs has not stopped yet"
    );
    drop(sides.remove(0));
    let next = local.next_timeout(Time::ZERO);
    local.on_timeout(next, &mut actions);
    assert!(actions.contains(&Action::Ended(End::Left)));
}
