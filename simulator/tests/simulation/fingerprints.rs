//! The safety net: every frame of many runs with faults, by its bytes and its instant.
//!
//! `fingerprints.txt` beside this file holds the results of the runs of each kind. A change that is meant to leave
//! every decision as it is must leave that file as it is. A change of a rule, or of what travels, changes lines of it,
//! and the commit says why: the test prints the lines as they would be.

use bsp::central::Config;
use bsp::protocol::codec::Codec;
use bsp::protocol::message::Mode;
use simulator::random::Fingerprint;

use super::baselines::asynchronous;
use super::codecs::encoded;
use super::exactly_once::run_with;
use super::gradients::Gradients;
use super::local_steps::local_steps;
use super::world::config;

/// The results on the machine on which this was written: a name and a fingerprint in each line.
const FINGERPRINTS: &str = include_str!("fingerprints.txt");
/// Runs of each kind.
const SEEDS: u64 = 24;

#[test]
fn every_frame_of_the_runs_with_faults_is_the_same_as_before() {
    let lockstep = |backup_workers| Config {
        mode: Mode::Lockstep,
        backup_workers,
        ..config()
    };
    let mut kinds = vec![
        ("counting".to_owned(), config(), Gradients::Counting),
        ("quadratic".to_owned(), config(), Gradients::Quadratic),
        ("lockstep".to_owned(), lockstep(0), Gradients::Quadratic),
        ("backup-workers".to_owned(), lockstep(1), Gradients::Quadratic),
        ("asynchronous".to_owned(), asynchronous(), Gradients::Counting),
        ("local-steps".to_owned(), local_steps(), Gradients::Descending),
    ];
    for codec in [Codec::F16, Codec::Int8, Codec::TopK] {
        kinds.push((format!("{codec:?}"), encoded(codec, config()), Gradients::Quadratic));
        kinds.push((
            format!("local-steps-{codec:?}"),
            encoded(codec, local_steps()),
            Gradients::Descending,
        ));
    }
    let mut text = String::new();
    for (name, config, gradients) in kinds {
        let mut all = Fingerprint::default();
        for seed in 0..SEEDS {
            let world = run_with(seed, config.clone(), gradients);
            all.add(world.observer.fingerprint);
            all.add_model(world.central.model());
            for (at, closed) in &world.observer.closed {
                all.add(at.as_micros());
                all.add(closed.samples);
                all.add_f64(closed.loss);
                all.add_f64(closed.staleness);
                all.add_f64(closed.weight);
                all.add(closed.open_for.as_micros() as u64);
            }
        }
        text += &format!("{name} {:016x}\n", all.value());
    }
    assert!(text == FINGERPRINTS, "the lines as they are now:\n{text}");
}
