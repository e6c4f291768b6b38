//! The baseline: plain BSP.

use std::time::Duration;

use bsp::central::{Central, ConnectionId, ServerOptimizer};
use bsp::local::{Action, Local};
use bsp::ml_module::{Engine, MlModule, Outcome, Turn};
use bsp::protocol::message::{FromCentral, Mode, SessionId};
use bsp::shared_memory::shared_memory;
use bsp::time::Time;
use bytes::Bytes;

use super::gradients::{Gradients, Name, PARAMETERS, Sgd, samples};
use super::tab::{Machine, local_config};
use super::world::{World, config, ms, seconds};

pub(super) fn lockstep() -> bsp::central::Config {
    bsp::central::Config {
        mode: Mode::Lockstep,
        ..config()
    }
}

struct QuadraticEngine {
    session: SessionId,
}

impl Engine for QuadraticEngine {
    fn next_step(&mut self, step: u64) -> Option<u64> {
        Some(step)
    }

    fn gradient(&mut self, parameters: &[f32], step: u64, gradient: &mut [f32]) -> Outcome {
        let name = (self.session, 0, step);
        let loss_sum = Gradients::Quadratic.compute(name, parameters, gradient);
        Outcome {
            samples: samples(name),
            loss_sum,
        }
    }
}

/// One volunteer with one ML module and the central module, on a wire that needs 1 ms for everything.
struct Pair {
    now: Time,
    central: Central,
    local: Local,
    ml_module: MlModule<QuadraticEngine>,
    from_local: Vec<Action>,
}

impl Pair {
    /// Their link is open.
    fn new() -> Pair {
        let now = Time::ZERO;
        let (memory, mut sides) = shared_memory(PARAMETERS, 1);
        let mut local = Local::new(now, local_config(Mode::Lockstep), memory);
        let engine = QuadraticEngine { session: SessionId(1) };
        let optimizer = Box::new(Sgd { rate: 0.1 });
        let mut from_local = Vec::new();
        local.on_timeout(now, &mut from_local);
        assert_eq!(from_local, [Action::Connect]);
        from_local.clear();
        local.on_open(now, &mut from_local);
        Pair {
            now,
            central: Central::new(now, lockstep(), vec![0.0; PARAMETERS], optimizer),
            local,
            ml_module: MlModule::new(sides.remove(0), Mode::Lockstep, None, engine),
            from_local,
        }
    }

    /// Carries all frames up, then the answers down. Each model is computed on at once.
    fn exchange(&mut self) {
        self.now = self.now + ms(1);
        let mut from_central = Vec::new();
        for action in self.from_local.drain(..) {
            let frame = match action {
                Action::Send(frame) => frame,
                Action::SendContribution { sequence } => {
                    Bytes::copy_from_slice(self.local.contribution_frame(sequence).unwrap())
                }
                Action::SessionOpened(_) => continue,
                other => panic!("{other:?}"),
            };
            self.central
                .on_frame(self.now, ConnectionId(1), &frame, &mut from_central);
        }
        for action in from_central {
            let bsp::central::Action::Send { frame, .. } = action else {
                continue;
            };
            let is_model = matches!(FromCentral::decode(&frame).unwrap().message, FromCentral::StoreModel(_));
            self.local.on_frame(self.now, &frame, &mut self.from_local).unwrap();
            if is_model {
                assert_eq!(self.ml_module.turn(&mut || self.now), Turn::Computed);
            }
        }
    }
}

/// One step of plain SGD on `model`, along the gradient of this name.
fn plain_step(model: &mut [f32], name: Name) {
    let mut gradient = [0.0; PARAMETERS];
    Gradients::Quadratic.compute(name, model, &mut gradient);
    let scale = 1.0 / samples(name) as f32;
    Sgd { rate: 0.1 }.step(model, &gradient.map(|sum| sum * scale), 0, 1.0);
}

fn bits(model: &[f32]) -> Vec<u32> {
    model.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn in_lockstep_one_volunteer_with_one_ml_module_makes_exactly_the_models_of_a_plain_sgd_loop() {
    let mut pair = Pair::new();
    let mut plain = [0.0; PARAMETERS];
    let mut version = 0;
    while version < 300 {
        pair.exchange();
        if pair.central.stamp().version > version {
            plain_step(&mut plain, (SessionId(1), 0, version));
            version += 1;
            assert_eq!(pair.central.stamp().version, version, "one gradient, one version");
            assert_eq!(bits(pair.central.model()), bits(&plain), "version {version}");
        }
        pair.local.on_timeout(pair.now, &mut pair.from_local);
        assert!(pair.now < seconds(60), "the run is stuck at version {version}");
    }
    assert!((plain[0] - 3.0).abs() < 0.1, "and they learn");
}

#[test]
fn in_lockstep_the_simulated_run_makes_the_models_of_a_plain_sgd_loop_whatever_the_link_does() {
    let mut world = World::with(3, lockstep(), Gradients::Quadratic);
    let tab = world.join(Machine::default());
    for cut in 1..20 {
        world.at(Time::ZERO + ms(437) * cut, move |world| {
            world.cut(tab, Some(ms(3)), Some(ms(5)))
        });
    }
    world.run_until(seconds(30));
    let versions = world.central.stamp().version;
    assert!(versions > 300);
    let mut plain = [0.0; PARAMETERS];
    for step in 0..versions {
        // If the hello arrived and its welcome was lost, the session is a later one. Its steps count from 0 all the
        // same.
        plain_step(&mut plain, (world.tabs[tab].session.unwrap(), 0, step));
    }
    assert_eq!(world.model_bits(), bits(&plain));
}

#[test]
fn in_lockstep_everybody_is_waited_for() {
    let mut world = World::with(1, lockstep(), Gradients::Counting);
    for step in [ms(5), ms(30), ms(900)] {
        world.join(Machine {
            step,
            ..Machine::default()
        });
    }
    world.run_until(seconds(30));
    let supersteps: Vec<_> = world
        .observer
        .closed
        .iter()
        .filter(|(at, _)| *at > seconds(3))
        .collect();
    assert!(supersteps.len() >= 20);
    for (_, closed) in supersteps {
        assert_eq!((closed.contributions, closed.staleness), (3, 0.0));
        assert!(closed.open_for >= ms(900), "the slowest sets the pace");
    }
}

/// A minibatch of 100 ms at a third of the time lasts 300 ms, as long as one on the slow machine. A superstep takes
/// that time and the link's.
#[test]
fn in_lockstep_a_volunteer_of_some_duty_rests_while_it_waits() {
    let supersteps = |machine: Machine| {
        let mut world = World::with(1, lockstep(), Gradients::Counting);
        world.join(Machine::default());
        world.join(Machine {
            latency: ms(100),
            ..machine
        });
        world.run_until(seconds(3));
        let of_the_first_alone = world.stats().supersteps;
        world.run_until(seconds(63));
        (world.stats().supersteps - of_the_first_alone) as f64 / 60.0
    };
    let dutiful = Machine {
        step: ms(100),
        duty_percent: 33,
        ..Machine::default()
    };
    let slow = Machine {
        step: ms(300),
        ..Machine::default()
    };
    let (dutiful, slow) = (supersteps(dutiful), supersteps(slow));
    assert!((3.2..3.4).contains(&dutiful), "{dutiful} in a second");
    assert!((1.9..2.05).contains(&slow), "{slow} in a second");
}

#[test]
fn in_lockstep_each_ml_module_computes_one_minibatch_for_each_version() {
    let mut world = World::with(1, lockstep(), Gradients::Counting);
    let tab = world.join(Machine {
        ml_modules: 3,
        ..Machine::default()
    });
    world.run_until(seconds(10));
    let versions = world.central.stamp().version;
    assert!(versions > 200);
    assert_eq!(world.central.totals().gradients, 3 * versions);
    assert!(
        world.tabs[tab].ml[0].waited > Duration::from_secs(4),
        "the barrier is what the baseline waits for"
    );
}

#[test]
fn lockstep_does_not_wait_for_a_volunteer_that_has_paused_left_or_vanished() {
    let mut world = World::with(1, lockstep(), Gradients::Counting);
    let tabs: Vec<_> = (0..5).map(|_| world.join(Machine::default())).collect();
    world.run_until(seconds(2));
    world.pause(tabs[1]);
    world.leave(tabs[2]);
    world.crash(tabs[3]);
    world.with_local(tabs[4], |local, now, actions| {
        local.set_active_ml_modules(now, 0, actions)
    });
    world.run_until(seconds(4));
    let before = world.observer.closed.len();
    world.run_until(seconds(5));
    assert!(
        world.observer.closed.len() > before + 20,
        "the one that is left trains on"
    );
    assert!(
        world.observer.closed[before..]
            .iter()
            .all(|(_, closed)| closed.contributions == 1)
    );
    world.resume(tabs[1]);
    world.run_until(seconds(8));
    assert_eq!(world.observer.closed.last().unwrap().1.contributions, 2);
}

#[test]
fn in_lockstep_a_frozen_tab_holds_the_others_up_only_until_it_counts_as_absent() {
    let mut world = World::with(1, lockstep(), Gradients::Counting);
    let (_, frozen) = (world.join(Machine::default()), world.join(Machine::default()));
    world.run_until(seconds(2));
    world.freeze(frozen, Duration::from_secs(60));
    world.run_until(seconds(3));
    let before = world.observer.closed.len();
    world.run_until(seconds(11));
    assert!(world.observer.closed.len() <= before + 1);
    world.run_until(seconds(20));
    assert!(world.observer.closed.len() > before + 100);
    world.run_until(seconds(70));
    assert_eq!(world.observer.closed.last().unwrap().1.contributions, 2, "it is back");
}

#[test]
fn in_lockstep_a_volunteer_with_a_late_gradient_is_in_step_again_with_its_next() {
    let mut world = World::with(1, lockstep(), Gradients::Counting);
    let slow = Machine {
        step: Duration::from_secs(5),
        ..Machine::default()
    };
    let (_, frozen) = (world.join(slow), world.join(slow));
    world.run_until(seconds(12));
    // It counts as absent after ten seconds. Then the other volunteer's gradient makes a version.
    world.freeze(frozen, Duration::from_secs(14));
    world.run_until(seconds(80));
    let stale = |after: u64| {
        let closed = world.observer.closed.iter();
        let later = closed.filter(|(at, _)| *at > seconds(after));
        later.map(|(_, closed)| closed.staleness).collect::<Vec<_>>()
    };
    assert!(stale(12).iter().any(|staleness| *staleness > 0.0), "it came back late");
    let later = stale(50);
    assert!(
        later.len() >= 4 && later.iter().all(|staleness| *staleness == 0.0),
        "{later:?}"
    );
}

struct NotFiniteAtFirst(u32);

impl Engine for NotFiniteAtFirst {
    fn next_step(&mut self, step: u64) -> Option<u64> {
        Some(step)
    }

    fn gradient(&mut self, _: &[f32], _: u64, gradient: &mut [f32]) -> Outcome {
        gradient.fill(if self.0 > 0 { f32::NAN } else { 1.0 });
        self.0 = self.0.saturating_sub(1);
        Outcome {
            samples: 1,
            loss_sum: 1.0,
        }
    }
}

#[test]
fn in_lockstep_a_gradient_that_is_not_finite_is_computed_anew_from_the_next_minibatch_so_that_nobody_waits_for_ever() {
    let (mut memory, mut sides) = shared_memory(PARAMETERS, 1);
    let mut ml_module = MlModule::new(sides.remove(0), Mode::Lockstep, None, NotFiniteAtFirst(2));
    memory.publish(Default::default(), 0, |_, slot| slot.fill(0.0));
    let mut clock = || Time::ZERO;
    for _ in 0..3 {
        // A turn that waited for a publish would never end, since nothing is published any more. So a watchdog stops
        // it.
        assert_eq!(memory.progress(0).gradients, 0);
        let turned = std::thread::scope(|scope| {
            let turning = scope.spawn(|| ml_module.turn(&mut clock));
            let end = std::time::Instant::now() + Duration::from_secs(5);
            while !turning.is_finished() && std::time::Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            let stop = bsp::shared_memory::Control {
                state: bsp::shared_memory::State::Stop,
                duty_percent: 100,
            };
            if !turning.is_finished() {
                memory.set_control(0, stop);
            }
            turning.join().unwrap()
        });
        assert_eq!(turned, Turn::Computed);
    }
    assert_eq!((memory.progress(0).gradients, memory.progress(0).not_finite), (1, 2));
}
