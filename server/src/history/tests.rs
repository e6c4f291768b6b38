//! The history over restarts, in files of SQLite.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

mod bounds;
mod damage;
mod failures;

/// A superstep of 100 samples, whose loss says which version it made.
fn closed(version: u64) -> ClosedSuperstep {
    ClosedSuperstep {
        version,
        contributions: 3,
        samples: 100,
        loss: 1.0 / version as f64,
        staleness: 0.5,
        weight: 1.0,
        open_for: Duration::from_millis(500),
    }
}

fn evaluation(version: u64) -> EvaluationPoint {
    EvaluationPoint {
        samples: 100 * version,
        elapsed_seconds: version as f64,
        version,
        accuracy: Some(0.5),
        loss: 1.0,
    }
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn stamp(incarnation: u32, version: u64) -> ModelStamp {
    ModelStamp { incarnation, version }
}

/// A server of this incarnation starts with this version.
fn start(path: &Path, incarnation: u32, version: u64) -> History {
    let mut history = History::open(Some(path));
    history.begin(Time::ZERO, stamp(incarnation, version), 100 * version);
    history
}

/// Supersteps close, one a second.
fn train(history: &mut History, versions: std::ops::RangeInclusive<u64>) {
    for (second, version) in versions.enumerate() {
        history.push_superstep(at(second as u64 + 1), &closed(version), 100 * version, 2);
    }
}

/// Waits until all is written.
fn written(history: &mut History) -> Curves {
    history.flush(Duration::from_secs(60));
    history.reader().curves()
}

fn samples(curves: &Curves) -> Vec<u64> {
    curves.loss.iter().map(|point| point.samples / 100).collect()
}

/// A number out of the file, as any tool for SQLite reads it.
fn number(path: &Path, sql: &str) -> f64 {
    let connection = Connection::open(path).unwrap();
    connection
        .query_row(&format!("SELECT CAST(({sql}) AS REAL)"), [], |row| row.get(0))
        .unwrap()
}

/// The names in a folder that begin with this one.
fn names_in(folder: &TempDir, beginning: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}

/// What is logged meanwhile, a line for each.
fn logged<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false);
    let result = tracing::subscriber::with_default(subscriber.finish(), work);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    (result, text.lines().map(str::to_owned).collect())
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.sqlite");
    (folder, path)
}

#[test]
fn curves_go_on_after_a_restart_and_so_does_the_time() {
    let (_folder, path) = folder();
    let mut history = start(&path, 1, 0);
    train(&mut history, 1..=10);
    history.push_evaluation(&evaluation(8));
    let before = written(&mut history);
    assert!(before.events.is_empty(), "the first start is no restart");
    drop(history);

    let mut history = start(&path, 2, 10);
    assert_eq!(history.last_evaluation(), Some(&evaluation(8)));
    assert_eq!(history.elapsed_seconds(at(5)), 15.0);
    train(&mut history, 11..=12);
    history.push_evaluation(&EvaluationPoint {
        elapsed_seconds: 2.0,
        ..evaluation(12)
    });
    let after = written(&mut history);
    assert_eq!(after.loss[..10], before.loss);
    assert_eq!(samples(&after), Vec::from_iter(1..=12));
    assert_eq!(after.loss[11].elapsed_seconds, 12.0);
    assert_eq!(after.eval, [evaluation(8), evaluation(12)]);
    let [restart] = &after.events[..] else {
        panic!("{:?}", after.events);
    };
    assert_eq!(
        (restart.kind, restart.samples, restart.elapsed_seconds),
        (EventKind::Restart, 1_000, 10.0)
    );
    assert_eq!(restart.detail, "goes on from version 10; 0 later versions are lost");
}

#[test]
fn versions_that_a_restart_has_lost_stay_in_the_file_and_are_in_no_curve() {
    let (_folder, path) = folder();
    let mut history = start(&path, 1, 0);
    train(&mut history, 1..=10);
    history.push_evaluation(&evaluation(6));
    history.push_evaluation(&evaluation(9));
    written(&mut history);
    drop(history);

    let mut history = start(&path, 2, 7);
    assert_eq!(
        history.last_evaluation(),
        Some(&evaluation(6)),
        "version 9 is not the model's past"
    );
    train(&mut history, 8..=8);
    let curves = written(&mut history);
    assert_eq!((samples(&curves), curves.eval.len()), (Vec::from_iter(1..=8), 1));
    assert_eq!(
        curves.events[0].detail,
        "goes on from version 7; 3 later versions are lost"
    );
    assert_eq!(
        number(&path, "SELECT count(*) FROM supersteps WHERE lost = 1 AND version > 7"),
        3.0
    );
    assert_eq!(
        number(
            &path,
            "SELECT incarnation FROM supersteps WHERE lost = 0 AND version = 8"
        ),
        2.0
    );
    drop(history);
    let curves = start(&path, 3, 8).reader().curves();
    assert_eq!(samples(&curves), Vec::from_iter(1..=8), "and so they stay");
}

#[test]
fn a_return_to_an_earlier_model_within_one_server_is_a_restart() {
    let (_folder, path) = folder();
    let mut history = start(&path, 1, 0);
    train(&mut history, 1..=5);
    history.push_evaluation(&evaluation(3));
    written(&mut history);
    history.begin(at(6), stamp(2, 2), 200);
    assert_eq!(history.last_evaluation(), None);
    train(&mut history, 3..=3);
    let curves = written(&mut history);
    assert_eq!(
        (samples(&curves), curves.eval.len(), curves.events.len()),
        (vec![1, 2, 3], 0, 1)
    );
}

#[test]
fn a_restart_that_a_later_one_went_back_behind_is_no_mark() {
    let mut history = History::open(None);
    history.begin(at(0), stamp(1, 0), 0);
    train(&mut history, 1..=9);
    for (incarnation, version) in [(2, 9), (3, 5), (4, 7), (5, 7)] {
        history.begin(at(10), stamp(incarnation, version), 100 * version);
        train(&mut history, version + 1..=9);
    }
    let marks = written(&mut history).events;
    assert!(marks.iter().map(|mark| mark.samples).eq([500, 700, 700]), "{marks:?}");
}

#[test]
fn a_row_says_all_that_is_known_of_a_superstep() {
    let (_folder, path) = folder();
    let mut history = start(&path, 1, 0);
    history.push_refused_contribution(at(1), SessionId(7), "contribution 3: too old".to_owned());
    train(&mut history, 1..=2);
    written(&mut history);
    let column = |name: &str| number(&path, &format!("SELECT {name} FROM supersteps WHERE version = 1"));
    let columns = [
        "samples",
        "loss",
        "samples_per_second",
        "volunteers",
        "staleness",
        "refused",
    ];
    assert_eq!(columns.map(column), [100.0, 1.0, 200.0, 2.0, 0.5, 1.0]);
    assert_eq!(number(&path, "SELECT refused FROM supersteps WHERE version = 2"), 0.0);
    let refused = "SELECT session FROM events WHERE kind = 'refused' AND detail = 'contribution 3: too old'";
    assert_eq!(number(&path, refused), 7.0);
    assert!(number(&path, "SELECT min(unix_seconds) FROM supersteps") > 1.7e9);
}

#[test]
fn what_is_no_number_comes_back_as_none() {
    let (_folder, path) = folder();
    let mut history = start(&path, 1, 0);
    history.push_superstep(
        at(1),
        &ClosedSuperstep {
            loss: f64::NAN,
            ..closed(1)
        },
        100,
        1,
    );
    history.push_evaluation(&EvaluationPoint {
        loss: f64::INFINITY,
        accuracy: None,
        ..evaluation(1)
    });
    written(&mut history);
    drop(history);
    let curves = start(&path, 2, 1).reader().curves();
    assert!(curves.loss[0].loss.is_nan() && curves.eval[0].loss.is_infinite());
    assert_eq!(
        serde_json::to_value(curves.loss[0]).unwrap()["loss"],
        serde_json::Value::Null
    );
}

#[test]
fn a_killed_server_loses_no_row_that_was_written() {
    let (folder, path) = folder();
    let mut history = start(&path, 1, 0);
    train(&mut history, 1..=10);
    written(&mut history);
    // A copy of what lies on the disk, without the end that a server gives its file.
    let copy = folder.path().join("copy.sqlite");
    for part in ["", "-wal"] {
        std::fs::copy(set_aside::with_end(&path, part), set_aside::with_end(&copy, part)).unwrap();
    }
    assert_eq!(samples(&start(&copy, 2, 10).reader().curves()), Vec::from_iter(1..=10));
}

#[test]
fn what_a_checkpoint_holds_is_in_the_file_at_once() {
    let (_folder, path) = folder();
    let mut history = start(&path, 1, 0);
    // A busy machine may be late. The second after which all is written may not be what a checkpoint waits for.
    let is_soon = (1..=50).any(|checkpoint| {
        written(&mut history);
        let began = Instant::now();
        train(&mut history, 10 * checkpoint - 9..=10 * checkpoint);
        history.push_event(at(11), EventKind::Checkpoint, None, String::new());
        while number(&path, "SELECT count(*) FROM events WHERE kind = 'checkpoint'") < checkpoint as f64 {
            assert!(began.elapsed() < Duration::from_secs(60), "it is never written");
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(
            number(&path, "SELECT count(*) FROM supersteps"),
            10.0 * checkpoint as f64
        );
        began.elapsed() < Duration::from_millis(500)
    });
    assert!(is_soon, "it waits for the next batch");
}

#[test]
fn without_a_file_the_history_is_in_memory() {
    let mut history = History::open(None);
    history.begin(Time::ZERO, stamp(1, 0), 0);
    train(&mut history, 1..=3);
    history.push_event(at(4), EventKind::Settings, None, "learning_rate".to_owned());
    let curves = written(&mut history);
    assert_eq!((samples(&curves), curves.events.len()), (vec![1, 2, 3], 1));
}

#[test]
fn a_long_detail_is_cut_where_a_letter_ends() {
    let history = History::open(None);
    let event = history.event(at(0), EventKind::Refused, None, "a".to_owned() + &"ü".repeat(1_000));
    assert_eq!(event.detail, "a".to_owned() + &"ü".repeat(119));
}
