//! What scripts rely on.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::http::get;
use tests::native_volunteer::native_volunteer;
use tests::run_file::{DIGITS_PARAMETERS, RunText};
use tests::server::{Serve, Server, whole};
use tests::tab::Tab;
use tests::wait::{wait_for, wait_until};

/// Keys of `GET /api/v1/status`.
const STATUS_KEYS: [&str; 27] = [
    "run",
    "mode",
    "state",
    "version",
    "superstep",
    "samples",
    "samples_in_model",
    "gradients",
    "loss",
    "eval",
    "volunteers",
    "ml_modules",
    "samples_per_second",
    "contributions_accepted",
    "contributions_refused",
    "target_accuracy",
    "elapsed_seconds",
    "period_seconds",
    "grace_seconds",
    "quorum",
    "staleness",
    "weight",
    "local_steps",
    "contribution_codec",
    "model_codec",
    "bytes_up",
    "bytes_down",
];

/// Keys of each entry of `GET /api/v1/volunteers`.
const VOLUNTEER_KEYS: [&str; 14] = [
    "id",
    "ml_modules",
    "samples",
    "samples_per_second",
    "staleness",
    "time",
    "period_seconds",
    "upload_seconds",
    "download_seconds",
    "round_trip_seconds",
    "link_share",
    "accepted",
    "refused",
    "last_seen_seconds",
];

#[test]
fn status_and_volunteers_have_every_key_that_scripts_rely_on() -> Result<()> {
    let server = Serve::default().start()?;
    let _native = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    expect_keys(&server.status()?, &STATUS_KEYS)?;
    let evaluated = wait_for("an evaluation", || {
        let eval = server.status()?["eval"].take();
        Ok((!eval.is_null()).then_some(eval))
    })?;
    expect_keys(&evaluated, &["version", "accuracy", "loss"])?;
    let volunteers = server.ask("volunteers")?;
    let volunteer = &volunteers[0];
    expect_keys(volunteer, &VOLUNTEER_KEYS)?;
    let shares = ["gradient", "add", "read", "wait"];
    expect_keys(&volunteer["time"], &shares)?;
    let sum: f64 = shares
        .iter()
        .filter_map(|share| volunteer["time"][share].as_f64())
        .sum();
    ensure!((sum - 1.0).abs() < 1e-9, "the shares of time are {volunteer:#}");
    let history = server.ask("history")?;
    expect_keys(&history, &["loss", "eval", "events"])?;
    expect_keys(&history["loss"][0], &["samples", "elapsed_seconds", "loss"])?;
    let evaluation = ["samples", "elapsed_seconds", "version", "accuracy", "loss"];
    expect_keys(&history["eval"][0], &evaluation)?;
    ensure!(
        get(&format!("{}/healthz", server.url()))?.status() == 200,
        "it is not healthy"
    );
    Ok(())
}

#[test]
fn with_local_steps_and_int8_digits_are_learned_with_a_fraction_of_the_bytes_and_each_period_is_told() -> Result<()> {
    let mut server = Serve::kiosk().run(RunText::digits_for_slow_links()?).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    let _native = native_volunteer(server.url())?;
    server.wait_for_contributors(2)?;
    wait_until("nine of ten digits to be read", || {
        let accuracy = server.status()?["eval"]["accuracy"].as_f64();
        Ok(accuracy.is_some_and(|accuracy| accuracy >= 0.9))
    })?;
    let bytes = expect_few_bytes(&server)?;
    expect_links(&server)?;
    tab.wait_until("its own period and the traffic", |view| {
        ["my-period", "my-link-share", "period", "grace", "bytes-per-sample"]
            .iter()
            .all(|id| view.number(id).is_some())
    })?;
    driver.expect_no_console_errors()?;

    ensure!(server.stop()?.success());
    let summary: Value = serde_json::from_slice(&std::fs::read(server.out().join("summary.json"))?)?;
    expect_keys(
        &summary,
        &[
            "mean_staleness",
            "mean_weight",
            "bytes_up",
            "bytes_down",
            "bytes_per_sample",
        ],
    )?;
    ensure!(
        whole(&summary, "bytes_up")? + whole(&summary, "bytes_down")? >= bytes && summary["bytes_per_sample"].is_f64(),
        "{summary:#}"
    );
    Ok(())
}

/// Waits for many contributions, and looks at what they and the models that came back have cost: how many bytes.
fn expect_few_bytes(server: &Server) -> Result<u64> {
    /// Enough that the whole models, which a joining volunteer is sent, weigh little.
    const CONTRIBUTIONS: u64 = 100;
    let status = wait_for("enough contributions", || {
        let status = server.status()?;
        Ok((whole(&status, "contributions_accepted")? >= CONTRIBUTIONS).then_some(status))
    })?;
    ensure!(
        status["local_steps"] == true && status["contribution_codec"] == "int8" && status["model_codec"] == "int8",
        "{status:#}"
    );
    let positive = |key: &str| status[key].as_f64().is_some_and(|value| value > 0.0);
    ensure!(positive("grace_seconds") && positive("weight"), "{status:#}");
    // For each contribution, a model comes back: in f32 each is four bytes for a parameter. In int8 it is a quarter of
    // that, but every volunteer also gets the difference to a version that it missed.
    let bytes = whole(&status, "bytes_up")? + whole(&status, "bytes_down")?;
    let contributions = whole(&status, "contributions_accepted")?;
    let in_f32 = 2 * contributions * 4 * DIGITS_PARAMETERS;
    ensure!(bytes < in_f32 / 2, "{bytes} bytes, of {in_f32} in f32: {status:#}");
    ensure!(
        whole(&status, "bytes_up")? > contributions * DIGITS_PARAMETERS,
        "not every byte was counted: {status:#}"
    );
    Ok(bytes)
}

/// Waits until the links of both volunteers are measured. Each entry agrees with itself, and comes alone where one asks
/// for it.
fn expect_links(server: &Server) -> Result<()> {
    let volunteers = wait_for("what is known of both links", || {
        let volunteers = server.ask("volunteers")?;
        let list = volunteers.as_array().context("a list")?;
        let are_known = list.len() == 2 && list.iter().all(|volunteer| volunteer["link_share"].is_f64());
        Ok(are_known.then(|| list.clone()))
    })?;
    for volunteer in &volunteers {
        let seconds = |key: &str| {
            volunteer[key]
                .as_f64()
                .with_context(|| format!("{key} in {volunteer:#}"))
        };
        let busy = seconds("upload_seconds")? + seconds("download_seconds")?;
        let share = busy / seconds("period_seconds")?;
        ensure!((share - seconds("link_share")?).abs() < 1e-9, "{volunteer:#}");
        // As a tab asks for its own.
        let alone = server.ask(&format!("volunteers?id={}", volunteer["id"]))?;
        ensure!(
            alone.as_array().is_some_and(|list| list.len() == 1) && alone[0]["id"] == volunteer["id"],
            "{alone:#}"
        );
    }
    ensure!(
        server.ask("volunteers?id=0")? == serde_json::json!([]),
        "there is a volunteer 0"
    );
    Ok(())
}

fn expect_keys(object: &Value, keys: &[&str]) -> Result<()> {
    let object = object.as_object().with_context(|| format!("an object: {object}"))?;
    let missing: Vec<_> = keys.iter().filter(|key| !object.contains_key(**key)).collect();
    ensure!(missing.is_empty(), "{missing:?} are not in {object:#?}");
    Ok(())
}
