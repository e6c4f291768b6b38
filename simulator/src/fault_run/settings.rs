//! The settings of a run, its machines and its disk, drawn from its seed.

use std::time::Duration;

use bsp::central::{Config, ServerOptimizer, TokenKey};
use bsp::combine::Weighting;
use bsp::protocol::codec::Codec;
use bsp::protocol::message::{Mode, RunId};

use super::FaultWorld;
use super::watch::Watch;
use crate::disk::SimulatedDisk;
use crate::random::Random;
use crate::server::{StartError, StorageSettings};
use crate::small_model::{MINIBATCH, PARAMETERS, Sgd, SmallModel};
use crate::tab::Machine;
use crate::world::World;

/// The run of this seed, without faults yet.
pub(super) fn begun(seed: u64) -> FaultWorld {
    let mut random = Random::stream(seed, 1);
    let (config, gradients) = settings(&mut random);
    let slow = random.chance(20);
    let storage = StorageSettings {
        keep: 1 + random.below(3) as usize,
        shortest_step: random.between_ms(0, 3),
        longest_step: random.between_ms(4, if slow { 700 } else { 60 }),
        optimizer: Box::new(|| Box::new(Sgd { rate: 0.1 }) as Box<dyn ServerOptimizer>),
    };
    let mut world = match world(seed, config, gradients, storage) {
        Ok(world) => world,
        Err(error) => panic!("an empty disk takes a run: {error:?}"),
    };
    for _ in 0..=random.below(3) {
        let machine = machine(&mut random);
        world.join(machine);
    }
    world.random = random;
    world
}

/// A world that keeps its run on a disk that is empty, without volunteers yet.
///
/// # Errors
/// The run can't begin on it.
pub fn world(
    seed: u64,
    config: Config,
    gradients: SmallModel,
    storage: StorageSettings,
) -> Result<FaultWorld, StartError> {
    let optimizer = (storage.optimizer)();
    let model = vec![0.0; PARAMETERS];
    let mut world = World::new(seed, config, model, optimizer, gradients, Watch::new());
    world.records_frames = true;
    world.keep_run_on(SimulatedDisk::default(), storage)?;
    Ok(world)
}

/// The settings of a plain run.
pub fn config() -> Config {
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

fn settings(random: &mut Random) -> (Config, SmallModel) {
    let codecs = [Codec::F32, Codec::F32, Codec::F16, Codec::Int8, Codec::TopK];
    let mut codec = || codecs[random.below(codecs.len() as u64) as usize];
    let mut config = Config {
        contribution_codec: codec(),
        model_codec: codec(),
        ..config()
    };
    let mut gradients = SmallModel::Quadratic;
    match random.below(10) {
        0 => config.mode = Mode::Lockstep,
        1 => {
            config.mode = Mode::Lockstep;
            config.backup_workers = 1;
        }
        2 => config.mode = Mode::Asynchronous,
        3 | 4 => {
            config.has_local_steps = true;
            gradients = SmallModel::Descending;
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
