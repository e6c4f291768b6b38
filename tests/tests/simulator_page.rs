//! The simulator's page, in a real browser.

use anyhow::{Result, ensure};
use bsp::time::Time;
use simulator::fault_run::FaultRun;
use simulator::fault_run::view::View;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::server::Serve;
use tests::tab::Tab;
use tests::wait::wait_for;

/// The run of this seed, to its end, natively.
fn natively(seed: u64) -> View {
    let mut run = FaultRun::new(seed);
    run.run_until(Time::from_micros(u64::MAX));
    View::of(&run)
}

/// Plays the page's run to its end. Returns the digest that it shows.
fn digest_at_the_end(tab: &Tab<'_>) -> Result<String> {
    tab.wait_until("a run", |view| ["playing", "paused"].contains(&view.state.as_str()))?;
    tab.press("to-end")?;
    tab.wait_for_state("closed")?;
    tab.text("digest")
}

#[test]
fn the_page_shows_the_same_run_as_the_native_simulator() -> Result<()> {
    let server = Serve::default().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    for seed in [4, 7, 18_446_744_073_709_551_615] {
        let native = natively(seed);
        let tab = Tab::open(&driver, &format!("{}/simulator?seed={seed}", server.url()))?;
        let shown = digest_at_the_end(&tab)?;
        ensure!(
            shown == native.digest,
            "seed {seed}: {shown}, natively {}",
            native.digest
        );
        let books = tab.text("books")?;
        let accepted = native.books.accepted.to_string();
        let digits: String = books.chars().filter(|c| *c != ',').collect();
        ensure!(digits.contains(&accepted), "seed {seed}: no {accepted} in {books}");
        let verdicts = tab.text("invariants")?;
        // Where no volunteer is left at the end, there is nothing to agree with.
        let checked = native
            .invariants
            .iter()
            .filter(|invariant| invariant.checks > 0)
            .count();
        let held = verdicts.matches("Holds").count();
        ensure!(
            held == checked && !verdicts.contains("Violated"),
            "seed {seed}: {verdicts}"
        );
        ensure!(tab.text("state")?.contains("everything held"));
        ensure!(tab.text("failure")?.is_empty());
    }
    Ok(())
}

#[test]
fn the_next_seed_has_a_link_of_its_own_and_a_step_goes_to_the_next_event() -> Result<()> {
    let server = Serve::default().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &format!("{}/simulator?seed=6", server.url()))?;
    tab.wait_until("a run", |view| ["playing", "paused"].contains(&view.state.as_str()))?;
    tab.press("next-seed")?;
    let address = tab.execute("return location.search")?;
    ensure!(address == "?seed=7", "{address}");
    tab.press("step")?;
    tab.wait_for_state("paused")?;
    let entries = || tab.execute("return document.querySelectorAll('#log li').length");
    let before = entries()?.as_u64();
    tab.press("step")?;
    wait_for("another entry in the log", || {
        Ok((entries()?.as_u64() > before).then_some(()))
    })?;
    // Another way through the same run leads to the same end.
    let shown = digest_at_the_end(&tab)?;
    ensure!(shown == natively(7).digest);
    Ok(())
}

#[test]
fn an_address_without_a_usable_seed_says_what_a_seed_is() -> Result<()> {
    let server = Serve::default().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &format!("{}/simulator?seed=many", server.url()))?;
    wait_for("a sentence about seeds", || {
        Ok(tab.text("failure")?.contains("whole number").then_some(()))
    })?;
    Ok(())
}
