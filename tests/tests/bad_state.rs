//! A run's folder that is damaged, another run's, or can't be used: one line says the file, what is wrong and the fix,
//! and nothing that lies there is removed or changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tests::native_volunteer::native_volunteer;
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};
use tests::state_folder::{CheckpointBytes, checkpoints, contents, copy};
use tests::wait::wait_until;

/// What a start writes, whatever it finds: who owns the run, which incarnation it is, and its history.
const WRITTEN_AT_A_START: [&str; 3] = ["owner.json", "newest.json", "history.sqlite"];

/// Digits with a hidden layer of this many outputs, and a checkpoint each half second.
fn run(hidden: u32) -> Result<RunText> {
    RunText::digits()?
        .with("outputs = 64", &format!("outputs = {hidden}"))?
        .with(
            "[evaluation]\n",
            "[checkpoints]\ninterval_seconds = 0.5\n\n[evaluation]\n",
        )
}

fn serve(state: &Path) -> Result<Serve> {
    Ok(Serve {
        run: Some(run(64)?),
        state: Some(state.to_owned()),
        ..Serve::default()
    })
}

/// A folder with a run of which nobody is left, and that has two checkpoints.
fn trained(hidden: u32) -> Result<TempDir> {
    let state = TempDir::new()?;
    let mut server = Serve {
        run: Some(run(hidden)?),
        ..serve(state.path())?
    }
    .start()?;
    let _volunteer = native_volunteer(server.url())?;
    let folder = state.path().join("digits");
    wait_until("two checkpoints", || Ok(checkpoints(&folder)?.len() >= 2))?;
    // Once the server has said so, newest.json names the last of them.
    wait_until("two checkpoints to be durable", || {
        Ok(whole(&server.status()?, "checkpoints")? >= 2)
    })?;
    server.kill()?;
    Ok(state)
}

/// A copy of the run, with its newest checkpoint, and that of before if `with_older`.
struct Copy {
    state: TempDir,
    newest: PathBuf,
}

impl Copy {
    fn of(trained: &TempDir, with_older: bool) -> Result<Copy> {
        let state = TempDir::new()?;
        let folder = state.path().join("digits");
        copy(&trained.path().join("digits"), &folder)?;
        let mut there = checkpoints(&folder)?;
        let newest = there.pop().context("a checkpoint")?;
        let stays = usize::from(with_older);
        for older in there.drain(..there.len() - stays) {
            fs::remove_file(older)?;
        }
        // Ledgers of before are removed with the next checkpoint, and rightly so.
        there.push(newest.clone());
        let of_checkpoint = |ledger: &str| {
            let name = format!("{}.superstep", ledger.replace("ledger", "checkpoint"));
            there.iter().any(|path| name_of(path) == name)
        };
        for name in contents(&folder)?.into_keys() {
            if name.starts_with("ledger-") && !of_checkpoint(&name) {
                fs::remove_file(folder.join(name))?;
            }
        }
        Ok(Copy { state, newest })
    }

    fn folder(&self) -> PathBuf {
        self.state.path().join("digits")
    }

    fn put(&self, newest: &CheckpointBytes) -> Result<()> {
        Ok(fs::write(&self.newest, newest.as_bytes())?)
    }

    /// The server ends at once with one line that has these words, and the folder is as it was.
    fn expect_refusal(&self, words: &[&str]) -> Result<()> {
        let before = contents(&self.folder())?;
        expect_one_line(serve(self.state.path())?, words)?;
        let mut after = contents(&self.folder())?;
        // Who has tried last.
        after.insert("owner.json".to_owned(), before["owner.json"].clone());
        ensure!(
            after.keys().eq(before.keys()),
            "{:?} is not {:?}",
            after.keys(),
            before.keys()
        );
        ensure!(after == before, "a file was changed");
        Ok(())
    }

    /// The server warns in one line that has these words, and goes on; all that was there still is.
    fn expect_warning(&self, words: &[&str]) -> Result<Server> {
        let before = contents(&self.folder())?;
        let mut server = serve(self.state.path())?.start()?;
        let log = server.log();
        let warnings: Vec<&String> = log.iter().filter(|line| line.contains(" WARN ")).collect();
        println!("{warnings:#?}");
        let is_said = |line: &&String| words.iter().all(|word| line.contains(word));
        ensure!(
            warnings.iter().filter(|line| is_said(line)).count() == 1,
            "{words:?}: {log:#?}"
        );
        ensure!(whole(&server.status()?, "incarnation")? == 2, "{}", server.status()?);
        server.stop()?;
        let after = contents(&self.folder())?;
        for (name, content) in before {
            let is_written = WRITTEN_AT_A_START.iter().any(|written| name.starts_with(written));
            ensure!(
                is_written || after.get(&name) == Some(&content),
                "{name} is gone, or another"
            );
        }
        Ok(server)
    }
}

fn expect_one_line(serve: Serve, words: &[&str]) -> Result<()> {
    let log = serve.start_in_vain()?;
    println!("{}", log.join("\n"));
    ensure!(log.len() == 1, "{log:#?}");
    for word in words {
        ensure!(log[0].contains(word), "{word:?} is not in {log:?}");
    }
    Ok(())
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[test]
fn an_only_checkpoint_that_is_damaged_another_runs_or_of_a_newer_format_is_named_and_nothing_is_touched() -> Result<()>
{
    let (own, other_run, other_model) = (trained(64)?, trained(64)?, trained(32)?);
    let copied = Copy::of(&own, false)?;
    let name = name_of(&copied.newest);
    let whole = CheckpointBytes::read(&copied.newest)?;
    let newest_of = |state: &TempDir| -> Result<CheckpointBytes> {
        let mut there = checkpoints(&state.path().join("digits"))?;
        CheckpointBytes::read(&there.pop().context("a checkpoint")?)
    };
    let length = whole.as_bytes().len();
    let cases = [
        (
            newest_of(&other_run)?,
            "of another run, which has the name \"digits\" too",
            "move it to the folder of its own run",
        ),
        (newest_of(&other_model)?, "of another ", ""),
        (
            whole.of_the_next_format()?,
            "has format 2, but this superstep reads format 1",
            "use the newer superstep that wrote it",
        ),
        (whole.cut_to(length / 2), "cut short", "put a whole copy in its place"),
        (whole.cut_to(10), "cut short", "put a whole copy in its place"),
        (whole.cut_to(0), "", "--fresh"),
        (
            whole.with_a_flipped_bit(0),
            "it is no checkpoint",
            "move it out of the folder",
        ),
        (
            whole.with_a_flipped_bit(20),
            "its header is damaged",
            "put a whole copy in its place",
        ),
    ];
    for (bytes, what, fix) in cases {
        copied.put(&bytes)?;
        copied.expect_refusal(&[name, what, fix, "--fresh"])?;
    }
    let parts = whole.parts()?;
    ensure!(parts.len() >= 9, "{parts:?}");
    for part in parts.iter().filter(|part| part.length > 0) {
        copied.put(&whole.with_a_flipped_bit(part.start + part.length / 2))?;
        let what = format!("its part \"{}\" is damaged", part.name);
        copied.expect_refusal(&[name, &what, "put a whole copy in its place"])?;
    }
    // What was damaged was whole.
    copied.put(&whole)?;
    serve(copied.state.path())?.start()?.status().map(drop)
}

#[test]
fn a_damaged_newest_checkpoint_is_passed_over_and_one_of_a_newer_format_is_not() -> Result<()> {
    let own = trained(64)?;
    let copied = Copy::of(&own, true)?;
    let whole = CheckpointBytes::read(&copied.newest)?;
    let name = name_of(&copied.newest);
    copied.put(&whole.of_the_next_format()?)?;
    // Going on without it would lose what it has.
    copied.expect_refusal(&[name, "has format 2"])?;
    copied.put(&whole.cut_to(1_000))?;
    copied.expect_warning(&[name, "cut short: 1000 of"]).map(drop)
}

#[test]
fn the_small_files_of_a_run_that_are_damaged_or_missing_are_named() -> Result<()> {
    let own = trained(64)?;
    let copied = Copy::of(&own, false)?;
    let identity = copied.folder().join("run.json");
    let whole = fs::read_to_string(&identity)?;
    fs::write(&identity, &whole[..whole.len() / 2])?;
    copied.expect_refusal(&["run.json: it is damaged", "put a copy in its place"])?;
    fs::write(&identity, whole.replace("\"format\": 1", "\"format\": 2"))?;
    copied.expect_refusal(&["run.json: it has format 2", "use the newer superstep that wrote it"])?;
    fs::remove_file(&identity)?;
    copied.expect_refusal(&["run.json: is missing beside checkpoints", "put it back"])?;
    fs::write(&identity, &whole)?;

    // Without its checkpoint. The server was killed, perhaps before newest.json named the last one.
    let newest: serde_json::Value = serde_json::from_slice(&fs::read(copied.folder().join("newest.json"))?)?;
    let named = newest["checkpoint"].as_str().context("a checkpoint")?;
    let (checkpoint, aside) = (
        CheckpointBytes::read(&copied.newest)?,
        copied.state.path().join("aside"),
    );
    fs::rename(&copied.newest, &aside)?;
    copied.expect_refusal(&[named, "is missing, though it was written", "put it back"])?;
    copied.put(&checkpoint)?;

    fs::write(copied.folder().join("newest.json"), "{")?;
    copied
        .expect_warning(&["newest.json: is damaged", "it is written anew"])
        .map(drop)
}

#[test]
fn a_corrupt_history_is_set_aside_and_named_and_the_run_goes_on() -> Result<()> {
    let own = trained(64)?;
    let copied = Copy::of(&own, true)?;
    let history = copied.folder().join("history.sqlite");
    for part in ["-wal", "-shm"] {
        let _ = fs::remove_file(copied.folder().join(format!("history.sqlite{part}")));
    }
    let nonsense = vec![0x5a; 10_000];
    fs::write(&history, &nonsense)?;
    copied.expect_warning(&["history.sqlite", ".corrupt-"])?;
    let after = contents(&copied.folder())?;
    let kept = after
        .iter()
        .find(|(name, _)| name.starts_with("history.sqlite.corrupt-"));
    ensure!(
        kept.is_some_and(|(_, content)| *content == nonsense),
        "{:?}",
        after.keys()
    );
    ensure!(
        after["history.sqlite"].starts_with(b"SQLite format 3"),
        "no new history"
    );
    Ok(())
}

#[test]
fn a_state_folder_that_is_a_file_or_without_rights_is_named() -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("state");
    fs::write(&file, "a file")?;
    expect_one_line(serve(&file)?, &["state", "Not a directory (os error 20)", "--state"])?;
    ensure!(fs::read(&file)? == b"a file", "the file was changed");
    fs::remove_file(&file)?;
    fs::create_dir(&file)?;
    fs::write(file.join("digits"), "a file")?;
    expect_one_line(serve(&file)?, &["digits", "--state"])?;

    // Nothing is forbidden to root, who becomes nobody then. All that nobody needs is where everybody may read.
    let is_root = is_root()?;
    let closed = directory.path().join("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777))?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(if is_root { 0o755 } else { 0o555 }))?;
    let nobody = r#"exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@""#;
    let serve = Serve {
        script: is_root.then_some(nobody),
        out: Some(directory.path().join("out")),
        state: Some(closed),
        ..Serve::default()
    };
    let words = [
        "closed/digits: can't be created: Permission denied (os error 13)",
        "give this user rights there",
    ];
    expect_one_line(serve, &words)
}

/// Whether this process may do all.
fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let uids = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .context("a user")?;
    Ok(uids.split_whitespace().nth(1) == Some("0"))
}
