use std::fs;

use serde_json::json;

use super::*;
use bsp::central::OptimizerMemory;

use crate::checkpoint::tests::checkpoint;
use crate::identity::tests::identity;

/// Changes of `seed` are not allowed, all others are.
fn compare(before: &serde_json::Value, now: &serde_json::Value) -> Vec<Change> {
    let keys = ["seed", "learning_rate"]
        .into_iter()
        .filter(|key| before[key] != now[key]);
    let change = |key: &str| Change {
        key: key.to_owned(),
        before: before[key].to_string(),
        now: now[key].to_string(),
        is_allowed: key != "seed",
        meaning: "a test".to_owned(),
    };
    keys.map(change).collect()
}

fn wanted() -> Wanted {
    Wanted {
        run_file: json!({ "seed": 9, "learning_rate": 0.1 }),
        ..identity().run
    }
}

struct Start<'a> {
    state: &'a Path,
    wanted: Wanted,
    is_fresh: bool,
    fork: Option<&'a str>,
}

impl Start<'_> {
    fn of(state: &Path) -> Start<'_> {
        Start {
            state,
            wanted: wanted(),
            is_fresh: false,
            fork: None,
        }
    }

    fn open(&self) -> Result<OpenedFolder, OpenError> {
        Folder::open(&Options {
            state: self.state,
            wanted: &self.wanted,
            keep: 2,
            is_fresh: self.is_fresh,
            fork: self.fork,
            compare: &compare,
            adapt: &|checkpoint| {
                let other = std::mem::take(&mut checkpoint.trainer.optimizer);
                Some(format!("{} is left out", other.kind))
            },
        })
    }

    fn refused(&self) -> String {
        self.open().err().expect("refused").to_string()
    }
}

/// Opens the run, and writes one checkpoint.
fn serve_once(start: &Start<'_>) -> Checkpoint {
    let mut opened = start.open().expect("opens");
    let mut checkpoint = checkpoint();
    checkpoint.trainer.incarnation = opened.incarnation;
    let written = opened
        .folder
        .write(&checkpoint, Some(0.5), RunState::Training)
        .expect("writes");
    assert!(written.bytes > 500 && written.warnings.is_empty());
    checkpoint
}

#[test]
fn a_run_goes_on_with_its_checkpoint_its_key_and_what_is_awaited() {
    let state = tempfile::tempdir().expect("a folder");
    let start = Start::of(state.path());
    let mut first = start.open().expect("opens");
    assert_eq!((first.incarnation, &first.checkpoint), (1, &None));
    let contribution = Awaited {
        session: bsp::protocol::message::SessionId(77),
        sequence: 1,
        samples: 32,
    };
    first.ledger.append(contribution).expect("writes");
    let secrets = first.identity.secrets;
    drop(first);
    let second = start.open().expect("opens");
    assert_eq!((second.incarnation, second.awaited), (2, vec![contribution]));
    assert!(second.identity.secrets == secrets);
    drop(second.folder);
    let checkpoint = serve_once(&start);
    let fourth = start.open().expect("opens");
    assert_eq!((fourth.incarnation, fourth.checkpoint), (4, Some(checkpoint)));
    assert_eq!(fourth.awaited, []);
}

#[test]
fn a_run_is_owned_by_one_server() {
    let state = tempfile::tempdir().expect("a folder");
    let start = Start::of(state.path());
    let opened = start.open().expect("opens");
    assert!(start.refused().contains("has owned this run since"));
    drop(opened);
    assert!(start.open().is_ok());
}

#[cfg(unix)]
#[test]
fn only_its_owner_reads_the_key() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().expect("a folder");
    drop(Start::of(state.path()).open().expect("opens"));
    let metadata = fs::metadata(state.path().join("digits/run.json")).expect("it is there");
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_changed_run_file_is_told_and_what_must_stay_is_refused() {
    let state = tempfile::tempdir().expect("a folder");
    let mut start = Start::of(state.path());
    serve_once(&start);
    start.wanted.run_file["learning_rate"] = json!(0.2);
    let changes = start.open().expect("allowed").changes;
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].to_string(), "learning_rate: 0.1 → 0.2 (a test)");
    assert_eq!(start.open().expect("as it was").changes, []);
    start.wanted.run_file["seed"] = json!(10);
    start.wanted.seed = 10;
    let refused = start.refused();
    assert!(refused.contains("seed: 9 → 10 (a test); set it back, start a run of another name with --fork NEW_NAME"));
    start.wanted = wanted();
    start.wanted.data_hash = 1;
    assert!(start.refused().contains("other data"));
    start.wanted = wanted();
    start.wanted.spec_hash = 1;
    assert!(start.refused().contains("another model"));
}

#[test]
fn a_fresh_start_keeps_the_run_before_under_another_name() {
    let state = tempfile::tempdir().expect("a folder");
    let mut start = Start::of(state.path());
    serve_once(&start);
    start.is_fresh = true;
    for number in 1..=2 {
        let opened = start.open().expect("opens");
        assert_eq!((opened.incarnation, &opened.checkpoint), (1, &None));
        let kept = format!("digits.before-{number}");
        assert!(opened.warnings[0].contains(&kept), "{:?}", opened.warnings);
        assert!(state.path().join(kept).join("run.json").exists());
    }
    assert!(state.path().join("digits.before-1/checkpoint-1-3.superstep").exists());
}

#[test]
fn a_fork_goes_on_under_its_own_name_with_what_was_learned() {
    let state = tempfile::tempdir().expect("a folder");
    let mut start = Start::of(state.path());
    let checkpoint = serve_once(&start);
    start.wanted.seed = 10;
    start.wanted.run_file["seed"] = json!(10);
    start.fork = Some("digits-10");
    let opened = start.open().expect("opens");
    let mut adapted = checkpoint;
    adapted.trainer.optimizer = OptimizerMemory::default();
    assert_eq!(opened.checkpoint, Some(adapted));
    assert_eq!((opened.incarnation, &opened.identity.run.run[..]), (2, "digits-10"));
    assert_eq!(opened.warnings, ["moments is left out"]);
    drop(opened);
    // A restart with the same command goes on with the fork.
    let again = start.open().expect("opens");
    assert_eq!((again.incarnation, &again.warnings[..]), (3, &[][..]));
    drop(again);
    start.wanted.spec_hash = 1;
    start.fork = Some("another-model");
    let opened = start.open().expect("opens");
    assert_eq!((opened.incarnation, opened.checkpoint), (1, None));
    assert!(opened.warnings[0].contains("has another model; the fork begins anew"));
    start.fork = Some("../elsewhere");
    assert!(start.refused().starts_with("--fork ../elsewhere: a run's name has"));
}

#[test]
fn a_run_whose_name_was_changed_in_its_run_file_is_told_of_the_one_that_it_was() {
    let state = tempfile::tempdir().expect("a folder");
    let mut start = Start::of(state.path());
    serve_once(&start);
    start.wanted.run = "numerals".to_owned();
    let warnings = start.open().expect("opens").warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("run numerals begins anew, and run digits in the same place has its model")
            && warnings[0].contains("set name = \"digits\""),
        "{warnings:?}"
    );
    assert_eq!(start.open().expect("it has begun").warnings.len(), 0);
    start.wanted.run = "others".to_owned();
    start.wanted.seed = 10;
    assert_eq!(start.open().expect("opens").warnings.len(), 0, "another seed");
}

#[test]
fn what_can_not_be_read_is_named_with_its_fix_and_stays() {
    let state = tempfile::tempdir().expect("a folder");
    let start = Start::of(state.path());
    serve_once(&start);
    let folder = state.path().join("digits");
    let file = folder.join("checkpoint-1-3.superstep");
    let whole = fs::read(&file).expect("it is there");
    fs::write(&file, &whole[..500]).expect("writes");
    let refused = start.refused();
    assert!(refused.contains("none of its 1 checkpoints can be read") && refused.contains("cut short: 500 of"));
    fs::write(&file, [&whole[..8], &[2], &whole[9..]].concat()).expect("writes");
    assert!(start.refused().contains("header is damaged"));
    fs::remove_file(&file).expect("removes");
    assert!(
        start
            .refused()
            .contains("checkpoint-1-3.superstep: is missing, though it was written")
    );
    fs::write(&file, &whole).expect("writes");
    fs::rename(folder.join("run.json"), folder.join("elsewhere")).expect("renames");
    assert!(
        start
            .refused()
            .contains("run.json: is missing beside checkpoints; put it back")
    );
    fs::rename(folder.join("elsewhere"), folder.join("run.json")).expect("renames");
    assert!(start.open().is_ok());
}

#[test]
fn a_folder_that_vanishes_is_named() {
    let state = tempfile::tempdir().expect("a folder");
    let mut opened = Start::of(state.path()).open().expect("opens");
    fs::remove_dir_all(state.path().join("digits")).expect("removes");
    let error = opened
        .folder
        .write(&checkpoint(), None, RunState::Training)
        .expect_err("gone")
        .to_string();
    assert!(
        error.contains("digits/: can't be listed: No such file") && error.contains("put it back"),
        "{error}"
    );
}

#[test]
fn a_state_folder_that_is_a_file_is_named() {
    let state = tempfile::tempdir().expect("a folder");
    let file = state.path().join("file");
    fs::write(&file, "").expect("writes");
    let refused = Start::of(&file).refused();
    assert!(
        refused.contains("file/digits: can't be created: Not a directory"),
        "{refused}"
    );
}

#[test]
fn the_best_model_is_replaced_and_read() {
    let state = tempfile::tempdir().expect("a folder");
    let mut opened = Start::of(state.path()).open().expect("opens");
    assert_eq!(opened.folder.best(), Ok(None));
    let mut best = Best {
        version: 1,
        samples: 32,
        accuracy: Some(0.5),
        loss: 1.0,
        model: vec![0.5; 5],
    };
    for version in 1..3 {
        best.version = version;
        opened.folder.keep_best(&best).expect("writes");
        assert_eq!(opened.folder.best(), Ok(Some(best.clone())));
    }
    fs::write(state.path().join("digits/best.superstep"), "<html>").expect("writes");
    assert!(
        opened
            .folder
            .best()
            .expect_err("no model")
            .contains("best.superstep: it is no checkpoint")
    );
}

#[test]
fn a_run_goes_back_to_the_kept_checkpoint_of_the_least_loss_and_a_restart_goes_on_from_there() {
    let state = tempfile::tempdir().unwrap();
    let mut opened = Start::of(state.path()).open().unwrap();
    let losses = [Some(0.1), Some(0.2), Some(f64::INFINITY)];
    assert_eq!(opened.folder.best_checkpoint().unwrap(), None, "there is none yet");
    for (number, last_loss) in (1..).zip(losses) {
        let mut checkpoint = Checkpoint { number, ..checkpoint() };
        checkpoint.trainer.incarnation = 1;
        checkpoint.totals.last_loss = last_loss;
        opened.folder.write(&checkpoint, None, RunState::Training).unwrap();
    }
    // Two are kept: the first one, of the least loss, is no more.
    let mut best = opened.folder.best_checkpoint().unwrap().unwrap();
    assert_eq!(best.number, 2);
    assert_eq!(opened.folder.raise_incarnation().unwrap(), 2);
    (best.number, best.trainer.incarnation) = (0, 2);
    opened.folder.write(&best, None, RunState::Training).unwrap();
    // What is accepted from here on is noted behind it.
    let contribution = Awaited {
        session: bsp::protocol::message::SessionId(77),
        sequence: 1,
        samples: 32,
    };
    opened.ledger.rotate(Snapshot::of(&best));
    opened.ledger.append(contribution).unwrap();
    drop(opened);
    let again = Start::of(state.path()).open().unwrap();
    assert_eq!(
        (again.incarnation, again.checkpoint, again.awaited),
        (3, Some(best), vec![contribution])
    );
}

#[test]
fn a_crash_before_the_run_has_gone_back_uses_no_incarnation_twice() {
    let state = tempfile::tempdir().unwrap();
    let mut opened = Start::of(state.path()).open().unwrap();
    let mut checkpoint = checkpoint();
    checkpoint.trainer.incarnation = 1;
    opened.folder.write(&checkpoint, None, RunState::Training).unwrap();
    opened.folder.raise_incarnation().unwrap();
    drop(opened);
    let again = Start::of(state.path()).open().unwrap();
    assert_eq!((again.incarnation, again.checkpoint), (3, Some(checkpoint)));
}

#[test]
fn a_file_of_an_incarnation_that_cant_be_is_refused_in_one_line() {
    let state = tempfile::tempdir().unwrap();
    drop(Start::of(state.path()).open().unwrap());
    let run = state.path().join(wanted().run);
    fs::write(run.join("ledger-4294967295-0"), b"").unwrap();
    let said = Start::of(state.path()).refused();
    assert!(said.contains("incarnation 4294967295"), "{said}");
}

#[test]
fn a_run_does_not_go_back_to_its_beginning_because_its_checkpoints_cant_be_read() {
    let state = tempfile::tempdir().unwrap();
    let mut opened = Start::of(state.path()).open().unwrap();
    let mut checkpoint = checkpoint();
    checkpoint.trainer.incarnation = 1;
    opened.folder.write(&checkpoint, None, RunState::Training).unwrap();
    let file = opened.folder.path().join(Snapshot::of(&checkpoint).checkpoint_file());
    fs::write(file, b"damaged").unwrap();
    assert!(opened.folder.best_checkpoint().is_err());
}

/// A server whose folder is taken away, and the checkpoint that it has written before.
fn serve_and_lose_the_folder(state: &Path) -> (OpenedFolder, Checkpoint) {
    let mut opened = Start::of(state).open().expect("opens");
    let mut checkpoint = checkpoint();
    checkpoint.trainer.incarnation = opened.incarnation;
    let write = opened.folder.write(&checkpoint, None, RunState::Training);
    assert!(write.expect("writes").bytes > 500);
    fs::rename(opened.folder.path(), state.join("aside")).expect("renames");
    let error = opened.folder.write(&checkpoint, None, RunState::Training);
    let said = error.expect_err("no folder").to_string();
    assert!(
        said.contains("can't be listed: No such file") && said.contains("put it back"),
        "{said}"
    );
    assert!(!opened.folder.path().exists(), "a disk may be mounted there again");
    (opened, checkpoint)
}

#[test]
fn a_folder_that_comes_back_empty_is_this_runs_again_and_the_run_can_go_on() {
    let state = tempfile::tempdir().expect("a folder");
    let (mut opened, checkpoint) = serve_and_lose_the_folder(state.path());
    fs::create_dir(opened.folder.path()).expect("creates");
    let write = opened.folder.write(&checkpoint, None, RunState::Training);
    assert!(write.expect("writes").bytes > 500);
    assert!(Start::of(state.path()).refused().contains("has owned this run since"));
    let before = opened.identity;
    drop(opened.folder);
    let again = Start::of(state.path()).open().expect("opens");
    assert_eq!((again.incarnation, again.checkpoint), (2, Some(checkpoint)));
    assert_eq!(again.identity, before);
}

#[test]
fn a_folder_that_is_another_servers_or_another_runs_when_it_comes_back_is_left_to_it() {
    for is_served in [true, false] {
        let state = tempfile::tempdir().expect("a folder");
        let (mut opened, checkpoint) = serve_and_lose_the_folder(state.path());
        let other = Start::of(state.path()).open().expect("a new run");
        let other = is_served.then_some(other);
        let said = opened.folder.write(&checkpoint, None, RunState::Training);
        let said = said.expect_err("it is another's").to_string();
        let expected = if is_served {
            "owns the one that is there now"
        } else {
            "another run is there now"
        };
        assert!(said.contains(expected), "{said}");
        assert!(
            opened
                .folder
                .lost()
                .is_some_and(|line| line.ends_with("this server stops"))
        );
        let names = fs::read_dir(opened.folder.path()).expect("lists");
        let names = names
            .flatten()
            .map(|file| file.file_name().to_string_lossy().into_owned());
        assert!(
            !names.into_iter().any(|name| name.starts_with("checkpoint")),
            "it was written to"
        );
        drop(other);
    }
}
