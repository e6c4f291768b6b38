//! What scripts rely on.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::http::get;
use tests::native_volunteer::native_volunteer;
use tests::server::Serve;

#[test]
fn status_and_volunteers_have_every_key_that_scripts_rely_on() -> Result<()> {
    let server = Serve::default().start()?;
    let _native = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    let status = server.status()?;
    expect_keys(
        &status,
        &[
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
        ],
    )?;
    let evaluated = tests::wait::wait_for("an evaluation", || {
        let eval = server.status()?["eval"].take();
        Ok((!eval.is_null()).then_some(eval))
    })?;
    expect_keys(&evaluated, &["version", "accuracy", "loss"])?;
    let volunteers = server.ask("volunteers")?;
    let volunteer = &volunteers[0];
    expect_keys(
        volunteer,
        &[
            "id",
            "ml_modules",
            "samples",
            "samples_per_second",
            "staleness",
            "time",
            "accepted",
            "refused",
            "last_seen_seconds",
        ],
    )?;
    let shares = ["gradient", "add", "read", "wait"];
    expect_keys(&volunteer["time"], &shares)?;
    let sum: f64 = shares
        .iter()
        .filter_map(|share| volunteer["time"][share].as_f64())
        .sum();
    ensure!((sum - 1.0).abs() < 1e-9, "the shares of time are {volunteer:#}");
    ensure!(
        get(&format!("{}/healthz", server.url()))?.status() == 200,
        "it is not healthy"
    );
    Ok(())
}

fn expect_keys(object: &Value, keys: &[&str]) -> Result<()> {
    let object = object.as_object().with_context(|| format!("an object: {object}"))?;
    let missing: Vec<_> = keys.iter().filter(|key| !object.contains_key(**key)).collect();
    ensure!(missing.is_empty(), "{missing:?} are not in {object:#?}");
    Ok(())
}
