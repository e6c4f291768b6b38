//! A server that stops, or loses its disk, leaves its books in order: whatever a disk does, it ends in time and with
//! success, and what happened is in the run's history.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;
use tests::model::ModelFile;
use tests::native_volunteer::native_volunteer;
use tests::peer::Peer;
use tests::program::{output_of, superstep};
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};
use tests::wait::{PATIENCE, wait_until};

/// The digits run, whose last checkpoint lies in this folder.
fn run_folder(state: &TempDir) -> PathBuf {
    state.path().join("digits")
}

fn serve_in(state: &TempDir, run: RunText, port: u16) -> Result<Server> {
    let serve = Serve {
        port,
        state: Some(state.path().to_owned()),
        ..Serve::default()
    };
    serve.run(run).start()
}

/// A pipe that nobody reads, in the place of a file: whoever opens it to write waits for ever, as on a disk that does
/// not answer.
fn stall(file: &Path) -> Result<()> {
    let made = Command::new("mkfifo").arg(file).status()?;
    ensure!(made.success(), "{}: mkfifo ended with {made}", file.display());
    Ok(())
}

#[test]
fn a_server_whose_disk_stalls_closes_supersteps_and_ends_in_time_and_with_success() -> Result<()> {
    let state = TempDir::new()?;
    let run = RunText::digits()?.and("[checkpoints]\ninterval_seconds = 0.5");
    let mut server = serve_in(&state, run, 0)?;
    // Neither checkpoints nor the ledger behind the first of them can be written.
    for file in ["checkpoint.part", "ledger-1-1"] {
        stall(&run_folder(&state).join(file))?;
    }
    let _native = native_volunteer(server.url())?;
    // Its volunteer stops when it can keep no more that is not durable: some fifty contributions.
    wait_until("supersteps that wait for no disk", || Ok(server.version()? >= 5))?;
    ensure!(whole(&server.status()?, "checkpoints")? == 0, "{}", server.status()?);
    let began = Instant::now();
    let status = server.stop()?;
    ensure!(status.success(), "{status}: {:#?}", server.log());
    println!("it ended within {:?}", began.elapsed());
    let log = server.log();
    for said in [
        "the last checkpoint is not written in time",
        "the state's disk does not answer",
    ] {
        ensure!(log.iter().any(|line| line.contains(said)), "{said}: {log:#?}");
    }
    ensure!(server.out().join("model.safetensors").exists(), "no model");
    Ok(())
}

#[test]
fn a_run_without_checkpoints_that_was_stopped_is_listed_as_stopped() -> Result<()> {
    let state = TempDir::new()?;
    let run = RunText::digits()?.and("[checkpoints]\ninterval_seconds = 0");
    let mut server = serve_in(&state, run, 0)?;
    let _native = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    ensure!(listed_state(&state)? == "training", "{}", listed_state(&state)?);
    ensure!(server.stop()?.success(), "{:#?}", server.log());
    ensure!(listed_state(&state)? == "stopped", "{}", listed_state(&state)?);
    Ok(())
}

/// What `superstep runs` says of the only run.
fn listed_state(state: &TempDir) -> Result<String> {
    let mut runs = superstep();
    runs.arg("runs").arg(state.path()).arg("--json");
    let listed: Value = serde_json::from_slice(&output_of(runs)?.stdout)?;
    let word = listed[0]["state"].as_str().context("a state")?;
    Ok(word.to_owned())
}

#[test]
fn the_history_has_each_kind_of_event_and_keeps_it_over_a_restart() -> Result<()> {
    let state = TempDir::new()?;
    let run = RunText::digits()?.and("[checkpoints]\ninterval_seconds = 0.3");
    let mut server = serve_in(&state, run.clone(), 0)?;
    let native = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    wait_for_event(&state, "begin", "")?;
    wait_for_event(&state, "joined", "")?;
    wait_for_event(&state, "checkpoint", " bytes")?;
    // A folder in the place of the unfinished file: nothing can be written, and then it can again.
    let in_the_way = run_folder(&state).join("checkpoint.part");
    wait_until("a folder in the way", || Ok(std::fs::create_dir(&in_the_way).is_ok()))?;
    wait_for_event(&state, "checkpoint", "could not be written: ")?;
    std::fs::remove_dir(&in_the_way)?;
    wait_for_event(&state, "checkpoint", "written again")?;
    // A peer whose frame is none.
    let mut stranger = Peer::connect(&server)?;
    stranger.send(tokio_tungstenite::tungstenite::Message::binary(vec![255; 3]))?;
    wait_for_event(&state, "refused", "")?;
    drop(native);
    wait_for_event(&state, "left", "")?;
    ensure!(server.stop()?.success(), "{:#?}", server.log());

    let slower = run.with("learning_rate = 0.003", "learning_rate = 0.002")?;
    let _server = serve_in(&state, slower, server.address().port())?;
    wait_for_event(&state, "restart", "")?;
    wait_for_event(&state, "settings", "training.schedule.learning_rate: 0.003 → 0.002")?;
    for kind in ["joined", "checkpoint", "refused", "left"] {
        wait_for_event(&state, kind, "")?;
    }
    Ok(())
}

/// Waits for an event of this kind whose detail has this in it, in the run's history as any tool for SQLite reads it.
fn wait_for_event(state: &TempDir, kind: &str, detail: &str) -> Result<()> {
    let path = run_folder(state).join("history.sqlite");
    wait_until(&format!("an event {kind:?} with {detail:?}"), || {
        let history = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        history.busy_timeout(PATIENCE)?;
        let mut query =
            history.prepare("SELECT 1 FROM events WHERE kind = ?1 AND (?2 = '' OR instr(detail, ?2) > 0)")?;
        Ok(query.exists([kind, detail])?)
    })
}

#[test]
fn the_best_model_lies_beside_the_last_one_and_can_be_evaluated() -> Result<()> {
    let state = TempDir::new()?;
    let mut server = serve_in(&state, RunText::digits()?, 0)?;
    let _native = native_volunteer(server.url())?;
    wait_until("an evaluation", || Ok(server.status()?["eval"].is_object()))?;
    let evaluated = whole(&server.status()?["eval"], "version")?;
    wait_until("a version after it", || Ok(server.version()? > evaluated))?;
    ensure!(server.stop()?.success(), "{:#?}", server.log());
    let best = server.out().join("best.safetensors");
    let file = std::fs::read(&best).with_context(|| format!("{:#?}", server.log()))?;
    ensure!(ModelFile::read(&file)?.is_finite(), "the best model is not finite");
    ensure!(
        file != std::fs::read(server.out().join("model.safetensors"))?,
        "it is the last model"
    );
    let mut evaluate = superstep();
    evaluate.arg("evaluate").arg(&best);
    let output = output_of(evaluate)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
