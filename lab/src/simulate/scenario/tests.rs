//! An error in a scenario gives one line that names the place and the fix.

use super::*;
use bsp::protocol::message::Mode;
use nn::optimizer::OptimizerSpec;
use std::collections::{BTreeMap, BTreeSet};

const SCENARIO: &str = r#"
name = "mine"
description = "Looks at something."
run = "run.toml"
seed = 1

[stop]
accuracy = 0.9
samples = 1000

[[variants]]
name = "lockstep"
training = { mode = "lockstep" }

[[volunteers]]
count = 3
samples_per_second = 300
"#;

/// What comes of a scenario beside the run of digits.
fn load(text: &str) -> Result<Scenario, String> {
    let directory = tempfile::tempdir().unwrap();
    let run = include_str!("../../../../runs/digits.toml");
    std::fs::write(directory.path().join("run.toml"), run).unwrap();
    let path = directory.path().join("mine.toml");
    std::fs::write(&path, text).unwrap();
    Scenario::load(&path).map_err(|error| {
        let error = error.to_string().replace(directory.path().to_str().unwrap(), "");
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    })
}

/// The scenario with `old`, which it has, replaced by `new`.
fn with(old: &str, new: &str) -> Result<Scenario, String> {
    assert!(SCENARIO.contains(old), "{old}");
    load(&SCENARIO.replace(old, new))
}

#[track_caller]
fn assert_refused(old: &str, new: &str, message: &str) {
    match with(old, new) {
        Ok(_) => panic!("{new} is taken"),
        Err(error) => assert_eq!(error, message),
    }
}

#[test]
fn a_variant_is_the_run_with_its_keys_over_the_runs_own() {
    let keys = r#"{ mode = "lockstep", optimizer = { nesterov = true }, schedule = { learning_rate = 0.5 } }"#;
    let scenario = with(r#"{ mode = "lockstep" }"#, keys).unwrap();
    let (variant, own) = (&scenario.variants[0].run.training, &scenario.run.training);
    assert_eq!((variant.mode, own.mode), (Mode::Lockstep, Mode::Decoupled));
    assert_ne!(variant.optimizer, own.optimizer);
    assert_eq!(variant.minibatch, own.minibatch, "what it does not name stays");
    assert_eq!(variant.schedule.at(0), 0.5);
    assert_eq!((scenario.draws, scenario.course.evaluate_every_samples), (1, 10_000));
}

#[test]
fn an_optimizer_of_another_kind_takes_nothing_from_the_runs_own() {
    let scenario = with(
        r#"{ mode = "lockstep" }"#,
        r#"{ optimizer = { kind = "sgd", momentum = 0.9 } }"#,
    )
    .unwrap();
    let optimizer = &scenario.variants[0].run.training.optimizer;
    assert!(matches!(optimizer, OptimizerSpec::Sgd { .. }), "{optimizer:?}");
}

#[test]
fn a_key_that_makes_no_sense_is_named_with_its_table_and_the_fix() {
    let cases = [
        (
            "samples = 1000",
            "samples = 0",
            "[stop] samples = 0 is not allowed; set 1 or more",
        ),
        (
            "accuracy = 0.9",
            "accuracy = 90",
            "[stop] accuracy = 90 is not allowed; set a number above 0, at most 1",
        ),
        (
            "count = 3",
            "count = 0",
            "[[volunteers]] 1, count = 0 is not allowed; set a number from 1 to 10000, 10000 in all",
        ),
        (
            "samples_per_second = 300",
            "samples_per_second = 300\nsigma = -1",
            "[[volunteers]] 1, sigma = -1 is not allowed; set a number from 0 to 3",
        ),
        (
            "count = 3",
            "count = 3000\nml_modules = 4",
            "[[volunteers]] 1, ml_modules = 4 is not allowed; set a number from 1 to 3, 10000 of all volunteers",
        ),
        (
            "count = 3",
            "count = 3\nminibatch_overhead_samples = -1",
            "[[volunteers]] 1, minibatch_overhead_samples = -1 is not allowed; set a number from 0 to 1000000",
        ),
        (
            "count = 3",
            "count = 3\ncpu_percent = 0",
            "[[volunteers]] 1, cpu_percent = 0 is not allowed; set a number from 1 to 100",
        ),
        (
            "seed = 1",
            "seed = 1\ndraws = 0",
            "draws = 0 is not allowed; set a number from 1 to 1000",
        ),
        (
            r#"name = "lockstep""#,
            r#"name = "lock step""#,
            "[[variants]] 1, name = \"lock step\" is not allowed; set 1 to 64 letters, digits, - and _",
        ),
    ];
    for (old, new, message) in cases {
        assert_refused(old, new, &format!("/mine.toml: {message}"));
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let error = with("count = 3", "counts = 3").err().unwrap();
    assert!(
        error.starts_with("/mine.toml: line 16: unknown field `counts`"),
        "{error}"
    );
}

#[test]
fn a_key_under_the_name_that_it_had_before_is_named_with_its_new_one() {
    for (old, new) in RENAMED {
        let set = format!("count = 3\n{old} = 1");
        let message = format!("/mine.toml: line 17: the key {old} is called {new} now; rename it");
        assert_refused("count = 3", &set, &message);
        assert!(with("count = 3", &format!("count = 3\n{new} = 1")).is_ok(), "{new}");
    }
}

#[test]
fn what_a_variant_makes_of_the_run_is_checked_like_a_run_file() {
    let cases = [
        (
            "{ minibatch = 0 }",
            "[training] minibatch = 0 is not allowed; set a number from 1 to 4096",
        ),
        ("{ minibatches = 8 }", "[training] unknown field `minibatches`"),
        ("{ mode = \"lock\" }", "[training] unknown variant `lock`"),
    ];
    for (keys, message) in cases {
        let error = with(r#"{ mode = "lockstep" }"#, keys).err().unwrap();
        let expected = format!("/mine.toml: variant \"lockstep\": {message}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_scenario_without_variants_or_volunteers_or_with_two_of_a_name_is_refused() {
    let (head, volunteers) = SCENARIO.split_once("[[volunteers]]").unwrap();
    assert_eq!(
        load(head).err().unwrap(),
        "/mine.toml: there is no [[volunteers]]; add one"
    );
    let (head, _) = SCENARIO.split_once("[[variants]]").unwrap();
    let error = load(&format!("{head}[[volunteers]]{volunteers}")).err().unwrap();
    assert_eq!(error, "/mine.toml: there is no [[variants]]; add one");
    let twice = "[[variants]]\nname = \"lockstep\"\n\n[[volunteers]]";
    let message = "/mine.toml: two variants are called \"lockstep\"; give each a name of its own";
    assert_refused("[[volunteers]]", twice, message);
}

#[test]
fn two_aims_are_refused_and_a_run_that_is_missing_is_named() {
    let message = "/mine.toml: [stop] accuracy and loss are both set; a run has one aim: leave one out";
    assert_refused("accuracy = 0.9", "accuracy = 0.9\nloss = 1.0", message);
    let error = with("run.toml", "missing.toml").err().unwrap();
    assert!(error.starts_with("/missing.toml: can't be read"), "{error}");
}

#[test]
fn the_scenarios_that_come_with_the_program_are_scenarios() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios");
    let mut scenarios = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let scenario = Scenario::load(&path).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(path.file_stem().unwrap().to_str(), Some(&scenario.name[..]));
            scenarios += 1;
        }
    }
    assert!(scenarios >= 6);
}

const README: &str = include_str!("../../../../scenarios/README.md");

/// The keys of each table that the README explains: its rows have the table, the key, the default and the meaning.
fn explained() -> BTreeMap<String, BTreeSet<String>> {
    let (_, rest) = README.split_once("## Every key").unwrap();
    let (keys, _) = rest.split_once("## Every column").unwrap();
    let (mut tables, mut table) = (BTreeMap::<_, BTreeSet<_>>::new(), String::new());
    let rows = keys.lines().filter(|line| line.starts_with('|')).skip(2);
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        if !cells[1].is_empty() {
            cells[1].clone_into(&mut table);
        }
        tables.entry(table.clone()).or_default().insert(cells[2].to_owned());
    }
    tables
}

/// The keys that a table names when it meets one that it does not know.
fn keys_of<T: serde::de::DeserializeOwned>() -> BTreeSet<String> {
    let error = toml::from_str::<T>("no_such_key = 1").err().unwrap();
    let (_, listed) = error.message().split_once("expected ").unwrap();
    listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_key_of_a_scenario_is_explained_and_no_other() {
    let explained = explained();
    let mut top = keys_of::<File>();
    for table in ["stop", "variants", "volunteers"] {
        assert!(top.remove(table), "{table}");
    }
    assert_eq!(explained["(top)"], top);
    assert_eq!(explained["[stop]"], keys_of::<StopTable>());
    assert_eq!(explained["[[variants]]"], keys_of::<VariantTable>());
    assert_eq!(explained["[[volunteers]]"], keys_of::<VolunteersTable>());
}
