//! Every gradient that a living tab computed is settled once, and counted once, whatever happens to its link.

use std::time::Duration;

use bsp::central::Config;
use bsp::local::{End, Local};
use bsp::protocol::message::Mode;
use bsp::time::Time;
use proptest::prelude::*;

use super::gradients::Gradients;
use super::tab::{Machine, link_of};
use super::world::{World, config, ms, seconds};

fn run(seed: u64) -> World {
    run_with(seed, config(), Gradients::Counting)
}

/// A run with faults of all kinds that a tab survives, drawn from the seed; then they stop, and all tabs leave.
pub(super) fn run_with(seed: u64, mut config: Config, gradients: Gradients) -> World {
    let mut random = simulator::random::Random::new(seed);
    // (Local steps are for decoupled runs.)
    if random.chance(25) && config.mode == Mode::Decoupled && !config.has_local_steps {
        config.mode = Mode::Lockstep;
    }
    if random.chance(20) {
        config.max_staleness = 2;
    }
    let mut world = World::with(seed, config, gradients);
    world.random = random;
    const FAULTS_END: Duration = Duration::from_secs(6);
    for _ in 0..=world.random.below(4) {
        let machine = Machine {
            ml_modules: 1 + world.random.below(3) as usize,
            step: world.random.between_ms(3, 60),
            latency: world.random.between_ms(1, 90),
            ..link_of(if world.random.chance(20) { 2e3 } else { 1e6 })
        };
        let tab = world.join(machine);
        let mut at = Time::ZERO;
        loop {
            at = at + world.random.between_ms(1, 900);
            if at > Time::ZERO + FAULTS_END {
                break;
            }
            let (deed, some, more) = (
                world.random.below(9),
                world.random.between_ms(0, 300),
                world.random.between_ms(0, 300),
            );
            world.at(at, move |world| match deed {
                0..=3 => world.cut(tab, Some(some), Some(more)),
                4 => world.cut(tab, Some(some), None),
                5 => world.take_offline(tab, some),
                6 => world.freeze(tab, if more < ms(30) { Duration::from_secs(8) } else { some }),
                // A frozen page takes no clicks.
                _ if world.tabs[tab].outage.frozen_until > world.now => {}
                7 => match world.tabs[tab].local.as_ref().is_some_and(Local::is_paused) {
                    true => world.resume(tab),
                    false => world.pause(tab),
                },
                _ => {
                    let active = some.as_millis() as usize % 4;
                    world.with_local(tab, |local, now, actions| {
                        local.set_active_ml_modules(now, active, actions)
                    });
                }
            });
        }
    }
    // Backing off and giving up a silent connection take their time.
    world.run_until(seconds(35));
    for tab in 0..world.tabs.len() {
        world.leave(tab);
    }
    world.run_for(Duration::from_secs(10));
    world
}

/// Each gradient of a run with faults is settled once.
pub(super) fn check(seed: u64, config: Config, gradients: Gradients) {
    let world = run_with(seed, config, gradients);
    for tab in 0..world.tabs.len() {
        assert_eq!(world.end_of(tab), Some(&End::Left));
        world.assert_all_is_settled(tab);
        let said = world.observer.tabs[tab].sent.len() as u64;
        let settled = world.tabs[tab]
            .session
            .and_then(|session| world.observer.ledger.settled.get(&session).copied());
        assert_eq!(settled.unwrap_or(0), said, "each contribution that was sent is settled");
    }
    world.assert_totals();
    assert!(world.observer.ledger.refused.is_empty() || world.central.config().max_staleness == 2);
}

#[test]
fn every_gradient_that_a_living_tab_computed_is_in_exactly_one_settled_contribution_through_300_schedules_of_faults() {
    for seed in 0..300 {
        check(seed, config(), Gradients::Counting);
    }
}

#[test]
fn a_link_that_is_cut_at_any_instant_of_a_contributions_journey_loses_and_doubles_nothing() {
    for micros in (0..400_000).step_by(1_700) {
        let mut world = World::new(micros);
        let tab = world.join(Machine {
            latency: ms(40),
            step: ms(7),
            ..Machine::default()
        });
        world.at(seconds(1) + Duration::from_micros(micros), move |world| {
            world.cut(tab, Some(ms(20)), Some(ms(90)))
        });
        world.run_until(seconds(4));
        world.leave(tab);
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.end_of(tab), Some(&End::Left));
        world.assert_all_is_settled(tab);
        world.assert_totals();
        assert!(
            world.observer.ledger.accepted.len() > 300,
            "it trained before and after"
        );
    }
}

#[test]
fn the_same_seed_gives_the_same_run_bit_for_bit() {
    for seed in [5, 6, 7] {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.observer.fingerprint, second.observer.fingerprint);
        assert_eq!(first.model_bits(), second.model_bits());
        assert_eq!(first.observer.closed, second.observer.closed);
    }
    assert_ne!(run(5).observer.fingerprint, run(6).observer.fingerprint);
}

#[test]
fn a_contribution_that_is_refused_is_settled_too_and_the_tab_goes_on() {
    let mut world = World::with(
        1,
        Config {
            max_staleness: 2,
            ..config()
        },
        Gradients::Counting,
    );
    let (tab, _other) = (world.join(Machine::default()), world.join(Machine::default()));
    world.run_until(seconds(2));
    world.take_offline(tab, Duration::from_secs(2));
    world.run_until(seconds(6));
    assert!(
        !world.observer.refusals.is_empty() && !world.observer.ledger.refused.is_empty(),
        "what it kept is too old now"
    );
    world.leave(tab);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.end_of(tab), Some(&End::Left));
    world.assert_all_is_settled(tab);
    world.assert_totals();
    assert_eq!(world.central.totals().refused, world.observer.refusals.len() as u64);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_list_of_cuts_loses_and_doubles_nothing(
        cuts in prop::collection::vec((0u64..2_000_000, 0u64..400, prop::option::of(0u64..400)), 0..12),
        latency in 0u64..120,
        ml_modules in 1usize..4,
    ) {
        let mut world = World::new(cuts.len() as u64);
        let tab = world.join(Machine { latency: ms(latency), ml_modules, ..Machine::default() });
        for (at, tab_hears, central_hears) in cuts {
            let at = Time::from_micros(at);
            world.at(at, move |world| world.cut(tab, Some(ms(tab_hears)), central_hears.map(ms)));
        }
        world.run_until(seconds(8));
        world.leave(tab);
        world.run_for(Duration::from_secs(4));
        prop_assert_eq!(world.end_of(tab), Some(&End::Left));
        world.assert_all_is_settled(tab);
        world.assert_totals();
    }
}
