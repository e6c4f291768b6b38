//! A server that is killed, stopped or started twice goes on with its run, and the same volunteers go on with it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tempfile::TempDir;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::native_volunteer::{native_volunteer, native_volunteer_with};
use tests::program::{Program, output_of, superstep};
use tests::server::{Serve, Server, whole};
use tests::tab::Tab;
use tests::wait::{PATIENCE, wait_until};

/// How often the server is killed, unless the environment says `KILLS=n`.
const KILLS: u64 = 5;

/// Where the instants of kills begin; a failing test shows it.
const SEED: u64 = 0x5eed;

#[test]
fn a_server_that_is_killed_again_and_again_counts_each_sample_once_as_tabs_and_native_volunteers_were_told()
-> Result<()> {
    let kills = std::env::var("KILLS").ok().map_or(Ok(KILLS), |kills| kills.parse())?;
    let state = TempDir::new()?;
    println!("seed {SEED:#x}");
    let mut server = serve_in(&state, 0)?;
    let driver = Driver::start(Browser::Chromium)?;
    let tabs = [(); 2].map(|()| Tab::open(&driver, &server.joining_url_with_cpu_percent(1, 30)));
    let mut volunteers = [(); 2].map(|()| native_volunteer_with(server.url(), &["--cpu-percent", "30"]));
    server.wait_for_contributors(tabs.len() + volunteers.len())?;
    let mut waits = Vec::new();
    let mut random = SEED;
    for kill in 1..=kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        std::thread::sleep(Duration::from_millis(100 + (random >> 33) % 1_500));
        let before = server.samples()?;
        server.kill()?;
        let began = Instant::now();
        server = serve_in(&state, server.address().port())?;
        waits.push(until_a_contribution_is_accepted(&server, began)?);
        ensure!(
            whole(&server.status()?, "incarnation")? == kill + 1,
            "{}",
            server.status()?
        );
        wait_until("what was accepted before the kill, and more", || {
            let status = server.status()?;
            Ok(whole(&status, "samples_awaited")? == 0 && whole(&status, "samples")? > before)
        })?;
        let status = server.status()?;
        ensure!(whole(&status, "samples_lost")? == 0, "kill {kill}: {status}");
        println!("kill {kill}: {before} samples before; {status}");
    }
    // So that each of them has come back at least once more than it was cut off.
    server.wait_for_contributors(tabs.len() + volunteers.len())?;
    let mut told = Vec::new();
    for volunteer in &mut volunteers {
        let volunteer = volunteer.as_mut().map_err(|error| anyhow!("{error:#}"))?;
        volunteer.signal("TERM")?;
        volunteer.wait_for_end()?;
        told.push(accepted_samples(volunteer)?);
    }
    for tab in tabs {
        let tab = tab?;
        tab.press("stop")?;
        tab.wait_for_state("not-contributing")?;
        told.push(
            tab.look()?
                .number("my-accepted")
                .context("what was accepted of a tab")? as u64,
        );
    }
    let status = server.status()?;
    println!("volunteers were told {told:?}: {status}");
    ensure!(
        whole(&status, "samples")? == told.iter().sum::<u64>(),
        "volunteers were told {told:?}: {status}"
    );
    waits.sort_by(f64::total_cmp);
    println!(
        "from a start to the first accepted contribution: median {:.3} s, longest {:.3} s",
        waits[waits.len() / 2],
        waits[waits.len() - 1]
    );
    Ok(())
}

/// The seconds from the start of a server to its first accepted contribution.
fn until_a_contribution_is_accepted(server: &Server, began: Instant) -> Result<f64> {
    const LOOK_AGAIN: Duration = Duration::from_millis(2);
    let resumed = whole(&server.status()?, "contributions_accepted")?;
    while whole(&server.status()?, "contributions_accepted")? == resumed {
        ensure!(began.elapsed() < PATIENCE, "nothing was accepted: {}", server.status()?);
        std::thread::sleep(LOOK_AGAIN);
    }
    Ok(began.elapsed().as_secs_f64())
}

/// What a native volunteer says at its end.
fn accepted_samples(volunteer: &Program) -> Result<u64> {
    let log = volunteer.log();
    let said = log.iter().find_map(|line| line.strip_suffix(" samples were accepted"));
    let number = said.and_then(|line| line.rsplit(' ').next());
    let number = number.with_context(|| format!("it does not say what was accepted: {log:#?}"))?;
    Ok(number.parse()?)
}

#[test]
fn a_second_server_on_the_same_run_says_who_owns_it_and_ends() -> Result<()> {
    let state = TempDir::new()?;
    let server = serve_in(&state, 0)?;
    let mut second = superstep();
    second.args(["serve", "--listen", "127.0.0.1:0", "--out"]);
    second.arg(state.path().join("out")).arg("--state").arg(state.path());
    let output = output_of(second)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "it started");
    ensure!(said.lines().last().is_some_and(|line| line.contains("since")), "{said}");
    println!("{said}");
    server.status().map(drop)
}

#[test]
fn a_run_that_was_stopped_goes_on_with_the_volunteers_that_stayed() -> Result<()> {
    let state = TempDir::new()?;
    let mut server = serve_in(&state, 0)?;
    let _volunteer = native_volunteer(server.url())?;
    let id = server.wait_for_contributors(1)?[0].id;
    let status = server.stop()?;
    ensure!(status.success(), "{status}: {:?}", server.log());
    let server = serve_in(&state, server.address().port())?;
    server.wait_for_contributors(1)?;
    println!(
        "session {id} before, {:?} after; {}",
        server.volunteers()?,
        server.status()?
    );
    ensure!(whole(&server.status()?, "samples_lost")? == 0, "{}", server.status()?);
    server.wait_for_more_of(id)
}

#[test]
fn a_damaged_newest_checkpoint_is_named_and_the_one_before_it_is_taken() -> Result<()> {
    let state = TempDir::new()?;
    let mut server = serve_in(&state, 0)?;
    let _volunteer = native_volunteer(server.url())?;
    wait_until("two checkpoints", || Ok(checkpoints(&state)?.len() >= 2))?;
    server.kill()?;
    let newest = checkpoints(&state)?.pop().context("a checkpoint")?;
    let mut bytes = std::fs::read(&newest)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes)?;

    let server = serve_in(&state, server.address().port())?;
    let name = newest.file_name().context("a name")?.to_string_lossy().into_owned();
    println!("{:#?}", server.log());
    ensure!(
        server.log().iter().any(|line| line.contains(&name)),
        "{name}: {:?}",
        server.log()
    );
    ensure!(newest.exists(), "{name} is gone");
    server.wait_for_contributors(1).map(drop)
}

fn serve_in(state: &TempDir, port: u16) -> Result<Server> {
    let state = Some(state.path().to_owned());
    Serve {
        port,
        state,
        ..Serve::kiosk()
    }
    .start()
}

/// The numbered checkpoints of the only run in the folder, the newest last.
fn checkpoints(state: &TempDir) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for run in std::fs::read_dir(state.path())?
        .flatten()
        .filter(|run| run.path().is_dir())
    {
        found.extend(std::fs::read_dir(run.path())?.flatten().map(|file| file.path()));
    }
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("checkpoint-") && name.ends_with(".superstep")
    });
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(found)
}
