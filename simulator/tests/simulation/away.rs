//! Tabs without a link: what they finish is kept up to a bound, then they sleep, and all of it is sent afterwards. And
//! tabs that may close at any moment: all that they have is on its way at once.

use std::time::Duration;

use bsp::central::Config;
use bsp::combine::Weighting;
use bsp::local::{End, LinkState, Return, kept_contributions};

use super::gradients::{Gradients, MINIBATCH, PARAMETERS};
use super::local_steps::local_steps;
use super::tab::Machine;
use super::world::{World, config, ms, seconds};

/// Gradients of a contribution that weighs no more with others.
const FULL: u64 = 10;

/// Contributions are full soon, and versions so rare that each contribution can list what its gradients were computed
/// on.
fn soon_full(config: Config) -> Config {
    Config {
        superstep_samples: 1 << 16,
        weighting: Weighting {
            max_read_out_samples: FULL * MINIBATCH,
            ..config.weighting
        },
        ..config
    }
}

fn added(world: &World, tab: usize) -> u64 {
    world.observer.tabs[tab].added.len() as u64
}

fn kept() -> u64 {
    kept_contributions(PARAMETERS) as u64
}

/// A tab that lost its link at second 2, with the gradients that it had added by then. The link is there again at
/// second 62.
fn away(config: Config, gradients: Gradients, ml_modules: usize) -> (World, usize, u64) {
    let mut world = World::with(1, config, gradients);
    let tab = world.join(Machine {
        ml_modules,
        step: ms(10),
        ..Machine::default()
    });
    world.run_until(seconds(2));
    let before = added(&world, tab);
    assert!(before > 100);
    world.take_offline(tab, Duration::from_secs(60));
    (world, tab, before)
}

/// The link is there again: the tab computes on, and leaves with all of its gradients settled once.
fn expect_all_is_sent(world: &mut World, tab: usize) {
    let before = added(world, tab);
    world.run_until(seconds(100));
    assert_eq!(world.local(tab).link_state(), LinkState::Welcomed);
    assert!(!world.local(tab).is_resting(), "there is room again");
    assert!(added(world, tab) > before + 100, "its ML modules are awake");
    world.leave(tab);
    world.run_for(Duration::from_secs(4));
    assert_eq!(world.end_of(tab), Some(&End::Left));
    world.assert_all_is_settled(tab);
    world.assert_totals();
    assert_eq!(world.local(tab).accepted_samples(), world.central.totals().samples);
}

#[test]
fn a_tab_without_a_link_computes_on_until_as_much_is_kept_as_can_be_and_then_sleeps() {
    for ml_modules in [1, 2] {
        let (mut world, tab, before) = away(soon_full(config()), Gradients::Counting, ml_modules);
        world.run_until(seconds(5));
        assert!(!world.local(tab).is_resting());
        assert!(added(&world, tab) > before + 200, "it computes on");
        world.run_until(seconds(30));
        assert!(world.local(tab).is_resting());
        let full = added(&world, tab) - before;
        let modules = ml_modules as u64;
        // As many contributions as can be kept, and the aggregates. A look comes every 250 ms, 25 gradients later.
        let most = (kept() + 1) * (FULL + 26 * modules);
        assert!(
            full >= (kept() - 1) * FULL && full <= most,
            "{full} gradients, at most {most}"
        );
        world.run_until(seconds(60));
        assert_eq!(added(&world, tab), before + full, "not one more");
        expect_all_is_sent(&mut world, tab);
    }
}

#[test]
fn a_return_says_how_long_it_was_and_what_became_of_what_was_kept() {
    let (mut world, tab, _) = away(soon_full(config()), Gradients::Counting, 1);
    assert_eq!(world.local(tab).last_return(), None);
    world.run_until(seconds(100));
    let Some(Return {
        away,
        kept_samples,
        accepted_samples,
        is_settled,
        ..
    }) = world.local(tab).last_return()
    else {
        panic!("it was away")
    };
    assert!(
        is_settled && away >= Duration::from_secs(60) && away < Duration::from_secs(95),
        "{away:?}"
    );
    assert!(kept_samples >= (kept() - 1) * FULL, "{kept_samples} samples were kept");
    assert_eq!(accepted_samples, kept_samples);
    // A moment is not worth a word, and a freeze is.
    world.cut(tab, Some(ms(1)), Some(ms(1)));
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.local(tab).last_return().map(|last| last.away), Some(away));
    world.freeze(tab, Duration::from_secs(30));
    world.run_for(Duration::from_secs(40));
    let frozen = world.local(tab).last_return().unwrap();
    assert!(
        frozen.away > Duration::from_secs(27) && frozen.away < Duration::from_secs(31),
        "{frozen:?}"
    );
}

#[test]
fn under_local_steps_one_contribution_is_kept_and_the_aggregate_grows_until_it_is_full() {
    let (mut world, tab, before) = away(soon_full(local_steps()), Gradients::Descending, 1);
    world.run_until(seconds(60));
    assert!(world.local(tab).is_resting());
    let full = added(&world, tab) - before;
    assert!((FULL..=2 * (FULL + 26)).contains(&full), "{full} gradients");
    expect_all_is_sent(&mut world, tab);
}

#[test]
fn an_ml_modules_death_without_a_link_ends_the_tab_and_what_it_kept_is_counted_as_lost() {
    let (mut world, tab, before) = away(soon_full(config()), Gradients::Counting, 2);
    world.run_until(seconds(4));
    assert!(added(&world, tab) > before);
    let sent = world.observer.tabs[tab].sent.len();
    world.kill_ml_module(tab, 0);
    world.run_until(seconds(100));
    assert_eq!(world.end_of(tab), Some(&End::MlModuleDied));
    assert_eq!(world.observer.tabs[tab].sent.len(), sent, "no link is opened any more");
    world.assert_totals();
}

#[test]
fn an_ml_modules_death_while_what_was_kept_is_sent_loses_none_of_it() {
    let (mut world, tab, _) = away(soon_full(config()), Gradients::Counting, 2);
    world.run_until(seconds(61));
    while world.local(tab).link_state() != LinkState::Welcomed {
        world.run_for(ms(1));
    }
    // The first are acknowledged, so that there is room for the last read-out.
    world.run_for(ms(200));
    let before = world.observer.tabs[tab].added.clone();
    let accepted = |world: &World| world.observer.ledger.accepted.clone();
    let missing = before.iter().filter(|name| !accepted(&world).contains(name)).count();
    assert!(missing > 100, "{missing} gradients are kept");
    // From here on it waits for no acknowledgement.
    world.observer.tabs[tab].may_close = true;
    world.kill_ml_module(tab, 0);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.end_of(tab), Some(&End::MlModuleDied));
    let accepted = accepted(&world);
    let lost: Vec<_> = before.iter().filter(|name| !accepted.contains(name)).collect();
    assert!(lost.is_empty(), "{} of {} are lost", lost.len(), before.len());
}

#[test]
fn all_that_a_tab_has_is_on_its_way_when_it_may_close_at_any_moment() {
    for micros in (0..300_000).step_by(1_900) {
        let mut world = World::new(micros);
        let tab = world.join(Machine {
            ml_modules: 2,
            latency: ms(40),
            step: ms(7),
            ..Machine::default()
        });
        world.run_until(seconds(1) + Duration::from_micros(micros));
        let before = world.observer.tabs[tab].added.clone();
        world.observer.tabs[tab].may_close = true;
        world.with_local(tab, |local, now, actions| local.on_closing(now, actions));
        // An ML module may have been in the middle of an add.
        world.run_for(ms(3));
        world.freeze(tab, Duration::from_secs(1000));
        world.run_for(Duration::from_secs(1));
        let accepted = &world.observer.ledger.accepted;
        let lost: Vec<_> = before.iter().filter(|name| !accepted.contains(name)).collect();
        assert!(lost.is_empty(), "lost after {micros} µs: {lost:?}");
        world.assert_totals();
    }
}

#[test]
fn a_tab_that_was_about_to_close_and_lives_on_loses_and_doubles_nothing() {
    let (counting, descending) = (Gradients::Counting, Gradients::Descending);
    for (config, gradients) in [(config(), counting), (local_steps(), descending)] {
        for seed in 0..40 {
            let mut world = World::with(seed, config.clone(), gradients);
            let tab = world.join(Machine {
                latency: ms(40),
                step: ms(7),
                ..Machine::default()
            });
            world.observer.tabs[tab].may_close = true;
            for _ in 0..20 {
                let wait = world.random.between_ms(1, 400);
                world.run_for(wait);
                world.with_local(tab, |local, now, actions| local.on_closing(now, actions));
            }
            world.run_for(Duration::from_secs(2));
            world.leave(tab);
            world.run_for(Duration::from_secs(3));
            assert_eq!(world.end_of(tab), Some(&End::Left));
            world.assert_all_is_settled(tab);
            world.assert_totals();
            assert_eq!(world.central.totals().duplicates, 0, "nothing was sent twice");
        }
    }
}
