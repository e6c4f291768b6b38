//! A run with faults, drawn from its seed.

use std::time::Duration;

use bsp::central::{Config, ServerOptimizer, TokenKey};
use bsp::combine::Weighting;
use bsp::protocol::codec::Codec;
use bsp::protocol::message::{Mode, RunId};
use bsp::time::Time;
use simulator::disk::SimulatedDisk;
use simulator::random::Random;
use simulator::server::StorageSettings;
use simulator::{Machine, World};

use super::deeds;
use super::end;
use super::outcome::Outcome;
use super::watch::{Watch, check};
use crate::gradients::{Gradients, MINIBATCH, PARAMETERS, Sgd};

/// Faults happen until then.
pub(super) const FAULTS_END: Time = Time::from_micros(12_000_000);

/// A world of these tests.
pub(super) type FaultWorld = World<Gradients, Watch>;

/// The run of this seed, to its end. All invariants are checked after each event, and at the end.
pub(super) fn run(seed: u64) -> Outcome {
    let mut world = begun(seed);
    deeds::plan(&mut world);
    let_pass(&mut world, FAULTS_END);
    end::bring_to_rest(&mut world)
}

/// Lets time pass until `end`, and checks after each event.
pub(super) fn let_pass(world: &mut FaultWorld, end: Time) {
    while world.step(end) {
        check(world);
    }
    world.now = end;
}

/// The run of this seed, without faults yet.
fn begun(seed: u64) -> FaultWorld {
    let mut random = Random::stream(seed, 1);
    let (config, gradients) = settings(&mut random);
    let slow = random.chance(20);
    let storage = StorageSettings {
        keep: 1 + random.below(3) as usize,
        shortest_step: random.between_ms(0, 3),
        longest_step: random.between_ms(4, if slow { 700 } else { 60 }),
        optimizer: Box::new(|| Box::new(Sgd { rate: 0.1 }) as Box<dyn ServerOptimizer>),
    };
    let mut world = world(seed, config, gradients, storage);
    for _ in 0..=random.below(3) {
        let machine = machine(&mut random);
        world.join(machine);
    }
    world.random = random;
    world
}

/// A world that keeps its run on a disk.
pub(super) fn world(seed: u64, config: Config, gradients: Gradients, storage: StorageSettings) -> FaultWorld {
    let optimizer = (storage.optimizer)();
    let model = vec![0.0; PARAMETERS];
    let mut world = World::new(seed, config, model, optimizer, gradients, Watch::new());
    world.records_frames = true;
    world
        .keep_run_on(SimulatedDisk::default(), storage)
        .expect("an empty disk takes a run");
    world
}

/// The settings of a plain run.
pub(super) fn config() -> Config {
    Config {
        minibatch: MINIBATCH,
        max_staleness: 1000,
        session_ttl: Duration::from_secs(8),
        checkpoint_interval: Some(Duration::from_secs(1)),
        token_key: TokenKey([9; 32]),
        weighting: Weighting {
            staleness_exponent: 0.5,
            max_read_out_samples: 40 * MINIBATCH,
            clip: 0.0,
        },
        ..Config::new(RunId(77), 0x5bec)
    }
}

fn settings(random: &mut Random) -> (Config, Gradients) {
    let codecs = [Codec::F32, Codec::F32, Codec::F16, Codec::Int8, Codec::TopK];
    let mut codec = || codecs[random.below(codecs.len() as u64) as usize];
    let mut config = Config {
        contribution_codec: codec(),
        model_codec: codec(),
        ..config()
    };
    let mut gradients = Gradients::Quadratic;
    match random.below(10) {
        0 => config.mode = Mode::Lockstep,
        1 => {
            config.mode = Mode::Lockstep;
            config.backup_workers = 1;
        }
        2 => config.mode = Mode::Asynchronous,
        3 | 4 => {
            config.has_local_steps = true;
            gradients = Gradients::Descending;
        }
        _ => {}
    }
    if random.chance(20) {
        config.max_staleness = 1 + random.below(4);
    }
    config.superstep_samples = 32 << random.below(5);
    config.session_ttl = random.between_ms(1000, 10_000);
    config.checkpoint_interval = Some(random.between_ms(100, 4000));
    config.weighting.max_read_out_samples = MINIBATCH * (1 + random.below(60));
    (config, gradients)
}

pub(super) fn machine(random: &mut Random) -> Machine {
    let bytes_per_second = if random.chance(15) { 3e3 } else { 1e6 };
    Machine {
        ml_modules: 1 + random.below(2) as usize,
        step: random.between_ms(10, 80),
        latency: random.between_ms(1, 90),
        up_bytes_per_second: bytes_per_second,
        down_bytes_per_second: bytes_per_second,
        ..Machine::default()
    }
}
