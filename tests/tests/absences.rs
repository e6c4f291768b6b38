//! Tabs that freeze, sleep, or lose their network or their server: they compute on while they can, say what is so, and
//! nothing that they have finished is lost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::network::Network;
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};
use tests::tab::Tab;
use tests::wait::{wait_for, wait_until};

/// A run whose contributions are full after 160 samples, and whose volunteers can keep 64 of them.
fn run_that_soon_has_enough() -> Result<RunText> {
    RunText::digits()?.with(
        "superstep_samples = 128",
        "superstep_samples = 128\nmax_read_out_samples = 160",
    )
}

fn server_that_soon_has_enough() -> Result<Server> {
    Serve::kiosk().run(run_that_soon_has_enough()?).start()
}

/// Waits until the tab says how long it was away. Gives the seconds.
fn seconds_away(tab: &Tab<'_>) -> Result<u64> {
    let said = wait_for("it to say how long it was away", || {
        let said = tab.text("state-detail")?;
        Ok(said.starts_with("Back after ").then_some(said))
    })?;
    let words: Vec<&str> = said.split([' ', '.', ':']).collect();
    let number = |word: &str| word.parse::<u64>().with_context(|| said.clone());
    match words[..] {
        ["Back", "after", minutes, "min", seconds, "s", ..] => Ok(60 * number(minutes)? + number(seconds)?),
        ["Back", "after", minutes, "min", ..] => Ok(60 * number(minutes)?),
        ["Back", "after", seconds, "s", ..] => number(seconds),
        _ => anyhow::bail!("{said}"),
    }
}

/// Waits until this time has passed: nothing else tells how long a tab was away.
fn let_pass(time: Duration) -> Result<()> {
    let began = Instant::now();
    wait_until("time to pass", || Ok(began.elapsed() > time))
}

/// The tab stops. What it has finished, what it was told is accepted and what the server has are the same.
fn expect_nothing_lost(tab: &Tab<'_>, server: &Server) -> Result<()> {
    tab.press("stop")?;
    wait_until("the tab to be gone", || Ok(server.volunteers()?.is_empty()))?;
    let all = server.samples()?;
    let counted = wait_until("the tab to have counted what it was told", || {
        Ok(tab.whole("my-accepted")? == all)
    });
    counted.with_context(|| format!("the server has {all} samples, the tab {:?}", tab.look()))?;
    ensure!(tab.whole("my-samples")? == all, "of {all} samples: {:?}", tab.look()?);
    ensure!(whole(&server.status()?, "samples_lost")? == 0, "{}", server.status()?);
    Ok(())
}

#[test]
fn a_tab_that_was_frozen_resumes_its_session_and_says_how_long_it_was_away() -> Result<()> {
    const FROZEN: Duration = Duration::from_secs(12);
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    let session = server.wait_for_contributors(1)?[0].id;
    tab.set_frozen(true)?;
    let_pass(FROZEN)?;
    tab.set_frozen(false)?;
    let seconds = seconds_away(&tab)?;
    ensure!(seconds + 2 >= FROZEN.as_secs(), "it says {seconds} s");
    // (The console says that the browser closed the socket of a frozen page.)
    server.wait_for_more_of(session)?;
    expect_nothing_lost(&tab, &server)
}

#[test]
fn a_tab_that_slept_resumes_its_session_and_says_how_long_it_was_away() -> Result<()> {
    /// By far longer than any volunteer is waited for.
    const SILENT_SECONDS: f64 = 12.0;
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    let session = server.wait_for_contributors(1)?[0].id;
    driver.signal_pages("STOP")?;
    wait_until("the server to have heard nothing of it for long", || {
        let silent = server.ask("volunteers")?[0]["last_seen_seconds"].as_f64();
        Ok(silent.is_some_and(|seconds| seconds > SILENT_SECONDS))
    })?;
    driver.signal_pages("CONT")?;
    let seconds = seconds_away(&tab)?;
    ensure!(seconds as f64 > SILENT_SECONDS - 3.0, "it says {seconds} s");
    server.wait_for_more_of(session)?;
    expect_nothing_lost(&tab, &server)
}

#[test]
fn a_tab_without_a_network_computes_on_and_says_how_long_it_was_away() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let network = Network::start(server.address())?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &format!("{}/?join=1&workers=1", network.url()))?;
    let session = server.wait_for_contributors(1)?[0].id;
    network.set_gone(true);
    let view = tab.wait_for_state("reconnecting")?;
    let before = view.number("my-samples");
    tab.wait_until("that it computes on", |view| view.number("my-samples") > before)?;
    network.set_gone(false);
    tab.wait_for_state("training")?;
    let seconds = seconds_away(&tab)?;
    ensure!(seconds >= 5, "it says {seconds} s");
    server.wait_for_more_of(session)?;
    expect_nothing_lost(&tab, &server)
}

/// Waits until the tab says that it computes on without its server, and then that it waits. Gives what it has computed.
fn expect_to_compute_on_and_wait(tab: &Tab<'_>) -> Result<u64> {
    tab.wait_for_state("reconnecting")?;
    let said = tab.text("state-detail")?;
    ensure!(said.starts_with("The server is away: your cores compute on."), "{said}");
    tab.take_pictures("reconnecting")?;
    tab.wait_for_state("waiting")?;
    let said = tab.text("state-detail")?;
    ensure!(said.contains("the memory for finished work is full"), "{said}");
    tab.take_pictures("waiting")?;
    tab.wait_until("no speed", |view| view.number("my-rate").is_some_and(|rate| rate < 1.0))?;
    tab.whole("my-samples")
}

#[test]
fn a_tab_whose_server_hangs_computes_on_while_its_memory_lasts_then_waits_and_says_so_and_sends_all() -> Result<()> {
    let server = server_that_soon_has_enough()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    server.wait_for_contributors(1)?;
    server.signal("STOP")?;
    let full = expect_to_compute_on_and_wait(&tab)?;
    server.signal("CONT")?;
    tab.wait_for_state("training")?;
    wait_until("it to say how long it was away", || {
        let said = tab.text("state-detail")?;
        Ok(said.starts_with("Back after") && said.ends_with("were kept and sent."))
    })?;
    tab.take_pictures("back")?;
    tab.wait_until("that it computes again", |view| {
        view.number("my-samples") > Some(full as f64)
    })?;
    expect_nothing_lost(&tab, &server)
}

#[test]
fn a_tab_whose_server_is_killed_computes_on_then_waits_and_all_of_it_counts_when_the_run_goes_on() -> Result<()> {
    let mut server = server_that_soon_has_enough()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    server.wait_for_contributors(1)?;
    server.kill()?;
    let full = expect_to_compute_on_and_wait(&tab)?;
    let again = Serve {
        port: server.address().port(),
        state: Some(server.state()),
        ..Serve::kiosk().run(run_that_soon_has_enough()?)
    }
    .start()?;
    tab.wait_for_state("training")?;
    tab.wait_until("that it computes again", |view| {
        view.number("my-samples") > Some(full as f64)
    })?;
    expect_nothing_lost(&tab, &again)
}

#[test]
fn a_tab_whose_server_stops_hears_that_it_will_be_back_and_computes_on_while_its_memory_lasts() -> Result<()> {
    let mut server = server_that_soon_has_enough()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    server.wait_for_contributors(1)?;
    server.stop()?;
    tab.wait_until("that the server will be back", |view| {
        view.states.iter().any(|state| state == "back-soon")
    })?;
    tab.take_pictures("back-soon")?;
    tab.wait_for_state("waiting")?;
    Ok(())
}
