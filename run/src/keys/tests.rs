//! The table in `runs/README.md` is that of the rows, and the rows are those of the types.

use super::*;
use crate::dataset::DatasetSpec;
use crate::run_file::{Checkpoints, Evaluation, Training};
use nn::optimizer::OptimizerSpec;
use nn::optimizer::schedule::ScheduleSpec;
use nn::{LayerSpec, ModelSpec};
use serde::Serialize;
use std::collections::BTreeSet;
use volunteer::local_steps::LocalSteps;

const README: &str = "../runs/README.md";
const BEFORE: &str = "## Every key\n\nKeys without a default must be there.\n\n";

/// All rows, as the file shows them.
fn markdown() -> String {
    let mut text = "| table | key | default | may be | meaning |\n|---|---|---|---|---|\n".to_owned();
    let mut before = None;
    for key in KEYS {
        let kinds = key.kinds.join(", ");
        let heading = match before {
            Some(before) if before == (key.table, key.kinds) => String::new(),
            Some((table, _)) if table == key.table => kinds,
            _ if key.table.is_empty() => "(top)".to_owned(),
            _ => format!("`{}` {kinds}", key.table).trim().to_owned(),
        };
        before = Some((key.table, key.kinds));
        let name = match key.name {
            "" => String::new(),
            name => format!("`{name}`"),
        };
        let default = match key.default {
            DefaultValue::Required => String::new(),
            DefaultValue::Is(text) if text.starts_with(['"', '[', '{']) => format!("`{text}`"),
            DefaultValue::Is(text) | DefaultValue::Follows(text) => text.to_owned(),
        };
        let cells = [heading, name, default, key.range.words(), key.meaning.to_owned()];
        text.push_str(&format!("| {} |\n", cells.join(" | ")).replace("  ", " "));
    }
    text
}

/// What the file says before its table, the table, and what comes behind it.
fn readme() -> [String; 3] {
    let text = std::fs::read_to_string(README).unwrap();
    let (before, rest) = text.split_once(BEFORE).unwrap();
    let (table, after) = rest.split_once("\n\n").unwrap();
    [format!("{before}{BEFORE}"), format!("{table}\n"), format!("\n{after}")]
}

#[test]
fn the_table_in_the_readme_is_that_of_the_rows() {
    let [_, table, _] = readme();
    assert_eq!(
        table,
        markdown(),
        "make it anew: cargo test --release -p run -- --ignored the_table_is_written_into_the_readme"
    );
}

#[test]
#[ignore = "writes runs/README.md"]
fn the_table_is_written_into_the_readme() {
    let [before, _, after] = readme();
    std::fs::write(README, [before, markdown(), after].concat()).unwrap();
}

/// The keys that a type names when it meets one that it does not know.
fn keys_of<T: DeserializeOwned>(text: &str) -> BTreeSet<String> {
    let said = toml::from_str::<T>(&format!("no_such_key = 1\n{text}"));
    let said = said.err().unwrap().message().to_owned();
    let (_, listed) = said.split_once("expected ").unwrap_or_default();
    let names = listed.split('`').skip(1).step_by(2).map(str::to_owned);
    names.collect()
}

fn rows_of(table: &str, kind: &str) -> BTreeSet<String> {
    let rows = KEYS.iter().filter(|key| key.is_of(table, kind) && !key.name.is_empty());
    rows.filter(|key| key.name != "kind")
        .map(|key| key.name.to_owned())
        .collect()
}

/// What a type makes of what is not set, against the rows.
fn check_defaults<T: DeserializeOwned + Serialize>(table: &str, text: &str) {
    let written = Table::try_from(toml::from_str::<T>(text).unwrap()).unwrap();
    let kind = written.get("kind").and_then(Value::as_str).unwrap_or_default();
    let set: Table = text.parse().unwrap();
    for key in KEYS
        .iter()
        .filter(|key| key.is_of(table, kind) && !set.contains_key(key.name))
    {
        let DefaultValue::Is(default) = key.default else {
            continue;
        };
        let default = format!("value = {default}").parse::<Table>().unwrap().remove("value");
        let number = |value: &Value| value.as_float().or(value.as_integer().map(|number| number as f64));
        let (is, row) = (written.get(key.name).unwrap(), default.unwrap());
        let is_the_same = match (is, &row) {
            (Value::Table(is), Value::Table(row)) => is.get("kind") == row.get("kind"),
            _ => *is == row || (number(is).is_some() && number(is) == number(&row)),
        };
        assert!(is_the_same, "{table} {kind} {}: {is}, but its row says {row}", key.name);
    }
}

const DATASETS: [&str; 4] = [
    "kind = 'digits'",
    "kind = 'idx'\ntrain_images = 'a'\ntrain_labels = 'b'\ntest_images = 'c'\ntest_labels = 'd'\nclasses = 2",
    "kind = 'text'\nfile = 'a'\npositions = 2",
    "kind = 'csv'\nfile = 'a'\ntargets = ['b']",
];
const OPTIMIZERS: [&str; 3] = ["kind = 'sgd'", "kind = 'adam'", "kind = 'adamw'"];
const TRAINING: &str = "[optimizer]\nkind = 'sgd'\n[schedule]\nkind = 'constant'\nlearning_rate = 1";
const MODEL: &str = "input = [1]\nlayers = []";
const LAYERS: [&str; 18] = [
    "kind = 'linear'\noutputs = 1",
    "kind = 'conv2d'\nfilters = 1\nkernel = 1",
    "kind = 'max_pool2d'\nsize = 1",
    "kind = 'avg_pool2d'\nsize = 1",
    "kind = 'group_norm'\ngroups = 1",
    "kind = 'dropout'\nshare = 0.5",
    "kind = 'residual'\nlayers = []",
    "kind = 'embedding'\ntokens = 1\nwidth = 1",
    "kind = 'causal_self_attention'\nheads = 1",
    "kind = 'patchify'\nsize = 1",
    "kind = 'flatten'",
    "kind = 'relu'",
    "kind = 'gelu'",
    "kind = 'tanh'",
    "kind = 'sigmoid'",
    "kind = 'layer_norm'",
    "kind = 'global_avg_pool'",
    "kind = 'positional_embedding'",
];

#[test]
fn every_key_of_a_run_file_has_its_row_and_its_default() {
    let kind = |text: &str| text.split('\'').nth(1).unwrap().to_owned();
    for text in DATASETS {
        assert_eq!(
            keys_of::<DatasetSpec>(text),
            rows_of("[dataset]", &kind(text)),
            "{text}"
        );
        check_defaults::<DatasetSpec>("[dataset]", text);
    }
    for text in OPTIMIZERS {
        assert_eq!(
            keys_of::<OptimizerSpec>(text),
            rows_of("[training.optimizer]", &kind(text)),
            "{text}"
        );
        check_defaults::<OptimizerSpec>("[training.optimizer]", text);
    }
    for text in LAYERS {
        assert_eq!(
            keys_of::<LayerSpec>(text),
            rows_of("[[model.layers]]", &kind(text)),
            "{text}"
        );
        check_defaults::<LayerSpec>("[[model.layers]]", text);
    }
    for text in [
        "kind = 'constant'\nlearning_rate = 1",
        "kind = 'cosine'\nlearning_rate = 1\ntotal_samples = 9",
        "kind = 'step'\nlearning_rate = 1\nevery_samples = 9\nfactor = 0.5",
    ] {
        check_defaults::<ScheduleSpec>("[training.schedule]", text);
    }
    let tables_beside = ["local_steps", "optimizer", "schedule"].map(str::to_owned);
    let training = rows_of("[training]", "").into_iter().chain(tables_beside).collect();
    assert_eq!(keys_of::<Training>(TRAINING), training);
    check_defaults::<Training>("[training]", TRAINING);
    assert_eq!(keys_of::<Evaluation>(""), rows_of("[evaluation]", ""));
    check_defaults::<Evaluation>("[evaluation]", "");
    assert_eq!(keys_of::<Checkpoints>(""), rows_of("[checkpoints]", ""));
    check_defaults::<Checkpoints>("[checkpoints]", "");
    assert_eq!(keys_of::<LocalSteps>(""), rows_of("[training.local_steps]", ""));
    check_defaults::<LocalSteps>("[training.local_steps]", "learning_rate = 1");
    let model = rows_of("[model]", "")
        .into_iter()
        .chain(["layers".to_owned()])
        .collect();
    assert_eq!(keys_of::<ModelSpec>(MODEL), model);
    check_defaults::<ModelSpec>("[model]", MODEL);
}

#[test]
fn a_range_has_the_numbers_that_its_words_say() {
    for (range, words, inside, outside) in [
        (
            Range::Whole(1, 9),
            "a number from 1 to 9",
            vec![1.0, 9.0],
            vec![0.0, 10.0],
        ),
        (Range::AtLeast(1), "1 or more", vec![1.0, 1e18], vec![0.0]),
        (
            Range::Number(0.5, 2.0),
            "a number from 0.5 to 2",
            vec![0.5, 2.0],
            vec![0.4, 2.1],
        ),
        (
            Range::Above(0.0, 1.0),
            "a number above 0, at most 1",
            vec![1e-9, 1.0],
            vec![0.0, 1.1],
        ),
        (
            Range::Above(0.0, f64::INFINITY),
            "a number above 0",
            vec![1e-9, 1e300],
            vec![0.0, f64::INFINITY],
        ),
        (
            Range::Below(0.0, 1.0),
            "a number from 0 to below 1",
            vec![0.0, 0.9],
            vec![1.0, -0.1],
        ),
        (
            Range::Between(0.0, 1.0),
            "a number above 0 and below 1",
            vec![0.5],
            vec![0.0, 1.0],
        ),
        (
            Range::NoneOr(1.0, 9.0),
            "0 for none, or a number from 1 to 9",
            vec![0.0, 1.0, 9.0],
            vec![0.5, 10.0],
        ),
    ] {
        assert_eq!(range.words(), words);
        assert!(inside.iter().all(|number| range.has(*number)), "{words}");
        assert!(
            outside.iter().chain([&f64::NAN]).all(|number| !range.has(*number)),
            "{words}"
        );
    }
}
