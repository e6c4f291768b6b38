//! Whose machine computes, and when.

use anyhow::{Result, ensure};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::server::Serve;
use tests::wait::wait_until;

#[test]
fn nobodys_machine_computes_without_a_click() -> Result<()> {
    let server = Serve::default().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = driver.open(&server.joining_url(1))?;
    // The page says that it was asked to start by itself and did not: nothing is going to start any more.
    wait_until("the page to say that it did not start", || {
        Ok(tab.text("note")?.contains("until you press"))
    })?;
    let view = tab.look()?;
    ensure!(view.states.iter().all(|state| state == "not-contributing"), "{view:#?}");
    ensure!(
        server.volunteers()?.is_empty() && server.status()?["state"] == "waiting",
        "{:?}",
        server.volunteers()?
    );

    tab.press("start")?;
    server.wait_for_contributors(1)?;
    ensure!(tab.look()?.state == "training", "{:#?}", tab.look()?);

    tab.press("pause")?;
    tab.wait_for_state("paused")?;
    ensure!(
        tab.text("pause")? == "Resume",
        "the button says {:?}",
        tab.text("pause")?
    );
    wait_until("the server to wait", || Ok(server.status()?["state"] == "waiting"))?;
    // All that the tab had has arrived, and no more comes.
    tab.wait_until("no speed but what the server counted", |view| {
        view.number("samples") == view.number("my-samples")
    })?;
    let samples = server.samples()?;

    tab.press("pause")?;
    wait_until("more samples", || Ok(server.samples()? > samples))?;

    tab.press("stop")?;
    tab.wait_for_state("not-contributing")?;
    wait_until("nobody to be left", || Ok(server.volunteers()?.is_empty()))?;
    driver.expect_no_console_errors()
}
