//! A run that has reached its aim: its tabs are told, rest, and what they had finished is counted.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::run_file::RunText;
use tests::server::{Serve, whole};
use tests::tab::Tab;

/// Waits until the tab says that the run has reached its end, and has no worker left that could compute.
fn expect_rest(tab: &Tab<'_>) -> Result<()> {
    tab.wait_for_state("finished")?;
    tab.wait_until("nobody at work", |view| {
        view.number("my-modules") == Some(0.0) && view.number("my-rate") == Some(0.0)
    })?;
    for script in ["bsp-worker.js", "ml-worker.js"] {
        let workers = tab.evaluate_in_workers(script, "1")?;
        ensure!(workers.is_empty(), "{} workers run {script}", workers.len());
    }
    ensure!(!tab.is_enabled("start")?, "it can be started");
    Ok(())
}

#[test]
fn a_tab_is_told_that_the_run_has_reached_its_aim_and_rests_and_so_is_one_that_comes_afterwards() -> Result<()> {
    let mut server = Serve {
        stop_at_target: true,
        ..Serve::kiosk()
    }
    .start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(2))?;
    ensure!(server.wait_for_end()?.success(), "the server failed");
    expect_rest(&tab)?;
    let said = tab.text("state-detail")?;
    ensure!(said.contains("reached its end"), "{said}");
    tab.take_pictures("finished")?;
    let summary: Value = serde_json::from_slice(&std::fs::read(server.out().join("summary.json"))?)?;
    let (told, all) = (tab.whole("my-accepted")?, whole(&summary["status"], "samples")?);
    ensure!(
        told == all,
        "the tab was told of {told} samples, the summary says {all}"
    );

    // The run has its aim already: its next server finds so at the first evaluation.
    let mut again = Serve {
        stop_at_target: true,
        state: Some(server.state()),
        ..Serve::kiosk().run(RunText::digits()?)
    }
    .start()?;
    let late = Tab::open(&driver, &again.joining_url(1)).context("a tab that comes after the end")?;
    ensure!(again.wait_for_end()?.success(), "the server failed");
    expect_rest(&late)
}
