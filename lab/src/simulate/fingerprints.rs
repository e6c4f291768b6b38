//! The safety net: the result of every scenario and every run of this repository, bit by bit.
//!
//! Each scenario is simulated at a reduced length, so that all of its variants fit into a test: supersteps are smaller,
//! and volunteers come and go within seconds instead of minutes. [`MATRIX`] adds the cases that no scenario has: each
//! codec in each direction, alone and with local steps, while tabs crash, leave and join. Each run of `runs/` is
//! trained for a few steps by the sequential baseline. `fingerprints.txt` beside this file holds all the results.
//!
//! A change that is meant to leave every result as it is must leave that file as it is. A change of a rule changes
//! lines of it, and the commit says why: the test prints the lines as they would be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use run::dataset::DatasetSpec;
use run::run_file::RunFile;

use super::tests::scenario_of;
use super::*;

/// The results on the machine on which this was written: a name and a fingerprint in each line.
const FINGERPRINTS: &str = include_str!("fingerprints.txt");

/// A reduced run ends with this many samples in the model.
const SAMPLES: u64 = 3_000;
/// Its supersteps aim at no more samples than this.
const SUPERSTEP_SAMPLES: u64 = 512;
/// Its volunteers stay, and are away, for times that are shorter by this factor than the scenario's.
const SHORTER: u32 = 100;
/// Steps of the sequential baseline of each run.
const STEPS: u64 = 4;

/// Every mode, every codec, local steps, and tabs that come and go in every way.
const MATRIX: &str = r#"
name = "matrix"
description = "Every mode and every codec, with local steps and without, while volunteers come and go."
run = "RUNS/digits.toml"
seed = 7
evaluate_every_samples = 100000

[stop]
samples = 6000

VARIANTS

[[volunteers]]
count = 3
ml_modules = 2
samples_per_second = 150
minibatch_overhead_samples = 0.5
sigma = 1.0
jitter = 0.3

[[volunteers]]
count = 2
samples_per_second = 200
cpu_percent = 50
uplink_mbit_per_second = 0.5
downlink_mbit_per_second = 1
latency_ms = 80

[[volunteers]]
count = 3
samples_per_second = 300
arrives_within_seconds = 3
mean_session_seconds = 3
mean_absence_seconds = 1
crash_share = 0.5
"#;

/// The matrix with a variant for each combination.
fn matrix() -> Scenario {
    let local = "superstep_samples = 512, local_steps = { learning_rate = 0.05 }";
    let adam = "superstep_samples = 512, local_steps = { learning_rate = 0.001, optimizer = { kind = \"adam\" } }";
    let clipped = "clip = 1.0, max_read_out_samples = 64, lr_scaling = \"square_root\"";
    let mut variants = vec![
        ("lockstep".to_owned(), "mode = \"lockstep\"".to_owned()),
        (
            "backup-workers".to_owned(),
            "mode = \"lockstep\", backup_workers = 2".to_owned(),
        ),
        ("asynchronous".to_owned(), "mode = \"asynchronous\"".to_owned()),
        (
            "stale".to_owned(),
            "max_staleness = 1, staleness_exponent = 0.5".to_owned(),
        ),
        ("clipped".to_owned(), clipped.to_owned()),
        (
            "large-minibatch".to_owned(),
            "minibatch = 64, lr_scaling = \"linear\"".to_owned(),
        ),
        ("local-adam".to_owned(), adam.to_owned()),
    ];
    for codec in ["f32", "f16", "int8", "top_k"] {
        for (mode, keys) in [("", ""), ("lockstep-", "mode = \"lockstep\", "), ("local-", local)] {
            let comma = if keys.is_empty() || keys.ends_with(' ') {
                ""
            } else {
                ", "
            };
            let codecs = |up, down| format!("{keys}{comma}contribution_codec = \"{up}\", model_codec = \"{down}\"");
            variants.push((format!("{mode}{codec}-up"), codecs(codec, "f32")));
            variants.push((format!("{mode}{codec}-down"), codecs("f32", codec)));
            variants.push((format!("{mode}{codec}-both"), codecs(codec, codec)));
        }
    }
    let variants = variants
        .iter()
        .map(|(name, keys)| format!("[[variants]]\nname = \"{name}\"\ntraining = {{ {keys} }}\n"));
    scenario_of(&MATRIX.replace("VARIANTS", &variants.collect::<String>()))
}

/// The scenario, short enough for a test.
fn reduced(scenario: Scenario) -> Scenario {
    let mut scenario = scenario;
    scenario.draws = 1;
    scenario.course.goal = None;
    scenario.course.evaluate_every_samples = u64::MAX;
    scenario.course.stop_samples = SAMPLES;
    for kind in &mut scenario.volunteers {
        if let Some(churn) = &mut kind.churn {
            churn.mean_session /= SHORTER;
            churn.mean_absence /= SHORTER;
        }
    }
    for variant in &mut scenario.variants {
        let training = &mut variant.run.training;
        training.superstep_samples = training.superstep_samples.min(SUPERSTEP_SAMPLES);
        training.min_period_ms = training.min_period_ms.min(500);
    }
    scenario
}

/// A scenario's run, with one held-out shard: another test checks evaluations. It takes the data of another run that
/// has the same.
fn small_run(run_file: RunFile, datasets: &mut Vec<(DatasetSpec, Run)>) -> Run {
    let spec = run_file.dataset.clone();
    if let Some((_, other)) = datasets.iter().find(|(other, _)| *other == spec) {
        let model = Arc::new(run_file.model_for(&other.dataset.format).unwrap());
        return Run {
            run_file,
            model,
            dataset: Arc::clone(&other.dataset),
        };
    }
    let mut run = Run::new(run_file).unwrap();
    Arc::get_mut(&mut run.dataset).unwrap().held_out.truncate(1);
    datasets.push((spec, run.clone()));
    run
}

/// A line for each variant.
fn lines_of(scenario: &Scenario, run: Run) -> BTreeMap<String, u64> {
    let finished = finish_on(run, scenario, 2).unwrap();
    let line = |one: FinishedRun| {
        let name = format!("scenario {} {}", scenario.name, scenario.variants[one.variant].name);
        (name, fingerprint(&[one]))
    };
    finished.into_iter().map(line).collect()
}

/// The files of a folder of this repository that end in `.toml`, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .collect();
    files.sort();
    files
}

/// Compares with the lines of `fingerprints.txt` that begin with `kind`, and prints what should stand there.
#[track_caller]
fn assert_unchanged(kind: &str, lines: &BTreeMap<String, u64>) {
    let text: String = lines
        .iter()
        .map(|(name, fingerprint)| format!("{name} {fingerprint:016x}\n"))
        .collect();
    let expected: String = FINGERPRINTS
        .lines()
        .filter(|line| line.starts_with(kind))
        .map(|line| format!("{line}\n"))
        .collect();
    let changed: Vec<_> = text
        .lines()
        .filter(|line| !expected.lines().any(|other| other == *line))
        .collect();
    assert!(
        text == expected,
        "changed: {changed:#?}\nall lines as they are now:\n{text}"
    );
}

#[test]
fn every_scenario_comes_to_the_same_bits_as_before() {
    let mut datasets = Vec::new();
    let mut lines = BTreeMap::new();
    let scenarios = files("scenarios")
        .into_iter()
        .map(|path| reduced(Scenario::load(&path).unwrap()));
    for scenario in scenarios.chain([matrix()]) {
        let run = small_run(scenario.run.clone(), &mut datasets);
        lines.append(&mut lines_of(&scenario, run));
    }
    assert_unchanged("scenario ", &lines);
}

#[test]
fn every_run_trains_to_the_same_bits_as_before() {
    let mut lines = BTreeMap::new();
    for path in files("runs") {
        let run = Run::load(Some(&path)).unwrap();
        let batch = 2 * run.run_file.training.minibatch as u64;
        let mut sequential = SequentialTraining::new(&run);
        for _ in 0..STEPS {
            sequential.step(batch).unwrap();
        }
        let fingerprint = fingerprint_of(sequential.parameters());
        lines.insert(format!("run {}", run.run_file.name), fingerprint.value());
    }
    assert_unchanged("run ", &lines);
}
