//! Which machines compute, and when.

use anyhow::{Result, ensure};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::server::Serve;
use tests::tab::Tab;
use tests::wait::{wait_for, wait_until};

#[test]
fn no_machine_computes_without_a_click() -> Result<()> {
    let server = Serve::default().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
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
    wait_until("no volunteer to be left", || Ok(server.volunteers()?.is_empty()))?;
    driver.expect_no_console_errors()
}

#[test]
fn a_tab_that_may_use_less_of_a_core_computes_less_from_then_on() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let _other = Tab::open(&driver, &server.joining_url_with_cpu_percent(1, 50))?;
    server.wait_for_contributors(1)?;
    let tab = Tab::open(&driver, &server.joining_url_with_cpu_percent(1, 50))?;
    server.wait_for_contributors(2)?;
    let chosen = tab.execute(
        "const choice = document.getElementById('cpu-percent');
        const before = choice.value;
        choice.value = '10';
        choice.dispatchEvent(new Event('change'));
        return before;",
    )?;
    ensure!(chosen == "50", "the page shows {chosen} %");
    let samples = || -> Result<[u64; 2]> {
        let mut volunteers = server.volunteers()?;
        volunteers.sort_by_key(|volunteer| volunteer.id);
        ensure!(volunteers.len() == 2, "{volunteers:?}");
        Ok([volunteers[0].samples, volunteers[1].samples])
    };
    let before = samples()?;
    let [other, less] = wait_for("contributions of the tab that computes less", || {
        let now = samples()?;
        let gains = [now[0] - before[0], now[1] - before[1]];
        Ok((gains[1] >= 3_000).then_some(gains))
    })?;
    // Five times; a busy machine takes its time from some more than from others.
    let ratio = other as f64 / less as f64;
    ensure!((2.0..15.0).contains(&ratio), "{other} and {less} samples");
    driver.expect_no_console_errors()
}
