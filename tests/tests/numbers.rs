//! What the page shows is what happened.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::server::{Serve, Server, whole};
use tests::tab::{Tab, View};
use tests::wait::wait_for;

#[test]
fn two_ml_modules_make_progress_and_their_samples_are_what_the_server_counted() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(2))?;
    let view = tab.wait_until("two ML modules with samples", |view| {
        view.modules.len() == 2 && view.modules.iter().all(|samples| *samples > 0)
    })?;
    tab.wait_until("more samples of both", |later| {
        later
            .modules
            .iter()
            .zip(&view.modules)
            .all(|(later, earlier)| later > earlier)
    })?;
    // The first evaluation, so that the page has all of its numbers.
    wait_for("an evaluation", || {
        Ok((!server.status()?["eval"].is_null()).then_some(()))
    })?;

    tab.press("pause")?;
    tab.wait_for_state("paused")?;
    let (status, view) = expect_agreement(&server, &tab)?;
    ensure!(
        whole(&status, "ml_modules")? == 2 && whole(&status, "volunteers")? == 1,
        "{status:#}"
    );
    let samples = whole(&status, "samples")?;
    ensure!(
        view.modules.iter().sum::<u64>() == samples,
        "{:?} are not {samples}",
        view.modules
    );
    ensure!(
        server.volunteers()?[0].samples == samples,
        "{:?} are not {samples}",
        server.volunteers()?
    );

    tab.press("pause")?;
    tab.wait_for_state("training")?;
    wait_for("more samples", || Ok((server.samples()? > samples).then_some(())))?;
    tab.press("pause")?;
    tab.wait_for_state("paused")?;
    expect_agreement(&server, &tab)?;
    driver.expect_no_console_errors()
}

/// Waits until the page and the server say the same in every number, and at rest: a moment in which numbers that still
/// move are equal is no agreement.
fn expect_agreement(server: &Server, tab: &Tab<'_>) -> Result<(Value, View)> {
    /// The page asks the server more often than this.
    const AT_REST_SECONDS: f64 = 3.0;
    let mut agreed_since: Option<(f64, u64)> = None;
    let found = wait_for("the page and the server to agree", || {
        let status = server.status()?;
        let view = tab.look()?;
        let elapsed = status["elapsed_seconds"].as_f64().context("elapsed_seconds")?;
        let samples = whole(&status, "samples")?;
        agreed_since = match agreed_since {
            _ if disagreement(&status, &view).is_some() => None,
            Some((since, agreed)) if agreed == samples => Some((since, agreed)),
            _ => Some((elapsed, samples)),
        };
        let is_at_rest = agreed_since.is_some_and(|(since, _)| elapsed - since >= AT_REST_SECONDS);
        Ok(is_at_rest.then_some((status, view)))
    });
    match found {
        Ok(agreed) => Ok(agreed),
        Err(error) => Err(error.context(format!("{:?}", disagreement(&server.status()?, &tab.look()?)))),
    }
}

/// The first number in which they differ.
fn disagreement(status: &Value, view: &View) -> Option<String> {
    let pairs = [
        ("my-samples", &status["samples"]),
        ("samples", &status["samples"]),
        ("version", &status["version"]),
        ("volunteers", &status["volunteers"]),
        ("ml-modules", &status["ml_modules"]),
        ("my-modules", &status["ml_modules"]),
        ("loss", &status["loss"]),
        ("accuracy", &status["eval"]["accuracy"]),
        ("everyone-rate", &status["samples_per_second"]),
    ];
    let differs = pairs.iter().find(|(id, value)| view.number(id) != value.as_f64());
    differs.map(|(id, value)| format!("#{id} shows {:?}, the server says {value}", view.number(id)))
}
