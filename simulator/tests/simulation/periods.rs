//! The read-out period, and its effect on supersteps.

use std::time::Duration;

use bsp::central::Config;
use bsp::time::Time;

use super::crowd::after_contributions;
use super::gradients::Gradients;
use super::tab::Machine;
use super::world::{World, config, ms, seconds};

/// The mean of the supersteps' samples from `begin` on.
fn mean_after(world: &World, begin: Time) -> f64 {
    let closed: Vec<_> = world.observer.closed.iter().filter(|(at, _)| *at > begin).collect();
    closed.iter().map(|(_, closed)| closed.samples).sum::<u64>() as f64 / closed.len() as f64
}

#[test]
fn the_time_that_messages_take_makes_supersteps_no_larger() {
    let config = Config {
        superstep_samples: 1000,
        ..config()
    };
    let mut world = World::with(1, config, Gradients::Counting);
    for _ in 0..4 {
        world.join(Machine {
            latency: ms(40),
            ..Machine::default()
        });
    }
    world.run_until(seconds(40));
    let mean = mean_after(&world, seconds(10));
    assert!((900.0..1100.0).contains(&mean), "{mean} samples");
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
fn the_period_is_no_longer_than_the_rates_have_been_measured_for() {
    // One sample each 100 ms: at that rate 400 samples take 40 s. But perhaps only the first minibatches are this slow.
    let slow: Vec<_> = (1..=8).map(|tenth| (ms(100 * tenth), 1)).collect();
    let crowd = after_contributions(&slow);
    assert!(crowd.central.period() <= ms(90), "{:?}", crowd.central.period());
    let slow: Vec<_> = (1..=900).map(|tenth| (ms(100 * tenth), 1)).collect();
    let crowd = after_contributions(&slow);
    assert!(crowd.central.period() > ms(9000), "{:?}", crowd.central.period());
}

#[test]
fn the_period_follows_while_the_first_superstep_is_still_open() {
    let slow: Vec<_> = (1..=8).map(|tenth| (ms(100 * tenth), 1)).collect();
    let crowd = after_contributions(&slow);
    assert!(crowd.closed.is_empty());
    assert!(crowd.central.period() >= ms(80), "{:?}", crowd.central.period());
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
        let period = world.central.period();
        // A small change is not told.
        assert!(period <= expected && period > expected.mul_f64(0.9), "{period:?}");
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
        let late: Vec<_> = world
            .observer
            .closed
            .iter()
            .filter(|(at, _)| *at > seconds(10))
            .collect();
        let staleness = late.iter().map(|(_, closed)| closed.staleness).sum::<f64>() / late.len() as f64;
        // Of some 55 minibatches in a period, 5 are computed while a publish is on its way. Out of step it is 0.3 and
        // more.
        assert!(staleness < 0.12, "{staleness} versions, {offset} ms");
    }
}
