//! The main thing: tabs and native volunteers train one model.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::model::ModelFile;
use tests::native_volunteer::native_volunteer;
use tests::program::{output_of, superstep};
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};
use tests::tab::Tab;
use tests::wait::{wait_for, wait_until};

#[test]
fn two_tabs_train_digits_to_95_percent_and_the_server_says_where_the_model_is() -> Result<()> {
    // Learns slowly enough for both tabs to have a part in it.
    let run = RunText::digits()?
        .with("target_accuracy = 0.97", "target_accuracy = 0.95")?
        .with("learning_rate = 0.003", "learning_rate = 0.0003")?;
    let mut server = Serve {
        stop_at_target: true,
        ..Serve::kiosk().run(run)
    }
    .start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tabs = [Tab::open(&driver, server.url())?, Tab::open(&driver, server.url())?];
    for tab in &tabs {
        tab.wait_for_state("not-contributing")?;
    }
    // Both are held back until both are there.
    for tab in &tabs {
        tab.press("start")?;
        tab.press("pause")?;
    }
    for tab in &tabs {
        let view = tab.wait_for_state("paused")?;
        ensure!(view.isolated == "true", "the page is not isolated: {view:#?}");
    }
    for tab in &tabs {
        tab.press("pause")?;
    }
    server.wait_for_contributors(2)?;
    driver.expect_no_console_errors()?;

    let status = server.wait_for_end()?;
    ensure!(status.success(), "the server ended with {status}");
    let summary = expect_model_and_summary(&server)?;
    let accuracy = summary["status"]["eval"]["accuracy"].as_f64();
    ensure!(
        accuracy.is_some_and(|accuracy| accuracy >= 0.95),
        "the accuracy is {accuracy:?}"
    );
    for tab in &tabs {
        let view = tab.wait_for_state("finished")?;
        ensure!(
            view.number("my-samples") > Some(0.0),
            "a tab computed nothing: {view:#?}"
        );
    }
    Ok(())
}

#[test]
fn the_model_that_reached_the_target_is_the_one_that_is_written() -> Result<()> {
    let mut server = Serve {
        stop_at_target: true,
        ..Serve::default()
    }
    .start()?;
    let _native = native_volunteer(server.url())?;
    let status = server.wait_for_end()?;
    ensure!(status.success(), "the server ended with {status}");
    let summary = expect_model_and_summary(&server)?;
    let reached = &summary["status"]["eval"];
    ensure!(
        whole(&summary, "model_version")? == whole(reached, "version")?,
        "another version was evaluated: {summary:#}"
    );
    let mut evaluate = superstep();
    evaluate.arg("evaluate").arg(server.out().join("model.safetensors"));
    let output = output_of(evaluate)?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let accuracy = reached["accuracy"].as_f64().context("an accuracy")?;
    ensure!(
        printed
            .lines()
            .nth(1)
            .is_some_and(|line| line.ends_with(&format!("{accuracy:.4}"))),
        "{accuracy} was reached, but the written model has:\n{printed}"
    );
    Ok(())
}

#[test]
fn closing_a_tab_leaves_the_other_training() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let leaving = Tab::open(&driver, &server.joining_url(1))?;
    let staying = Tab::open(&driver, &server.joining_url(1))?;
    server.wait_for_contributors(2)?;
    driver.expect_no_console_errors()?;
    leaving.close()?;
    let left = wait_for("one volunteer to be left", || match server.volunteers()?[..] {
        [volunteer] => Ok(Some(volunteer)),
        _ => Ok(None),
    })?;
    let samples = staying.look()?.number("my-samples");
    server.wait_for_more_of(left.id)?;
    let view = staying.wait_until("that it goes on", |view| view.number("my-samples") > samples)?;
    ensure!(
        view.states.iter().filter(|state| *state == "training").count() == 1,
        "it was disturbed: {view:#?}"
    );
    driver.expect_no_console_errors()
}

#[test]
fn a_browser_and_a_native_volunteer_train_together() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    let mut native = native_volunteer(server.url())?;
    for volunteer in server.wait_for_contributors(2)? {
        server.wait_for_more_of(volunteer.id)?;
    }
    tab.wait_until("both", |view| view.number("volunteers") == Some(2.0))?;

    // A volunteer that is asked to leave does so at once, with all that it had.
    native.signal("TERM")?;
    let status = native.wait_for_end()?;
    ensure!(status.success(), "the native volunteer ended with {status}");
    wait_until(
        "the native volunteer to be gone",
        || Ok(server.volunteers()?.len() == 1),
    )?;
    server.wait_for_more_of(server.volunteers()?[0].id)?;
    driver.expect_no_console_errors()
}

#[test]
fn a_stopped_server_leaves_its_model_and_a_summary() -> Result<()> {
    let mut server = Serve::default().start()?;
    let _native = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    let samples = server.samples()?;
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}");
    let summary = expect_model_and_summary(&server)?;
    ensure!(
        whole(&summary["status"], "samples")? >= samples,
        "fewer than {samples} samples in {summary:#}"
    );
    ensure!(whole(&summary, "samples_lost")? == 0, "samples were lost: {summary:#}");
    ensure!(
        whole(&summary, "model_version")? == whole(&summary["status"], "version")?,
        "not the last version is written: {summary:#}"
    );
    ensure!(
        whole(&summary, "samples_in_model")? == whole(&summary["status"], "samples")?,
        "lost: {summary:#}"
    );
    Ok(())
}

/// Both are there, the log says where, and the model is one that PyTorch's `Sequential` would take.
fn expect_model_and_summary(server: &Server) -> Result<Value> {
    let [model, summary] = ["model.safetensors", "summary.json"].map(|name| server.out().join(name));
    for path in [&model, &summary] {
        let said = format!("wrote {}", path.display());
        ensure!(
            server.log().iter().any(|line| line.ends_with(&said)),
            "the log does not say {said:?}"
        );
    }
    let summary: Value = serde_json::from_slice(&std::fs::read(summary)?)?;
    let model = ModelFile::read(&std::fs::read(model)?)?;
    ensure!(
        model.version == whole(&summary, "model_version")?,
        "version {} is not in {summary:#}",
        model.version
    );
    // Of runs/digits.toml: the layers with parameters, by their place, as `torch.nn.Sequential` counts.
    let expected: [(&str, &[usize]); 8] = [
        ("0.bias", &[16]),
        ("0.weight", &[16, 1, 3, 3]),
        ("3.bias", &[32]),
        ("3.weight", &[32, 16, 3, 3]),
        ("6.bias", &[64]),
        ("6.weight", &[64, 512]),
        ("8.bias", &[10]),
        ("8.weight", &[10, 64]),
    ];
    ensure!(model.shapes() == expected, "the model holds {:?}", model.shapes());
    ensure!(
        server.stdout().len() == 1,
        "more than the address is on standard output: {:?}",
        server.stdout()
    );
    Ok(summary)
}
