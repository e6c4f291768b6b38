//! ML modules that move along their own gradients: no displacement is lost or counted twice, and computing still never
//! waits.

use std::time::Duration;

use bsp::central::{Config, ServerOptimizer};
use bsp::local::End;
use bsp::protocol::message::ContributionRefusal;

use super::gradients::{Gradients, LOCAL_RATE, PARAMETERS, Sgd, samples};
use super::replicas::bits;
use super::tab::{Machine, link_of};
use super::world::{World, config, ms, seconds};

pub(super) fn local_steps() -> Config {
    Config {
        has_local_steps: true,
        ..config()
    }
}

/// A run with local steps whose server adds the mean displacement as it is.
fn world(seed: u64, config: Config) -> World {
    World::with_optimizer(seed, config, Gradients::Descending, Box::new(Sgd { rate: 1.0 }))
}

/// The parameters that a tab's ML module computes on.
fn working_copy(world: &World, tab: usize, ml_module: usize) -> Vec<f32> {
    let training = world.tabs[tab].ml[ml_module].training.as_ref();
    training.expect("the ML module lives").model().to_vec()
}

/// Plain descent over the steps of a tab's one ML module.
#[derive(Default)]
struct PlainDescent {
    model: [f32; PARAMETERS],
    steps: u64,
}

impl PlainDescent {
    /// Where it is after as many steps as the ML module has made.
    fn follow(&mut self, world: &World, tab: usize) -> &[f32] {
        let session = world.tabs[tab].session.expect("it has joined");
        let mut gradient = [0.0; PARAMETERS];
        for name in (self.steps..world.observer.tabs[tab].added.len() as u64).map(|step| (session, 0, step)) {
            Gradients::Descending.compute(name, &self.model, &mut gradient);
            let rate = LOCAL_RATE / samples(name) as f32;
            Sgd { rate }.step(&mut self.model, &gradient, 0, 1.0);
            self.steps += 1;
        }
        &self.model
    }
}

fn assert_close(got: &[f32], expected: &[f32], what: &str) {
    let mut both = got.iter().zip(expected);
    assert!(
        both.all(|(got, expected)| (got - expected).abs() < 1e-4),
        "{what}: {got:?} instead of {expected:?}"
    );
}

/// All tabs pause until everything is settled.
fn pause_all(world: &mut World) {
    for tab in 0..world.tabs.len() {
        world.pause(tab);
    }
    world.run_for(Duration::from_secs(30));
    for tab in 0..world.tabs.len() {
        world.assert_all_is_settled(tab);
    }
}

/// After a pause all go on from the server's model.
fn assert_all_go_on_from_the_model(world: &mut World) {
    for tab in 0..world.tabs.len() {
        world.resume(tab);
        for ml_module in 0..world.tabs[tab].ml.len() {
            let own = working_copy(world, tab, ml_module);
            assert_eq!(bits(&own), world.model_bits(), "tab {tab}, ML module {ml_module}");
        }
    }
}

/// One volunteer with one ML module, on any link: at every instant its working copy is where plain descent is after as
/// many steps. When all is settled, the server's model is there, too.
fn assert_plain_descent(machine: Machine, cut_every: Option<Duration>) {
    let mut world = world(1, local_steps());
    let tab = world.join(machine);
    world.run_until(seconds(3));
    if let Some(every) = cut_every {
        for cut in 1..20 {
            world.at(seconds(3) + every * cut, move |world| {
                world.cut(tab, Some(ms(3)), Some(ms(5)))
            });
        }
    }
    let mut plain = PlainDescent::default();
    for _ in 0..2 {
        for _ in 0..400 {
            world.run_for(ms(23));
            assert_close(
                &working_copy(&world, tab, 0),
                plain.follow(&world, tab),
                "the working copy",
            );
        }
        pause_all(&mut world);
        assert_close(world.central.model(), plain.follow(&world, tab), "the server's model");
        assert_all_go_on_from_the_model(&mut world);
    }
    assert!(world.observer.closed.len() > 5);
}

#[test]
fn one_ml_module_alone_makes_the_models_of_a_plain_sgd_loop_whatever_its_link_is() {
    assert_plain_descent(Machine::default(), None);
    assert_plain_descent(link_of(500.0), None);
    let far = Machine {
        latency: ms(700),
        ..Machine::default()
    };
    assert_plain_descent(far, None);
}

#[test]
fn one_ml_module_alone_makes_the_models_of_a_plain_sgd_loop_however_often_the_link_is_cut() {
    for every in [ms(437), ms(811)] {
        assert_plain_descent(Machine::default(), Some(every));
    }
}

#[test]
fn a_read_out_that_begins_and_comes_back_within_one_minibatch_or_one_rest_is_counted_once() {
    for (step, duty_percent) in [(ms(300), 100), (ms(20), 5)] {
        let mut config = local_steps();
        config.superstep_samples = 1;
        let mut world = world(1, config);
        let tab = world.join(Machine {
            step,
            ..Machine::default()
        });
        world.set_duty(tab, duty_percent);
        world.run_until(seconds(1));
        let mut plain = PlainDescent::default();
        for _ in 0..300 {
            world.run_for(ms(71));
            assert_close(
                &working_copy(&world, tab, 0),
                plain.follow(&world, tab),
                "the working copy",
            );
        }
    }
}

#[test]
fn the_mean_of_several_ml_modules_displacements_is_learned_from_and_all_go_on_from_the_same_model() {
    let mut world = world(1, local_steps());
    for ml_modules in [2, 1, 3] {
        world.join(Machine {
            ml_modules,
            ..Machine::default()
        });
    }
    world.run_until(seconds(10));
    let begins = seconds(10).as_micros() as f32 / ms(5).as_micros() as f32;
    pause_all(&mut world);
    // Each ML module alone is at 3·(1 − (1 − rate)^steps). Their mean is no further from the start, and not much
    // nearer.
    let alone = 3.0 * (1.0 - (-LOCAL_RATE * begins).exp());
    for parameter in world.central.model() {
        assert!(
            (0.9 * alone..1.01 * alone).contains(parameter),
            "{parameter}, and {alone} alone"
        );
    }
    assert_all_go_on_from_the_model(&mut world);
    world.run_for(Duration::from_secs(20));
    pause_all(&mut world);
    assert!(
        world
            .central
            .model()
            .iter()
            .all(|parameter| (parameter - 3.0).abs() < 0.1)
    );
    assert_all_go_on_from_the_model(&mut world);
    world.assert_totals();
}

#[test]
fn a_refused_update_leaves_the_working_copy() {
    let mut config = local_steps();
    config.max_staleness = 0;
    let mut world = world(1, config);
    for latency in [10, 30, 300] {
        world.join(Machine {
            latency: ms(latency),
            ..Machine::default()
        });
    }
    world.run_until(seconds(10));
    let refused = world.observer.refusals.len();
    assert!(refused > 10, "only {refused} refusals");
    pause_all(&mut world);
    assert_all_go_on_from_the_model(&mut world);
    world.assert_totals();
}

#[test]
fn a_refused_update_leaves_the_working_copy_also_when_no_other_model_follows() {
    let mut config = local_steps();
    config.max_staleness = 0;
    let mut world = world(1, config);
    let (stays, goes) = (world.join(Machine::default()), world.join(Machine::default()));
    world.run_until(seconds(2));
    world.take_offline(stays, Duration::from_secs(3));
    world.run_until(seconds(4));
    world.pause(stays);
    world.leave(goes);
    world.run_until(seconds(20));
    assert!(matches!(
        world.observer.refusals.last(),
        Some((_, ContributionRefusal::TooStale { .. }))
    ));
    world.assert_all_is_settled(stays);
    world.resume(stays);
    assert_eq!(bits(&working_copy(&world, stays, 0)), world.model_bits());
    let before = world.central.stamp().version;
    world.run_for(Duration::from_secs(5));
    assert!(world.central.stamp().version > before, "and it goes on");
}

#[test]
fn ml_modules_never_wait_and_a_tab_has_one_contribution_outstanding_however_slow_the_link() {
    // The checks of every contribution find a second one.
    for (bytes_per_second, latency) in [(1e9, 1), (1e9, 1500), (40.0, 300)] {
        let mut world = world(1, local_steps());
        let tab = world.join(Machine {
            ml_modules: 2,
            latency: ms(latency),
            ..link_of(bytes_per_second)
        });
        world.run_until(seconds(60));
        let first_model = world.observer.tabs[tab].models[0].0;
        let gradients = seconds(60).since(first_model).as_micros() / ms(5).as_micros();
        assert_eq!(world.observer.tabs[tab].added.len() as u128, 2 * gradients);
        assert!(world.tabs[tab].ml.iter().all(|ml| ml.waited == Duration::ZERO));
    }
}

#[test]
fn a_leaving_tabs_last_displacement_gets_through_although_the_one_before_is_outstanding() {
    for latency in [0, 30, 400] {
        let mut world = world(latency, local_steps());
        let machine = Machine {
            ml_modules: 2,
            latency: ms(latency),
            ..Machine::default()
        };
        let (tab, _) = (world.join(machine), world.join(Machine::default()));
        world.run_until(seconds(5));
        world.leave(tab);
        world.run_for(Duration::from_secs(4));
        assert_eq!(world.end_of(tab), Some(&End::Left));
        world.assert_all_is_settled(tab);
        world.assert_totals();
        assert!(world.observer.refusals.is_empty());
    }
}

#[test]
fn with_local_steps_too_every_gradient_is_in_exactly_one_settled_contribution_through_150_schedules_of_faults() {
    for seed in 0..150 {
        super::exactly_once::check(seed, local_steps(), Gradients::Descending);
    }
}
