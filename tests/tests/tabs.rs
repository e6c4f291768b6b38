//! Tabs that close or stop: what they have finished is sent. (For those that freeze, sleep or lose their server, see
//! `absences.rs`.)

use anyhow::{Context, Result, ensure};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::run_file::RunText;
use tests::server::{Serve, Server};
use tests::tab::Tab;
use tests::wait::{wait_for, wait_until};

/// A server whose volunteers are read out every ten seconds, so that a tab nearly always has work in its memory.
fn server_with_long_periods() -> Result<Server> {
    let run = RunText::digits()?.with(
        "superstep_samples = 128\nmin_period_ms = 20",
        "superstep_samples = 1000000\nmin_period_ms = 10000",
    )?;
    Serve::kiosk().run(run).start()
}

/// A tab that has added this many samples more than the server has.
fn tab_with_work<'driver>(server: &Server, driver: &'driver Driver, samples: u64) -> Result<(Tab<'driver>, u64)> {
    let tab = Tab::open(driver, &server.joining_url_with_cpu_percent(1, 20))?;
    let before = server.samples()?;
    let view = tab.wait_until("work in its memory", |view| {
        view.number("my-samples").is_some_and(|mine| mine >= samples as f64)
    })?;
    let mine = view.number("my-samples").context("a number")? as u64;
    ensure!(server.samples()? == before, "it was read out already");
    Ok((tab, mine))
}

/// Waits until nobody is there any more, and gives the samples that have come since `before`.
fn samples_after_the_end(server: &Server, before: u64) -> Result<u64> {
    wait_until("the tab to be gone", || Ok(server.volunteers()?.is_empty()))?;
    Ok(server.samples()? - before)
}

#[test]
fn a_tab_that_is_closed_sends_what_it_has() -> Result<()> {
    let server = server_with_long_periods()?;
    let driver = Driver::start(Browser::Chromium)?;
    let closings: usize = std::env::var("CLOSINGS").ok().map_or(Ok(3), |text| text.parse())?;
    let mut arrived = Vec::new();
    for _ in 0..closings {
        let before = server.samples()?;
        let (tab, mine) = tab_with_work(&server, &driver, 200)?;
        tab.close()?;
        let sent = samples_after_the_end(&server, before)?;
        arrived.push((mine, sent));
    }
    let with_all = arrived.iter().filter(|(mine, sent)| sent >= mine).count();
    println!("{with_all} of {closings} last read-outs arrived: {arrived:?}");
    ensure!(with_all == closings, "{arrived:?}");
    Ok(())
}

#[test]
fn a_tab_that_goes_to_another_page_sends_what_it_has_and_computes_again_when_it_is_back() -> Result<()> {
    let server = server_with_long_periods()?;
    let driver = Driver::start(Browser::Chromium)?;
    let before = server.samples()?;
    let (tab, mine) = tab_with_work(&server, &driver, 200)?;
    tab.execute("location.href = './api/v1/status'")?;
    let sent = wait_for("what it had", || {
        Ok(Some(server.samples()? - before).filter(|sent| *sent > 0))
    })?;
    ensure!(sent >= mine, "{sent} of {mine} samples");
    tab.execute("history.back()")?;
    tab.wait_for_state("training")?;
    Ok(())
}

#[test]
fn a_tab_that_is_stopped_sends_what_it_has_finished_and_no_sample_is_lost() -> Result<()> {
    let server = server_with_long_periods()?;
    let driver = Driver::start(Browser::Chromium)?;
    let mut sum = 0;
    for _ in 0..3 {
        let (tab, _) = tab_with_work(&server, &driver, 200)?;
        // What it had finished when its workers ended: the numbers come four times a second until then.
        tab.press("stop")?;
        tab.wait_for_state("not-contributing")?;
        wait_until("the tab to be gone", || Ok(server.volunteers()?.is_empty()))?;
        let view = tab.wait_until("all of it as accepted", |view| {
            view.number("my-accepted") >= view.number("my-samples")
        })?;
        let told = |id: &str| Ok::<_, anyhow::Error>(view.number(id).context("a number")? as u64);
        let (mine, accepted) = (told("my-samples")?, told("my-accepted")?);
        sum += mine;
        ensure!(
            server.samples()? == sum && accepted == mine,
            "the server has {} of {sum} samples; the tab was told that {accepted} of {mine} were accepted",
            server.samples()?
        );
        tab.close()?;
    }
    driver.expect_no_console_errors()
}
