//! A whole scenario, small: the digits, a few volunteers, two draws.

use std::path::Path;

use super::*;

const SCENARIO: &str = r#"
name = "small"
description = "Six volunteers; two of them come and go."
run = "RUNS/digits.toml"
seed = 3
draws = 2
evaluate_every_samples = 1000

[stop]
accuracy = 0.999
samples = 4000

[[variants]]
name = "ideal"
ideal = true

[[variants]]
name = "lockstep"
training = { mode = "lockstep" }

[[variants]]
name = "decoupled"

[[volunteers]]
count = 4
samples_per_second = 200
sigma = 1.0

[[volunteers]]
count = 2
samples_per_second = 200
mean_session_seconds = 2
mean_absence_seconds = 1
crash_share = 0.5
"#;

/// One variant more, with everything that computes with payloads.
const LOCAL_STEPS: &str = r#"
[[variants]]
name = "local-steps"
[variants.training]
superstep_samples = 512
contribution_codec = "int8"
model_codec = "f16"
local_steps = { learning_rate = 0.05 }
"#;

fn scenario() -> Scenario {
    scenario_of(SCENARIO)
}

pub(super) fn scenario_of(text: &str) -> Scenario {
    let runs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runs");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("small.toml");
    std::fs::write(&path, text.replace("RUNS", runs.to_str().unwrap())).unwrap();
    Scenario::load(&path).unwrap()
}

#[test]
fn a_scenario_gives_the_same_bits_tables_and_charts_on_any_number_of_threads() {
    let scenario = scenario();
    let reports = |threads| {
        let finished = finish(&scenario, threads).unwrap();
        assert_eq!(finished.len(), 6);
        (
            fingerprint(&finished),
            report::table(&scenario, &finished),
            report::csv(&scenario, &finished).unwrap(),
            chart::svg(&scenario, &finished).unwrap(),
        )
    };
    let one = reports(1);
    assert_eq!(reports(3), one);
    let (_, table, csv, svg) = one;
    assert_eq!(table.lines().count(), 3 + 2 + 3, "{table}");
    assert_eq!(String::from_utf8(csv).unwrap().lines().count(), 1 + 6);
    assert!(svg.contains("thousand samples in the model") && svg.contains("decoupled"));
}

/// The result on the machine on which this was written. Another number on another machine means that it computes other
/// bits. Another number here means that a rule has changed: then make the tables in `docs/simulations` again.
const FINGERPRINT: u64 = 0x7e70_9219_8c41_713f;

#[test]
fn a_scenario_gives_the_same_bits_on_every_machine() {
    let scenario = scenario_of(&format!("{SCENARIO}{LOCAL_STEPS}"));
    let fingerprint = fingerprint(&finish(&scenario, 2).unwrap());
    assert_eq!(fingerprint, FINGERPRINT, "{fingerprint:#018x}");
}

#[test]
fn each_variant_is_run_with_each_draw() {
    let finished = finish(&scenario(), 2).unwrap();
    let run = |variant, draw| {
        let one: Vec<_> = finished
            .iter()
            .filter(|one| (one.variant, one.draw) == (variant, draw))
            .collect();
        assert_eq!(one.len(), 1);
        one[0]
    };
    for variant in 0..3 {
        assert_ne!(run(variant, 1).end.fingerprint, run(variant, 2).end.fingerprint);
    }
    for draw in [1, 2] {
        assert!(run(0, draw).stats.is_none() && run(2, draw).end.samples >= 4000);
        assert!(run(1, draw).end.took > run(2, draw).end.took, "a barrier costs time");
    }
}

#[test]
fn a_run_that_limits_its_evaluations_limits_those_of_its_simulations() {
    let mut scenario = scenario();
    (scenario.draws, scenario.run.evaluation.samples) = (1, Some(10));
    for one in finish(&scenario, 2).unwrap() {
        let accuracies = one.points.iter().filter_map(|point| point.evaluated.accuracy);
        let right: Vec<f64> = accuracies.map(|accuracy| 10.0 * accuracy).collect();
        let is_of_ten = |right: &f64| (right - right.round()).abs() < 1e-9;
        assert!(!right.is_empty() && right.iter().all(is_of_ten), "{right:?}");
    }
}
