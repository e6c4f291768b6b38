//! Computing never waits for synchronising.

use std::time::Duration;

use bsp::time::Time;

use super::tab::{Machine, link_of};
use super::world::{World, ms, seconds};

#[test]
fn in_decoupled_mode_ml_modules_never_wait_however_slow_the_link_is() {
    for (bytes_per_second, latency) in [(1e9, 1), (1e9, 1500), (40.0, 300)] {
        let mut world = World::new(1);
        let machine = Machine {
            ml_modules: 2,
            latency: ms(latency),
            ..link_of(bytes_per_second)
        };
        let tab = world.join(machine);
        world.run_until(seconds(60));
        let first_model = world.observer.tabs[tab].models[0].0;
        let gradients = seconds(60).since(first_model).as_micros() / ms(5).as_micros();
        assert_eq!(
            world.observer.tabs[tab].added.len() as u128,
            2 * gradients,
            "one gradient after the other"
        );
        assert!(world.tabs[tab].ml.iter().all(|ml| ml.waited == Duration::ZERO));
    }
}

#[test]
fn computing_goes_on_while_there_is_no_server_and_all_of_it_counts_when_it_is_back() {
    let mut world = World::new(1);
    let tab = world.join(Machine::default());
    world.run_until(seconds(2));
    world.take_offline(tab, Duration::from_secs(20));
    world.run_until(seconds(60));
    let gradients = seconds(60).since(world.observer.tabs[tab].models[0].0).as_micros() / ms(5).as_micros();
    assert_eq!(world.observer.tabs[tab].added.len() as u128, gradients);
    world.leave(tab);
    world.run_for(Duration::from_secs(2));
    world.assert_all_is_settled(tab);
    assert_eq!(
        world.central.totals().gradients,
        world.observer.tabs[tab].added.len() as u64
    );
}

#[test]
fn a_straggler_costs_the_others_nothing() {
    let versions = |with_straggler: bool| {
        let mut world = World::new(1);
        for _ in 0..4 {
            world.join(Machine::default());
        }
        if with_straggler {
            world.join(Machine {
                step: ms(1900),
                latency: ms(700),
                ..Machine::default()
            });
        }
        world.run_until(seconds(30));
        (world.central.stamp().version, world.central.totals().samples)
    };
    let (without, with) = (versions(false), versions(true));
    assert!(
        with.0 as f64 > 0.95 * without.0 as f64,
        "{with:?} versions and samples, and {without:?} without"
    );
    assert!(with.1 >= without.1 * 99 / 100);
}

#[test]
fn a_pause_ends_computing_after_the_minibatch_and_resuming_goes_on_where_it_was() {
    let mut world = World::new(1);
    let tab = world.join(Machine::default());
    world.run_until(seconds(2));
    world.pause(tab);
    world.run_for(ms(100));
    let paused = world.observer.tabs[tab].added.len();
    world.run_until(seconds(20));
    assert_eq!(world.observer.tabs[tab].added.len(), paused);
    world.assert_all_is_settled(tab);
    assert!(
        world
            .central
            .volunteers(world.now)
            .all(|volunteer| volunteer.is_paused && volunteer.samples_per_second == 0.0)
    );
    world.resume(tab);
    world.run_until(seconds(21));
    assert!(world.observer.tabs[tab].added.len() > paused + 150);
    assert!(world.now > Time::ZERO + ms(1));
}

#[test]
fn a_duty_of_a_tenth_computes_a_tenth_and_delivers_all_of_it_without_waiting() {
    let mut world = World::new(1);
    let tab = world.join(Machine {
        ml_modules: 2,
        duty_percent: 10,
        ..Machine::default()
    });
    world.run_until(seconds(60));
    let first_model = world.observer.tabs[tab].models[0].0;
    let all_the_time = 2.0 * seconds(60).since(first_model).as_secs_f64() / ms(5).as_secs_f64();
    let share = world.observer.tabs[tab].added.len() as f64 / all_the_time;
    assert!((0.099..0.101).contains(&share), "{share}");
    let stats = world.stats();
    assert!((0.99..1.01).contains(&stats.computing_share()), "{stats:?}");
    assert!(world.tabs[tab].ml.iter().all(|ml| ml.waited == Duration::ZERO));
    world.leave(tab);
    world.run_for(Duration::from_secs(2));
    world.assert_all_is_settled(tab);
}

#[test]
fn a_higher_duty_ends_a_rest_at_once() {
    let mut world = World::new(1);
    let slow = Machine {
        step: Duration::from_secs(2),
        ..Machine::default()
    };
    let tab = world.join(slow);
    world.set_duty(tab, 1);
    // In the middle of a rest of 198 seconds.
    world.run_until(seconds(20));
    assert_eq!(world.observer.tabs[tab].added.len(), 1);
    world.set_duty(tab, 100);
    world.run_until(seconds(41));
    assert_eq!(world.observer.tabs[tab].added.len(), 11);
    // Nor has a leaving volunteer to.
    world.set_duty(tab, 1);
    world.run_until(seconds(60));
    world.leave(tab);
    world.run_for(Duration::from_secs(1));
    world.assert_all_is_settled(tab);
    assert!(world.end_of(tab).is_some());
}
