//! The reader of the log, or of the results, goes away: lines are lost, and nothing else is.

use std::process::Command;

use anyhow::{Result, ensure};
use tests::native_volunteer::native_volunteer;
use tests::program::{Program, in_shell, output_of, superstep};
use tests::server::Serve;
use tests::wait::wait_for;

/// A server with such a log trains, and leaves its model when it is asked to stop.
fn expect_a_run_with_its_log(script: &'static str) -> Result<()> {
    let mut server = Serve {
        script: Some(script),
        ..Serve::default()
    }
    .start()?;
    let _native = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    let volunteer = server.volunteers()?[0];
    server.wait_for_more_of(volunteer.id)?;
    let status = server.stop()?;
    ensure!(status.success(), "{script}: the server ended with {status}");
    ensure!(server.out().join("model.safetensors").exists(), "{script}: no model");
    Ok(())
}

#[test]
fn a_run_survives_a_reader_of_its_log_that_goes_away() -> Result<()> {
    expect_a_run_with_its_log(r#"exec env RUST_LOG=debug "$@" 2> >(head -n 1 >&2)"#)
}

#[test]
fn a_run_survives_a_full_disk_behind_its_log() -> Result<()> {
    expect_a_run_with_its_log(r#"exec env RUST_LOG=debug "$@" 2>/dev/full"#)
}

#[test]
fn a_run_survives_a_log_that_was_closed_before() -> Result<()> {
    expect_a_run_with_its_log(r#"exec env RUST_LOG=debug "$@" 2>&-"#)
}

#[test]
fn a_run_does_not_wait_for_a_reader_of_its_log_that_stalls() -> Result<()> {
    // At this level a few seconds fill the pipe to a reader that reads nothing.
    expect_a_run_with_its_log(r#"exec env RUST_LOG=trace "$@" 2> >(exec sleep 60 >/dev/null)"#)
}

#[test]
fn a_run_needs_no_reader_of_its_address() -> Result<()> {
    for output in ["1>/dev/full", "1>&-", "1> >(true)"] {
        let directory = tempfile::TempDir::new()?;
        let mut serve = superstep();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--out"]);
        serve.arg(directory.path());
        serve.arg("--state").arg(directory.path().join("state"));
        let mut server = Program::start("superstep serve", in_shell(&format!(r#"exec "$@" {output}"#), &serve))?;
        wait_for("the run to begin", || {
            ensure!(server.is_running()?, "{output}: it ended");
            Ok(server
                .log()
                .iter()
                .any(|line| line.contains("can download"))
                .then_some(()))
        })?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        ensure!(server.is_running()?, "{output}: it ended");
        server.signal("TERM")?;
        let status = server.wait_for_end()?;
        ensure!(status.success(), "{output}: the server ended with {status}");
    }
    Ok(())
}

#[test]
fn a_native_volunteer_survives_a_reader_of_its_log_that_goes_away() -> Result<()> {
    let server = Serve::default().start()?;
    let mut volunteer = superstep();
    volunteer.args(["volunteer", server.url(), "--workers", "1"]);
    for log in ["2>/dev/full", "2>&-", "2> >(true)"] {
        let script = format!(r#"exec env RUST_LOG=trace "$@" {log}"#);
        let mut native = Program::start("superstep volunteer", in_shell(&script, &volunteer))?;
        let contributors = server.wait_for_contributors(1)?;
        server.wait_for_more_of(contributors[0].id)?;
        native.signal("TERM")?;
        let status = native.wait_for_end()?;
        ensure!(status.success(), "{log}: the volunteer ended with {status}");
        wait_for("it to be gone", || Ok(server.volunteers()?.is_empty().then_some(())))?;
    }
    Ok(())
}

#[test]
fn results_end_quietly_with_their_reader_and_files_are_written_all_the_same() -> Result<()> {
    let directory = tempfile::TempDir::new()?;
    let model = directory.path().join("model.safetensors");
    let mut reference = superstep();
    reference.args(["reference", "--steps", "20", "--evaluate-every", "128"]);
    expect_quiet(&reference, "1> >(true)")?;
    reference.arg("--model").arg(&model);
    expect_quiet(&reference, "1> >(true)")?;
    ensure!(model.exists(), "the model was not written");
    let mut evaluate = superstep();
    evaluate.arg("evaluate").arg(&model).arg(&model);
    expect_quiet(&evaluate, "1> >(true)")?;
    let mut help = superstep();
    help.args(["serve", "--help"]);
    expect_quiet(&help, "1> >(true)")
}

/// The reader of its output goes away at once, and it ends with success and no word.
fn expect_quiet(command: &Command, redirected: &str) -> Result<()> {
    let output = output_of(in_shell(&format!(r#"exec "$@" {redirected}"#), command))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && said.is_empty(),
        "{command:?}: {said:?}, {}",
        output.status
    );
    Ok(())
}

#[test]
fn results_that_find_a_full_disk_are_an_error_of_one_line() -> Result<()> {
    let mut reference = superstep();
    reference.args(["reference", "--steps", "1"]);
    let output = output_of(in_shell(r#"exec "$@" 1>/dev/full"#, &reference))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(
        said.contains("standard output: can't be written: No space left"),
        "{said}"
    );
    ensure!(said.lines().count() == 1, "{said}");
    Ok(())
}
