//! A slow link is busy for its share of the time and no more. It slows down no volunteer with a faster link, if most
//! links are faster.

use std::sync::Arc;
use std::time::Duration;

use bsp::central::{Config, VolunteerStatus};
use bsp::ml_module::Outcome;
use bsp::ml_module::working_copy::LocalOptimizer;
use simulator::{GradientName, Nobody, Observer};

use super::gradients::{MINIBATCH, Sgd};
use super::local_steps::local_steps;
use super::tab::{Machine, link_of};
use super::world::{World, config, ms, seconds};

fn status<G: simulator::Gradients + 'static, O: Observer + 'static>(
    world: &simulator::World<G, O>,
    tab: usize,
) -> VolunteerStatus {
    let mut volunteers = world.central.volunteers(world.now);
    let of_tab = |status: &VolunteerStatus| Some(status.session) == world.tabs[tab].session;
    volunteers.find(of_tab).expect("it is connected")
}

fn settled(world: &World, tab: usize) -> usize {
    let session = world.tabs[tab].session.expect("it has joined");
    world.observer.ledger.of_session(session).len()
}

fn assert_nothing_is_lost(world: &mut World) {
    for tab in 0..world.tabs.len() {
        assert!(world.tabs[tab].ml.iter().all(|ml| ml.waited == Duration::ZERO));
        world.leave(tab);
    }
    world.run_for(Duration::from_secs(6));
    for tab in 0..world.tabs.len() {
        world.assert_all_is_settled(tab);
    }
    world.assert_totals();
    assert!(world.observer.refusals.is_empty());
}

/// Gradients of a model so large that other frames hardly count.
struct Wide {
    has_local_steps: bool,
    gradient: Vec<f32>,
}

const WIDE_PARAMETERS: usize = 2000;
const WIDE_BYTES: f64 = 4.0 * WIDE_PARAMETERS as f64;

impl simulator::Gradients for Wide {
    type Begun = ();

    fn begin(&mut self, _: GradientName, _: Arc<[f32]>) {}

    fn finish<R>(&mut self, (): (), take: impl FnOnce(&mut [f32], Outcome) -> R) -> R {
        self.gradient.fill(1e-6);
        let outcome = Outcome {
            samples: MINIBATCH as u32,
            loss_sum: 1.0,
        };
        take(&mut self.gradient, outcome)
    }

    fn local_optimizer(&self) -> Option<Box<dyn LocalOptimizer>> {
        self.has_local_steps
            .then(|| Box::new(AsItIs) as Box<dyn LocalOptimizer>)
    }
}

struct AsItIs;

impl LocalOptimizer for AsItIs {
    fn displace(&mut self, _: &[f32], _: &mut [f32], _: u32) {}
}

type WideWorld = simulator::World<Wide, Nobody>;

fn wide_world(config: Config) -> WideWorld {
    let gradients = Wide {
        has_local_steps: config.has_local_steps,
        gradient: vec![0.0; WIDE_PARAMETERS],
    };
    let model = vec![0.0; WIDE_PARAMETERS];
    simulator::World::new(1, config, model, Box::new(Sgd { rate: 0.1 }), gradients, Nobody)
}

#[test]
fn a_slow_link_is_busy_for_its_share_of_the_time_and_its_ml_modules_never_wait() {
    for base in [config(), local_steps()] {
        for (bytes_per_second, communication_share) in [(20e3, 0.5), (20e3, 0.2), (40e3, 0.1)] {
            let config = Config {
                communication_share,
                max_period: Duration::from_secs(10),
                ..base.clone()
            };
            let mut world = wide_world(config);
            let tab = world.join(link_of(bytes_per_second));
            world.run_until(seconds(30));
            let before = world.stats();
            world.run_until(seconds(130));
            let after = world.stats();
            let bytes = (after.bytes_up + after.bytes_down) - (before.bytes_up + before.bytes_down);
            let busy = bytes as f64 / bytes_per_second / 100.0;
            let what = format!("a share of {communication_share} of {bytes_per_second} bytes/s: {busy}");
            assert!(busy < 1.15 * communication_share, "{what}");
            assert!(busy > 0.6 * communication_share, "and it is used: {what}");
            assert!(world.tabs[tab].ml[0].waited == Duration::ZERO);
            world.pause(tab);
            world.run_for(Duration::from_secs(30));
            let stats = world.stats();
            assert_eq!((stats.accepted, stats.refused), (stats.computed, 0), "nothing is lost");
            assert!(stats.computed > 20_000 * MINIBATCH);
        }
    }
}

#[test]
fn models_come_no_more_often_than_a_slow_links_period() {
    let mut world = World::new(1);
    let (_, slow) = (world.join(Machine::default()), world.join(link_of(500.0)));
    world.run_until(seconds(60));
    let period = status(&world, slow).period;
    let models: Vec<_> = world.observer.tabs[slow].models.iter().map(|(at, _)| *at).collect();
    let late: Vec<_> = models.into_iter().filter(|at| *at > seconds(20)).collect();
    let mean = seconds(60).since(late[0]) / late.len() as u32;
    assert!(mean > period.mul_f64(0.9), "every {mean:?}, at a period of {period:?}");
}

#[test]
fn a_link_that_is_far_away_but_wide_is_not_throttled() {
    for latency in [300, 900] {
        let mut world = World::new(1);
        let (near, far) = (
            world.join(Machine::default()),
            world.join(Machine {
                latency: ms(latency),
                ..Machine::default()
            }),
        );
        world.run_until(seconds(60));
        let (near, far) = (status(&world, near), status(&world, far));
        assert_eq!(far.period, near.period);
        assert!(far.round_trip >= ms(2 * latency) && far.round_trip < ms(2 * latency + 20));
        assert!(far.upload < ms(20) && far.download < ms(20), "{far:?}");
        assert!(near.round_trip < ms(40), "{near:?}");
    }
}

#[test]
fn a_slow_link_beside_them_changes_nothing_for_the_others() {
    let supersteps = |with_slow: bool| {
        let mut world = World::new(1);
        for _ in 0..4 {
            world.join(Machine::default());
        }
        if with_slow {
            world.join(link_of(300.0));
        }
        world.run_until(seconds(20));
        let before = (world.observer.closed.len(), world.central.totals().samples);
        world.run_until(seconds(60));
        let supersteps = world.observer.closed.len() - before.0;
        let samples = world.central.totals().samples - before.1;
        let period = status(&world, 0).period;
        if with_slow {
            let slow = status(&world, 4);
            assert!(slow.period > 2 * period, "{slow:?}");
            assert_eq!(
                settled(&world, 4) as u64 + unsettled(&world, 4),
                world.observer.tabs[4].added.len() as u64
            );
            assert!(settled(&world, 4) > 10_000, "{}", settled(&world, 4));
        }
        assert!((0..4).all(|tab| status(&world, tab).period == period));
        (supersteps as f64, samples as f64, period)
    };
    let (without, with) = (supersteps(false), supersteps(true));
    assert!(with.0 > 0.9 * without.0, "{with:?}, and {without:?} without it");
    // It brings a fifth of the samples, in contributions that are larger and fewer.
    assert!(with.1 > 1.15 * without.1, "{with:?}, and {without:?} without it");
    assert!(with.2 <= without.2.mul_f64(1.1), "{with:?}, and {without:?} without it");
}

/// Gradients of a tab that are not settled yet.
fn unsettled(world: &World, tab: usize) -> u64 {
    let added = &world.observer.tabs[tab].added;
    let session = world.tabs[tab].session.expect("it has joined");
    added.difference(&world.observer.ledger.of_session(session)).count() as u64
}

#[test]
fn nothing_of_a_slow_links_volunteer_is_lost_beside_fast_ones() {
    let mut world = World::new(1);
    for machine in [Machine::default(), link_of(400.0), Machine::default(), link_of(900.0)] {
        world.join(machine);
    }
    world.run_until(seconds(30));
    assert_nothing_is_lost(&mut world);
}

#[test]
fn a_volunteers_status_says_how_its_link_is() {
    let (up, down) = (20e3, 80e3);
    let machine = Machine {
        latency: ms(50),
        up_bytes_per_second: up,
        down_bytes_per_second: down,
        ..Machine::default()
    };
    let mut world = wide_world(config());
    world.join(machine);
    world.run_until(seconds(30));
    let status = world.central.volunteers(world.now).next().expect("it is connected");
    let is_near = |took: Duration, expected: f64| (0.8..1.2).contains(&(took.as_secs_f64() / expected));
    assert!(is_near(status.upload, WIDE_BYTES / up), "{status:?}");
    assert!(is_near(status.download, WIDE_BYTES / down), "{status:?}");
    assert!(is_near(status.round_trip, 0.1), "{status:?}");
    let shortest = (status.upload + status.download).as_secs_f64() / config().communication_share;
    assert!(is_near(status.period, shortest), "{status:?}");
}

#[test]
fn a_link_that_gets_faster_gets_the_runs_period_again() {
    let mut world = wide_world(config());
    let [fast, _] = [(); 2].map(|()| world.join(Machine::default()));
    let slow = world.join(link_of(20e3));
    world.run_until(seconds(30));
    assert!(status(&world, slow).period > 2 * status(&world, fast).period);
    world.tabs[slow].machine = Machine::default();
    world.run_until(seconds(60));
    assert_eq!(status(&world, slow).period, status(&world, fast).period);
}

#[test]
fn volunteers_on_slow_links_contribute_in_step() {
    let mut world = wide_world(config());
    let tabs = [(); 4].map(|()| world.join(link_of(20e3)));
    world.run_until(seconds(30));
    let (supersteps, samples) = (world.stats().supersteps, world.stats().in_model);
    let staleness_sum = world.stats().staleness_sum;
    let periods = tabs.map(|tab| status(&world, tab).period.as_secs_f64() / world.central.period().as_secs_f64());
    assert!(
        periods.iter().all(|of_runs| (0.9..1.1).contains(of_runs)),
        "{periods:?}"
    );
    world.run_until(seconds(90));
    let stats = world.stats();
    let supersteps = stats.supersteps - supersteps;
    let staleness = (stats.staleness_sum - staleness_sum) / (stats.in_model - samples) as f64;
    assert!(
        staleness < 0.7,
        "{staleness}: they compute while the model is on its way"
    );
    let interval = 60.0 / supersteps as f64;
    assert!(
        interval > world.central.period().as_secs_f64(),
        "{interval}: one superstep for all"
    );
}
