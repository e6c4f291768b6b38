//! The disk under a run fills up, becomes read-only, or its folder vanishes while volunteers contribute: that is said
//! once each way, the run goes on, and nothing is lost that somebody still has.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::native_volunteer::{accepted_samples_at_the_end, native_volunteer};
use tests::program::Program;
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};
use tests::small_disk::{ON_THE_DISK, SmallDisk};
use tests::wait::{wait_for, wait_until};

/// Room for some twelve checkpoints of half a megabyte.
const DISK_KILOBYTES: u32 = 6_000;
const FAILS: &str = "a checkpoint can't be written";
const WORKS_AGAIN: &str = "checkpoints can be written again";

/// Digits, with a checkpoint each half second.
fn serve(state: &Path) -> Result<Serve> {
    let run = RunText::digits()?.and("[checkpoints]\ninterval_seconds = 0.5");
    Ok(Serve {
        run: Some(run),
        state: Some(state.to_owned()),
        ..Serve::default()
    })
}

fn serve_on(disk: &SmallDisk) -> Result<Serve> {
    Ok(Serve {
        script: Some(ON_THE_DISK),
        environment: disk.environment(),
        ..serve(&disk.folder().join("state"))?
    })
}

/// A server with a volunteer that contributes, and a checkpoint.
fn begin(serve: Serve) -> Result<(Server, Program, u64)> {
    let server = serve.start()?;
    let volunteer = native_volunteer(server.url())?;
    let id = server.wait_for_contributors(1)?[0].id;
    wait_until("a checkpoint", || Ok(whole(&server.status()?, "checkpoints")? > 0))?;
    Ok((server, volunteer, id))
}

/// The checkpoints fail, that is said once, and the volunteer contributes all the same.
fn expect_failing(server: &Server, id: u64, why: &str) -> Result<()> {
    wait_until("a checkpoint that fails", || {
        Ok(server.status()?["checkpoint_fails"] == true)
    })?;
    server.wait_for_more_of(id)?;
    expect_said_once(server, FAILS, why)
}

fn expect_working(server: &Server) -> Result<()> {
    let before = whole(&server.status()?, "checkpoints")?;
    wait_until("a checkpoint again", || {
        let status = server.status()?;
        Ok(status["checkpoint_fails"] == false && whole(&status, "checkpoints")? > before)
    })?;
    expect_said_once(server, WORKS_AGAIN, "")
}

fn expect_said_once(server: &Server, what: &str, why: &str) -> Result<()> {
    let log = server.log();
    let said: Vec<&String> = log.iter().filter(|line| line.contains(what)).collect();
    println!("{said:#?}");
    ensure!(said.len() == 1 && said[0].contains(why), "{what:?}, {why:?}: {log:#?}");
    Ok(())
}

/// The server goes on with its run, and counts what its volunteer was told.
fn expect_books_after_a_kill(mut server: Server, serve: Serve, mut volunteer: Program, id: u64) -> Result<()> {
    server.kill()?;
    let server = Serve {
        port: server.address().port(),
        ..serve
    }
    .start()?;
    server.wait_for_contributors(1)?;
    server.wait_for_more_of(id)?;
    let told = accepted_samples_at_the_end(&mut volunteer)?;
    let status = server.status()?;
    println!("the volunteer was told {told}: {status}\n{:#?}", server.log());
    // A start in vain may have got as far as to be counted.
    ensure!(whole(&status, "incarnation")? >= 2, "{status}");
    ensure!(whole(&status, "samples")? == told, "{told} samples were told: {status}");
    ensure!(whole(&status, "samples_lost")? == 0, "{status}");
    Ok(())
}

#[test]
fn a_run_whose_disk_is_full_goes_on_and_a_kill_after_room_was_made_loses_nothing() -> Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_KILOBYTES)? else {
        return Ok(());
    };
    let (server, volunteer, id) = begin(serve_on(&disk)?)?;
    disk.fill()?;
    expect_failing(
        &server,
        id,
        "No space left on device (os error 28); make room on its disk",
    )?;
    disk.make_room()?;
    expect_working(&server)?;
    expect_books_after_a_kill(server, serve_on(&disk)?, volunteer, id)
}

#[test]
fn a_server_that_is_killed_on_a_full_disk_says_so_at_its_start_and_loses_nothing_once_there_is_room() -> Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_KILOBYTES)? else {
        return Ok(());
    };
    let (mut server, volunteer, id) = begin(serve_on(&disk)?)?;
    disk.fill()?;
    expect_failing(&server, id, "No space left on device")?;
    server.kill()?;
    // A checkpoint that was being written has left room.
    disk.fill()?;
    // Nothing is written where nothing can be: the old files stay as they are.
    let log = serve_on(&disk)?.start_in_vain()?;
    println!("{log:#?}");
    ensure!(
        log.len() == 1 && log[0].contains("No space left on device (os error 28); make room on its disk"),
        "{log:#?}"
    );
    disk.make_room()?;
    expect_books_after_a_kill(server, serve_on(&disk)?, volunteer, id)
}

#[test]
fn a_run_whose_disk_becomes_read_only_goes_on_and_a_kill_loses_nothing() -> Result<()> {
    let Some(disk) = SmallDisk::mount(DISK_KILOBYTES)? else {
        return Ok(());
    };
    let (mut server, volunteer, id) = begin(serve_on(&disk)?)?;
    disk.make_read_only()?;
    expect_failing(&server, id, "Read-only file system (os error 30); mount it writable")?;
    disk.make_writable()?;
    expect_working(&server)?;
    disk.make_read_only()?;
    server.wait_for_more_of(id)?;
    server.kill()?;
    let log = serve_on(&disk)?.start_in_vain()?;
    println!("{log:#?}");
    ensure!(
        log.len() == 1 && log[0].contains("Read-only file system (os error 30)"),
        "{log:#?}"
    );
    disk.make_writable()?;
    expect_books_after_a_kill(server, serve_on(&disk)?, volunteer, id)
}

/// The samples that a server has counted when nothing comes any more.
fn samples_at_rest(server: &Server) -> Result<u64> {
    let mut last = None;
    wait_for("nothing more to come", || {
        let samples = Some(server.samples()?);
        let is_same = samples == last;
        last = samples;
        Ok(samples.filter(|_| is_same))
    })
}

/// Takes the folder away, as `rm -rf` does, while a server writes into it.
fn remove(folder: &Path) -> Result<()> {
    wait_until("the folder to be gone", || {
        // What is written while it is emptied is removed by the next try.
        let _ = std::fs::remove_dir_all(folder);
        Ok(!folder.exists())
    })
}

#[test]
fn a_run_whose_folder_vanishes_is_kept_again_as_soon_as_there_is_a_folder() -> Result<()> {
    let directory = TempDir::new()?;
    let state = directory.path().join("state");
    let (server, volunteer, id) = begin(serve(&state)?)?;
    remove(&state)?;
    expect_failing(&server, id, "No such file or directory (os error 2); put it back")?;
    // It comes back empty: all that tells the run apart is written anew, so that it can go on.
    std::fs::create_dir_all(state.join("digits"))?;
    expect_working(&server)?;
    let log = serve(&state)?.start_in_vain()?;
    ensure!(
        log.iter().any(|line| line.contains("has owned this run since")),
        "{log:#?}"
    );
    expect_books_after_a_kill(server, serve(&state)?, volunteer, id)
}

#[test]
fn a_server_that_is_killed_after_its_folder_vanished_begins_another_run_and_its_volunteers_are_told() -> Result<()> {
    let directory = TempDir::new()?;
    let state = directory.path().join("state");
    let (mut server, mut volunteer, id) = begin(serve(&state)?)?;
    let old_run = server.ask("run")?["run"].clone();
    remove(&state)?;
    expect_failing(&server, id, "No such file or directory")?;
    // It says nothing more to the old server, so that no more is accepted than is asked for here.
    volunteer.signal("STOP")?;
    let old = samples_at_rest(&server)?;
    server.kill()?;
    volunteer.signal("CONT")?;

    let server = Serve {
        port: server.address().port(),
        ..serve(&state)?
    }
    .start()?;
    ensure!(server.ask("run")?["run"] != old_run, "it says that it is the old run");
    let volunteers = server.wait_for_contributors(1)?;
    server.wait_for_more_of(volunteers[0].id)?;
    let said = volunteer.stdout();
    println!("{said:#?}");
    ensure!(
        said.iter()
            .any(|line| line.contains("the server trains another run now")),
        "{said:#?}"
    );
    // It was told of samples of both runs, and nothing of the old one counts in the new one.
    let told = accepted_samples_at_the_end(&mut volunteer)?;
    let status = server.status()?;
    println!("the volunteer was told {told}: {status}\n{:#?}", volunteer.log());
    ensure!(whole(&status, "incarnation")? == 1, "{status}");
    let new = whole(&status, "samples")?;
    ensure!(
        (new + 1..=new + old).contains(&told),
        "{told} samples were told, {old} of the old run at most: {status}"
    );
    Ok(())
}

#[test]
fn a_run_whose_folder_went_aside_for_a_file_goes_on_in_it_when_it_is_back() -> Result<()> {
    let directory = TempDir::new()?;
    let state: PathBuf = directory.path().join("state");
    let aside = directory.path().join("aside");
    let (server, volunteer, id) = begin(serve(&state)?)?;
    std::fs::rename(&state, &aside)?;
    std::fs::write(&state, "a file")?;
    expect_failing(&server, id, "Not a directory (os error 20)")?;
    std::fs::remove_file(&state)?;
    std::fs::rename(&aside, &state)?;
    expect_working(&server)?;
    expect_books_after_a_kill(server, serve(&state)?, volunteer, id)
}
