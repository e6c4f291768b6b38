//! A run that diverges says so everywhere, takes nobody's time, and keeps the last good model.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::model::ModelFile;
use tests::native_volunteer::native_volunteer;
use tests::program::{Program, output_of, superstep};
use tests::run_file::RunText;
use tests::server::{Serve, Server};
use tests::wait::{wait_for, wait_until};

/// The words by which the log says it.
const SAID: &str = "the run has diverged: ";

/// A regression that nothing but its learning rate keeps from being learned.
fn regression(directory: &TempDir, training: &str) -> Result<RunText> {
    let table = directory.path().join("numbers.csv");
    let rows = (0..240).map(|row| {
        let [a, b] = [f64::from(row % 17) / 17.0, f64::from(row % 11) / 11.0];
        format!("{a:.4},{b:.4},{:.4}\n", 3.0 * a - 2.0 * b)
    });
    std::fs::write(&table, format!("a,b,y\n{}", rows.collect::<String>()))?;
    let path = table.display();
    let text = format!(
        r#"
name = "diverges"
description = "A regression."
seed = 1
target_loss = 0.000001
[dataset]
kind = "csv"
file = "{path}"
targets = ["y"]
[model]
input = [2]
loss = "mean_squared_error"
[[model.layers]]
kind = "linear"
outputs = 32
[[model.layers]]
kind = "relu"
[[model.layers]]
kind = "linear"
outputs = 1
[training]
minibatch = 16
superstep_samples = 64
min_period_ms = 20
{training}
[evaluation]
interval_seconds = 0.5
"#
    );
    let file = directory.path().join("run.toml");
    std::fs::write(&file, text)?;
    RunText::read(&file)
}

fn sgd(rate: &str) -> String {
    format!("[training.optimizer]\nkind = \"sgd\"\n[training.schedule]\nkind = \"constant\"\nlearning_rate = {rate}")
}

fn wait_for_divergence(server: &Server) -> Result<Value> {
    wait_for("the status to say that the run has diverged", || {
        let status = server.status()?;
        Ok((status["state"] == "diverged").then_some(status))
    })
}

/// Everybody is told once, and computes no more.
fn expect_rest(server: &Server, native: &Program) -> Result<()> {
    wait_until("nobody to be connected", || Ok(server.volunteers()?.is_empty()))?;
    wait_until("the volunteer to say why it waits", || {
        let line = "waiting to start afresh: the run has diverged";
        Ok(native.stdout().last().is_some_and(|said| said.starts_with(line)))
    })?;
    let log = server.log();
    ensure!(log.iter().filter(|line| line.contains(SAID)).count() == 1, "{log:#?}");
    ensure!(log.len() < 20, "a flood: {log:#?}");
    Ok(())
}

#[test]
fn a_run_whose_gradients_overflow_says_so_and_takes_nobodys_time_in_every_mode() -> Result<()> {
    let kinds = [
        sgd("5.0"),
        format!("mode = \"lockstep\"\n{}", sgd("5.0")),
        format!("mode = \"asynchronous\"\n{}", sgd("5.0")),
        format!("contribution_codec = \"int8\"\nmodel_codec = \"int8\"\n{}", sgd("5.0")),
        format!("contribution_codec = \"f16\"\n{}", sgd("500.0")),
        format!("{}\n[training.local_steps]\nlearning_rate = 50.0", sgd("1.0")),
    ];
    for training in kinds {
        let directory = TempDir::new()?;
        let mut server = Serve::default().run(regression(&directory, &training)?).start()?;
        let native = native_volunteer(server.url())?;
        let status = wait_for_divergence(&server).with_context(|| training.clone())?;
        let reason = status["reason"].as_str().context("a reason")?;
        ensure!(reason.contains("lower the learning rate"), "{reason}");
        expect_rest(&server, &native).with_context(|| training.clone())?;
        let code = server.stop()?;
        ensure!(code.success(), "the server ended with {code}");
        let model = ModelFile::read(&std::fs::read(server.out().join("model.safetensors"))?)?;
        ensure!(model.is_finite(), "{training}: the written model is not finite");
    }
    Ok(())
}

#[test]
fn a_run_that_may_go_back_does_with_a_lower_learning_rate_and_reaches_its_aim_with_the_same_volunteers() -> Result<()> {
    let go_back = "on_divergence = { factor = 0.0000005, at_most = 2 }\nminibatch";
    let run = RunText::digits()?
        .with("minibatch", go_back)?
        .with("kind = \"adam\"", "kind = \"sgd\"\nmomentum = 0.9")?
        .with("learning_rate = 0.003", "learning_rate = 100000.0")?;
    let mut server = Serve {
        stop_at_target: true,
        ..Serve::default().run(run)
    }
    .start()?;
    let native = native_volunteer(server.url())?;
    let code = server.wait_for_end()?;
    ensure!(code.success(), "the server ended with {code}");
    let log = server.log();
    let went_back = |line: &&String| line.contains("going back to version");
    ensure!(log.iter().filter(went_back).count() == 1, "{log:#?}");
    ensure!(log.iter().any(|line| line.contains("as incarnation 2")), "{log:#?}");
    let said = native.stdout();
    ensure!(
        !said.iter().any(|line| line.contains("afresh")),
        "it starts afresh: {said:#?}"
    );
    Ok(())
}

#[test]
fn a_classifier_whose_loss_is_finite_but_beyond_hope_has_diverged_too() -> Result<()> {
    let run = RunText::digits()?
        .with("kind = \"adam\"", "kind = \"sgd\"\nmomentum = 0.9")?
        .with("learning_rate = 0.003", "learning_rate = 100000.0")?;
    let server = Serve::default().run(run).start()?;
    let native = native_volunteer(server.url())?;
    wait_for_divergence(&server)?;
    expect_rest(&server, &native)
}

#[test]
fn adam_at_a_learning_rate_that_is_far_too_high_does_not_train_silently_on() -> Result<()> {
    // Its loss may be a million times too high at the first evaluation, or far too high at all of them.
    let run = RunText::digits()?.with("learning_rate = 0.003", "learning_rate = 3000.0")?;
    let server = Serve::default().run(run).start()?;
    let native = native_volunteer(server.url())?;
    let status = wait_for_divergence(&server)?;
    let reason = status["reason"].as_str().context("a reason")?;
    ensure!(
        reason.contains("times that of the first model") && reason.contains("lower the learning rate"),
        "{reason}"
    );
    expect_rest(&server, &native)
}

#[test]
fn a_held_out_loss_that_is_not_finite_is_a_divergence_though_training_losses_are_finite() -> Result<()> {
    let directory = TempDir::new()?;
    let run = regression(&directory, &sgd("0.01"))?;
    let table = directory.path().join("numbers.csv");
    let rows = std::fs::read_to_string(&table)?;
    // The held-out rows are the same ones for every seed: an outlier in one of them leaves the others as they are.
    let is_held_out = |row: &usize| -> Result<bool> {
        let changed = rows.lines().enumerate().map(|(number, line)| match number == *row {
            true => "1e25,1e25,1e25",
            false => line,
        });
        std::fs::write(&table, changed.collect::<Vec<_>>().join("\n"))?;
        let mut reference = superstep();
        reference
            .arg("reference")
            .arg(directory.path().join("run.toml"))
            .args(["--steps", "1"]);
        let output = output_of(reference)?;
        Ok(String::from_utf8_lossy(&output.stderr).contains("the model has diverged"))
    };
    (1..=240)
        .find(|row| is_held_out(row).unwrap_or(false))
        .context("a held-out row")?;
    let server = Serve::default().run(run).start()?;
    let _native = native_volunteer(server.url())?;
    wait_for_divergence(&server)?;
    Ok(())
}

#[test]
fn a_run_that_is_to_stop_at_its_target_ends_without_success() -> Result<()> {
    let directory = TempDir::new()?;
    let mut server = Serve {
        stop_at_target: true,
        ..Serve::default().run(regression(&directory, &sgd("5.0"))?)
    }
    .start()?;
    let _native = native_volunteer(server.url())?;
    let status = server.wait_for_end()?;
    ensure!(status.code() == Some(1), "the server ended with {status}");
    let log = server.log();
    ensure!(
        log.last()
            .is_some_and(|line| line.contains(SAID) && line.contains("lower the learning rate")),
        "{log:#?}"
    );
    ensure!(server.out().join("model.safetensors").exists(), "no model");
    Ok(())
}

#[test]
fn a_volunteer_that_only_says_that_nothing_is_finite_stops_no_run() -> Result<()> {
    use bsp::protocol::message::{FromVolunteer, Report};
    use tests::peer::Peer;

    let server = Serve::default().start()?;
    let mut liar = Peer::connect(&server)?.join()?.peer;
    let report = Report {
        ml_modules: 1,
        not_finite: 1_000_000,
        ..Report::default()
    };
    liar.say(&FromVolunteer::Heartbeat(report))?;
    wait_until("the server to look into it", || {
        Ok(server
            .log()
            .iter()
            .any(|line| line.contains("checking a few gradients")))
    })?;
    let _native = native_volunteer(server.url())?;
    let contributors = wait_for("somebody to contribute", || {
        let volunteers = server.volunteers()?;
        Ok(volunteers.into_iter().find(|volunteer| volunteer.samples > 0))
    })?;
    server.wait_for_more_of(contributors.id)?;
    ensure!(server.status()?["state"] == "training", "{:#}", server.status()?);
    Ok(())
}
