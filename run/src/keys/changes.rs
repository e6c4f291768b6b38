//! What it means that a key was changed for a run that goes on: a rule for each key, and the comparison of two run
//! files by them.

use serde_json::Value;

use super::KEYS;
use crate::run_file::RunFile;

/// A key whose value is not what it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedKey {
    /// The key, behind its table's name: `training.schedule.learning_rate`.
    pub key: String,
    /// What it was, as JSON; empty where it was not set.
    pub before: String,
    /// What it is; empty where it is not set any more.
    pub now: String,
    /// Whether a run goes on with it.
    pub is_allowed: bool,
    /// What that means for the run.
    pub meaning: &'static str,
}

/// What a change of a key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OnChange {
    /// The run goes on with the new value: this is what follows.
    GoesOn(&'static str),
    /// The run can't go on with another value: this is why.
    MustStay(&'static str),
    /// The run can't go on if one of the values is 0 and the other is not: this is why.
    NeitherZero(&'static str),
}
use OnChange::{GoesOn, MustStay, NeitherZero};

/// All keys of a table that no other rule of the table names.
const OTHERS: &[&str] = &[];
const OTHER_DATA: &str = "the model was trained on other samples";
const OTHER_MODEL: &str = "the parameters are those of another model";
const PLACE: &str = "only a place: the data in it is the same";
const NEXT_SUPERSTEP: &str = "from the next superstep on";
const VOLUNTEERS_KNOW: &str = "volunteers that stay were told the value when they joined";
const NEXT_EVALUATION: &str = "from the next evaluation on";

/// The rules: a table, its keys, and what a change of theirs means.
const RULES: &[(&str, &[&str], OnChange)] = &[
    ("", &["name"], GoesOn("the run keeps its folder's name")),
    (
        "",
        &["description"],
        GoesOn("volunteers that join are told the new one"),
    ),
    ("", &["seed"], MustStay("every gradient follows from it")),
    ("", &["target_accuracy", "target_loss"], GoesOn(NEXT_EVALUATION)),
    (
        "[dataset]",
        &["train_images", "train_labels", "test_images", "test_labels", "file"],
        GoesOn(PLACE),
    ),
    ("[dataset]", OTHERS, MustStay(OTHER_DATA)),
    ("[model]", OTHERS, MustStay(OTHER_MODEL)),
    ("[[model.layers]]", OTHERS, MustStay(OTHER_MODEL)),
    ("[training]", &["mode", "minibatch"], MustStay(VOLUNTEERS_KNOW)),
    (
        "[training]",
        &["contribution_codec", "model_codec"],
        MustStay("what volunteers hold and keep is encoded with it"),
    ),
    ("[training]", OTHERS, GoesOn(NEXT_SUPERSTEP)),
    ("[training.local_steps]", OTHERS, MustStay(VOLUNTEERS_KNOW)),
    (
        "[training.optimizer]",
        &["kind"],
        MustStay("what the one optimizer remembers is nothing to another"),
    ),
    (
        "[training.optimizer]",
        &["momentum"],
        NeitherZero("with momentum = 0 the optimizer remembers nothing"),
    ),
    ("[training.optimizer]", OTHERS, GoesOn(NEXT_SUPERSTEP)),
    (
        "[training.schedule]",
        OTHERS,
        GoesOn("from the next superstep on, by the samples since the run's start"),
    ),
    ("[evaluation]", OTHERS, GoesOn(NEXT_EVALUATION)),
    ("[checkpoints]", OTHERS, GoesOn("from the next checkpoint on")),
];

/// The run file as a run's folder keeps it, to be compared with: defaults are written out.
///
/// # Errors
/// None is known: every run file can be written as JSON.
pub fn as_json(run_file: &RunFile) -> Result<Value, serde_json::Error> {
    serde_json::to_value(run_file)
}

/// The keys whose values differ between two run files of [`as_json`].
pub fn changed_keys(before: &Value, now: &Value) -> Vec<ChangedKey> {
    let mut changed = Vec::new();
    compare(&mut Vec::new(), before, now, &mut changed);
    changed
}

/// Compares tables key by key, and everything else as a whole.
fn compare<'a>(path: &mut Vec<&'a str>, before: &'a Value, now: &'a Value, changed: &mut Vec<ChangedKey>) {
    if before == now {
        return;
    }
    let tables = [before, now].map(Value::as_object);
    let is_table = tables.iter().any(Option::is_some);
    let are_tables_or_missing = [before, now].iter().all(|value| value.is_object() || value.is_null());
    if !is_table || !are_tables_or_missing {
        changed.push(changed_key(path, before, now));
        return;
    }
    let mut names: Vec<&String> = tables.iter().flatten().flat_map(|table| table.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let [before, now] = [before, now].map(|table| table.get(name).unwrap_or(&Value::Null));
        path.push(name);
        compare(path, before, now, changed);
        path.pop();
    }
}

fn changed_key(path: &[&str], before: &Value, now: &Value) -> ChangedKey {
    let shown = |value: &Value| {
        if value.is_null() {
            String::new()
        } else {
            value.to_string()
        }
    };
    let is_zero = |value: &Value| value.as_f64().unwrap_or(0.0) == 0.0;
    let (is_allowed, meaning) = match rule_at(path) {
        GoesOn(meaning) => (true, meaning),
        NeitherZero(_) if is_zero(before) == is_zero(now) => (true, NEXT_SUPERSTEP),
        MustStay(meaning) | NeitherZero(meaning) => (false, meaning),
    };
    ChangedKey {
        key: path.join("."),
        before: shown(before),
        now: shown(now),
        is_allowed,
        meaning,
    }
}

/// The rule for the value at this path. A value within a key's own value, such as a setting of a local optimizer, is
/// that key's.
fn rule_at(path: &[&str]) -> OnChange {
    let keys = (0..path.len())
        .rev()
        .map(|length| (path[..length].join("."), path[length]));
    for (table, name) in keys {
        let headers = [format!("[{table}]"), format!("[[{table}.{name}]]")];
        let table = if table.is_empty() { "" } else { &headers[0] };
        if KEYS.iter().any(|key| key.table == table && key.name == name) {
            return rule(table, name).unwrap_or(MustStay("it is not known what it means"));
        }
        // A list of tables, compared as a whole.
        if KEYS.iter().any(|key| key.table == headers[1]) {
            return rule(&headers[1], "").unwrap_or(MustStay("it is not known what it means"));
        }
    }
    MustStay("this superstep does not know the key")
}

/// The rule for a key: that which names it, or that of the others of its table.
fn rule(table: &str, name: &str) -> Option<OnChange> {
    let of_table = || RULES.iter().filter(|rule| rule.0 == table);
    let named = of_table().find(|rule| rule.1.contains(&name));
    named
        .or_else(|| of_table().find(|rule| rule.1.is_empty()))
        .map(|rule| rule.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys that may be changed, and those that may not. A new key is to be decided on here.
    const MAY_CHANGE: &[&str] = &[
        "name",
        "description",
        "target_accuracy",
        "target_loss",
        "[dataset] train_images",
        "[dataset] train_labels",
        "[dataset] test_images",
        "[dataset] test_labels",
        "[dataset] file",
        "[training] backup_workers",
        "[training] communication_share",
        "[training] superstep_samples",
        "[training] quorum",
        "[training] min_period_ms",
        "[training] max_period_ms",
        "[training] max_staleness",
        "[training] staleness_exponent",
        "[training] clip",
        "[training] max_read_out_samples",
        "[training] lr_scaling",
        "[training] session_ttl_seconds",
        "[training] on_divergence",
        "[training.optimizer] nesterov",
        "[training.optimizer] weight_decay",
        "[training.optimizer] beta1",
        "[training.optimizer] beta2",
        "[training.optimizer] epsilon",
        "[training.schedule] kind",
        "[training.schedule] learning_rate",
        "[training.schedule] warmup_samples",
        "[training.schedule] total_samples",
        "[training.schedule] final_fraction",
        "[training.schedule] every_samples",
        "[training.schedule] factor",
        "[checkpoints] interval_seconds",
        "[checkpoints] keep",
        "[checkpoints] best",
        "[evaluation] interval_seconds",
        "[evaluation] samples",
    ];

    #[test]
    fn every_key_is_decided_on() {
        let mut may_change = Vec::new();
        for key in KEYS {
            match rule(key.table, key.name) {
                None => panic!("{} {}: nothing says what a change of it means", key.table, key.name),
                Some(GoesOn(_)) => may_change.push(format!("{} {}", key.table, key.name).trim().to_owned()),
                Some(_) => {}
            }
        }
        may_change.sort();
        may_change.dedup();
        let mut expected = MAY_CHANGE.to_vec();
        expected.sort();
        assert_eq!(may_change, expected);
    }

    #[test]
    fn every_rule_is_of_a_key() {
        for (table, names, _) in RULES {
            assert!(KEYS.iter().any(|key| key.table == *table), "{table}");
            for name in *names {
                assert!(
                    KEYS.iter().any(|key| key.table == *table && key.name == *name),
                    "{table} {name}"
                );
            }
        }
    }

    /// What is said when these lines of the embedded run are written differently.
    fn changes(replace: &[(&str, &str)]) -> Vec<ChangedKey> {
        let digits = include_str!("../../../runs/digits.toml");
        let mut changed = digits.to_owned();
        for (line, by) in replace {
            assert!(changed.contains(line), "{line}");
            changed = changed.replace(line, by);
        }
        let [before, now] = [digits, &changed].map(|text| {
            let run_file: RunFile = toml::from_str(text).unwrap();
            as_json(&run_file).unwrap()
        });
        changed_keys(&before, &now)
    }

    fn allowed(changes: &[ChangedKey]) -> Vec<(&str, bool)> {
        changes
            .iter()
            .map(|change| (&change.key[..], change.is_allowed))
            .collect()
    }

    #[test]
    fn an_unchanged_run_file_has_no_changes_whatever_its_order_and_comments() {
        assert_eq!(changes(&[]), []);
        assert_eq!(changes(&[("[training]\n", "[training]\n# as before\nclip = 3\n")]), []);
    }

    #[test]
    fn a_seed_a_layer_and_a_local_step_must_stay_and_a_schedule_may_change() {
        assert_eq!(allowed(&changes(&[("seed = 1", "seed = 2")])), [("seed", false)]);
        let layer = changes(&[("kind = \"relu\"", "kind = \"tanh\"")]);
        assert_eq!(allowed(&layer), [("model.layers", false)]);
        let steps = changes(&[(
            "[training.optimizer]",
            "[training.local_steps]\nlearning_rate = 0.1\n\n[training.optimizer]",
        )]);
        let expected = [
            ("training.local_steps.learning_rate", false),
            ("training.local_steps.optimizer.kind", false),
        ];
        assert!(
            expected.iter().all(|change| allowed(&steps).contains(change)),
            "{steps:?}"
        );
        assert!(
            steps
                .iter()
                .all(|change| !change.is_allowed && change.before.is_empty())
        );
        let evaluation = changes(&[
            ("interval_seconds = 1", "interval_seconds = 2.5"),
            ("[training]\n", "[training]\nclip = 4\n"),
        ]);
        let expected = [("evaluation.interval_seconds", true), ("training.clip", true)];
        assert_eq!(allowed(&evaluation), expected);
        assert_eq!((&evaluation[0].before[..], &evaluation[0].now[..]), ("1.0", "2.5"));
    }

    #[test]
    fn a_momentum_may_change_but_not_come_or_go() {
        let run = |momentum: f64| serde_json::json!({ "training": { "optimizer": { "momentum": momentum } } });
        let is_allowed = |before: f64, now: f64| changed_keys(&run(before), &run(now))[0].is_allowed;
        assert!(is_allowed(0.9, 0.5));
        assert!(!is_allowed(0.0, 0.5));
        assert!(!is_allowed(0.5, 0.0));
    }
}
