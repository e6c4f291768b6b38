//! Whole runs with real gradients: a small model, drawn volunteers, every kind of departure.

// Builders and checks outside of the test functions may fail as loudly as these.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::time::Duration;

use bsp::central::{Config, ServerOptimizer};
use bsp::combine::Weighting;
use bsp::protocol::message::{Mode, RunId};
use bsp::time::Time;
use nn::data::draw::draw;
use nn::data::minibatch::MinibatchBuffer;
use nn::data::sample_format::{ContentFormat, SampleFormat};
use nn::data::shard::Shard;
use nn::random::MinibatchKey;
use nn::{Model, ModelSpec};
use simulator::engine::{Engine, Task};
use simulator::random::{Fingerprint, Random};
use simulator::run::{Point, Stop, run};
use simulator::small_model::Sgd;
use simulator::volunteers::{Churn, Kind, populate};
use simulator::{Machine, Nobody, RunStats, World};

const MINIBATCH: usize = 8;
const INPUTS: usize = 6;
const SEED: u64 = 5;

const MODEL: &str = r#"
input = [6]
[[layers]]
kind = "linear"
outputs = 12
[[layers]]
kind = "relu"
[[layers]]
kind = "linear"
outputs = 2
"#;

/// Two classes that a line tells apart.
fn task() -> Task {
    let mut random = Random::new(SEED);
    let shard = |_| {
        let inputs: Vec<u8> = (0..64 * INPUTS).map(|_| random.below(256) as u8).collect();
        let label = |row: &[u8]| u8::from(u32::from(row[0]) + u32::from(row[1]) > 255);
        let labels = inputs.chunks_exact(INPUTS).map(label).collect();
        Shard::bytes(2, INPUTS, inputs, labels).unwrap()
    };
    let spec: ModelSpec = toml::from_str(MODEL).unwrap();
    Task {
        model: Arc::new(Model::new(&spec).unwrap()),
        format: SampleFormat {
            shape: vec![INPUTS],
            content: ContentFormat::Bytes {
                scale: 1.0 / 128.0,
                shift: -1.0,
                classes: 2,
            },
        },
        shards: (0..4).map(shard).collect(),
        run_seed: SEED,
        minibatch: MINIBATCH,
        local_steps: None,
    }
}

/// The learning rate.
const RATE: f32 = 0.3;

fn config(mode: Mode) -> Config {
    Config {
        mode,
        minibatch: MINIBATCH as u64,
        superstep_samples: 64,
        quorum: 0.75,
        min_period: Duration::from_millis(20),
        max_period: Duration::from_secs(10),
        max_staleness: 2,
        weighting: Weighting {
            staleness_exponent: 0.5,
            max_read_out_samples: 1024,
            // Lockstep equals the sequential baseline: it never clips.
            clip: if mode == Mode::Lockstep { 0.0 } else { 3.0 },
        },
        session_ttl: Duration::from_secs(600),
        max_sessions: 100,
        ..Config::new(RunId(1), 2)
    }
}

fn world(task: &Task, seed: u64, threads: usize, config: Config) -> World<Engine> {
    let model = task.model.initial_parameters(task.run_seed);
    let engine = Engine::new(task, threads).unwrap();
    World::new(seed, config, model, Box::new(Sgd { rate: RATE }), engine, Nobody)
}

/// Volunteers of different speeds on middling links.
fn kind(count: usize, churn: Option<Churn>) -> Kind {
    Kind {
        count,
        ml_modules: 2,
        samples_per_second: 100.0,
        overhead_samples: 0.0,
        sigma: 1.0,
        jitter: 0.2,
        duty_percent: 100,
        up_bits_per_second: 1e6,
        down_bits_per_second: 2e6,
        latency: Duration::from_millis(30),
        arrives_within: Duration::from_secs(1),
        churn,
    }
}

/// Volunteers that stay for a few seconds, half of which leave properly.
fn flighty(count: usize) -> Kind {
    let churn = Churn {
        mean_session: Duration::from_secs(4),
        mean_absence: Duration::from_secs(2),
        crash_share: 0.5,
    };
    kind(count, Some(churn))
}

/// The result of a run of 30 virtual seconds.
fn finished(seed: u64, threads: usize) -> (u64, Vec<Point<f64>>, RunStats) {
    let task = task();
    let mut world = world(&task, seed, threads, config(Mode::Decoupled));
    populate(&mut world, &[kind(6, None), flighty(6)]);
    let stop = Stop {
        samples: u64::MAX,
        at: Time::ZERO + Duration::from_secs(30),
    };
    // Something that depends on every bit.
    let norm = |model: &[f32]| {
        model
            .iter()
            .map(|parameter| f64::from(parameter * parameter))
            .sum::<f64>()
    };
    let points = run(&mut world, stop, 1000, norm, |_| false);
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_model(world.central.model());
    (fingerprint.value(), points, world.stats())
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() {
    let first = finished(1, 1);
    assert!(first.1.len() > 10 && first.2.supersteps > 100);
    assert_eq!(finished(1, 1), first);
    assert_eq!(finished(1, 2), first);
    assert_eq!(finished(1, 5), first);
    assert_ne!(finished(2, 1).0, first.0);
}

#[test]
fn every_sample_is_counted_once() {
    for seed in 0..10 {
        let (_, _, stats) = finished(seed, 2);
        assert_eq!(
            stats.computed,
            stats.accepted + stats.refused + stats.lost + stats.still_there
        );
        assert!(stats.in_model <= stats.accepted && stats.in_model > 10_000);
        assert!(stats.refused > 0 && stats.lost > 0, "{stats:?}");
        assert!((0.9..=1.0).contains(&stats.computing_share()), "{stats:?}");
        assert!((0.2..=1.0).contains(&stats.goodput()), "{stats:?}");
        assert!(stats.mean_weight() < 1.0 && stats.mean_staleness() > 0.0);
    }
}

#[test]
fn a_volunteer_with_a_duty_is_expected_to_compute_that_share() {
    let task = task();
    let mut world = world(&task, 1, 2, config(Mode::Decoupled));
    let part = Kind {
        duty_percent: 25,
        sigma: 0.0,
        ..kind(2, None)
    };
    populate(&mut world, &[part]);
    world.run_until(Time::ZERO + Duration::from_secs(60));
    let stats = world.stats();
    // Two volunteers of two ML modules of 100 samples a second, for a quarter of a minute.
    assert!((5_700.0..=6_000.0).contains(&stats.alone), "{stats:?}");
    assert!((0.9..=1.0).contains(&stats.goodput()), "{stats:?}");
}

#[test]
fn a_minibatch_takes_the_time_of_its_overhead_too() {
    let alone = |overhead_samples| {
        let task = task();
        let mut world = world(&task, 1, 2, config(Mode::Decoupled));
        let kind = Kind {
            overhead_samples,
            sigma: 0.0,
            jitter: 0.0,
            ..kind(1, None)
        };
        populate(&mut world, &[kind]);
        world.run_until(Time::ZERO + Duration::from_secs(20));
        let stats = world.stats();
        assert!((0.9..=1.0).contains(&stats.goodput()), "{stats:?}");
        stats.alone
    };
    let minibatch = config(Mode::Decoupled).minibatch as f64;
    let slower = alone(minibatch) / alone(0.0);
    assert!((slower - 0.5).abs() < 1e-3, "{slower}");
}

#[test]
fn however_fast_a_volunteer_is_time_goes_on() {
    let task = task();
    let mut world = world(&task, 1, 2, config(Mode::Decoupled));
    let kind = Kind {
        samples_per_second: 1e9,
        sigma: 0.0,
        jitter: 3.0,
        latency: Duration::ZERO,
        arrives_within: Duration::ZERO,
        ..kind(1, None)
    };
    populate(&mut world, &[kind]);
    world.run_until(Time::ZERO + Duration::from_millis(50));
    let stats = world.stats();
    assert!(stats.goodput() <= 1.0, "{stats:?}");
}

#[test]
fn one_volunteer_more_changes_no_other() {
    let machines = |count| -> Vec<Machine> {
        let task = task();
        let mut world = world(&task, 3, 1, config(Mode::Decoupled));
        populate(&mut world, &[kind(count, None), flighty(1)]);
        world.run_until(Time::ZERO + Duration::from_secs(1));
        world.tabs.iter().map(|tab| tab.machine).collect()
    };
    let (few, more) = (machines(4), machines(5));
    assert_eq!(more.len(), few.len() + 1);
    assert!(few.iter().all(|machine| more.contains(machine)));
}

#[test]
fn in_lockstep_one_volunteer_makes_the_models_of_the_sequential_baseline() {
    let task = task();
    let mut world = world(&task, 1, 2, config(Mode::Lockstep));
    world.join(Machine::default());
    world.run_until(Time::ZERO + Duration::from_secs(5));
    let versions = world.central.stamp().version;
    assert!(versions > 50);
    let mut model = task.model.initial_parameters(task.run_seed);
    let mut gradient = vec![0.0; model.len()];
    let mut scratch = task.model.scratch(MINIBATCH);
    let mut buffer = MinibatchBuffer::new(&task.format, MINIBATCH);
    for step in 0..versions {
        let key = MinibatchKey {
            run_seed: SEED,
            session: 1,
            ml_module: 0,
            step,
        };
        let minibatch = draw(&key, &task.shards, MINIBATCH, &mut buffer).unwrap();
        task.model.gradient(&model, &minibatch, &mut gradient, &mut scratch);
        let mean: Vec<f32> = gradient
            .iter()
            .map(|sum| sum * (1.0 / MINIBATCH as f64) as f32)
            .collect();
        Sgd { rate: RATE }.step(&mut model, &mean, 0, 1.0);
    }
    let bits = |model: &[f32]| model.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(world.central.model()), bits(&model));
}
