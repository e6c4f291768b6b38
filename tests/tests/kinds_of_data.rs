//! Texts and tables: what is not pictures is trained in tabs too, and the page says what it can of it.

use anyhow::{Result, ensure};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::native_volunteer::native_volunteer;
use tests::run_file::RunText;
use tests::server::Serve;
use tests::tab::Tab;
use tests::wait::wait_until;

/// The model of runs/char-transformer.toml takes minutes to learn the commonest words; what these layers learn in
/// seconds is which character follows which.
const SMALL_TRANSFORMER: &str = r#"
[[model.layers]]
kind = "embedding"
tokens = 73
width = 32

[[model.layers]]
kind = "positional_embedding"

[[model.layers]]
kind = "residual"
layers = [{ kind = "layer_norm" }, { kind = "causal_self_attention", heads = 2 }]

[[model.layers]]
kind = "layer_norm"

[[model.layers]]
kind = "linear"
outputs = 73
"#;

#[test]
fn a_tab_and_a_native_volunteer_learn_to_continue_a_text() -> Result<()> {
    let run = RunText::of_runs("char-transformer.toml")?
        .with("positions = 128", "positions = 32")?
        .with("input = [128]", "input = [32]")?
        .with("held_out = 0.05", "held_out = 0.01")?
        .with("interval_seconds = 30", "interval_seconds = 1")?
        .with("learning_rate = 0.001", "learning_rate = 0.003")?
        .with_layers(SMALL_TRANSFORMER)?;
    let server = Serve::kiosk().run(run).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    let _native = native_volunteer(server.url())?;
    server.wait_for_contributors(2)?;
    // Which character follows which is worth some 2.5 nats; how often each comes alone, 3.2.
    wait_until("more than that on held-out characters", || {
        Ok(server.status()?["eval"]["loss"].as_f64().is_some_and(|loss| loss < 2.9))
    })?;
    let view = tab.wait_until("an accuracy", |view| view.number("accuracy").is_some())?;
    ensure!(view.number("accuracy") < Some(1.0), "{view:#?}");
    driver.expect_no_console_errors()
}

#[test]
fn a_tab_learns_a_table_whose_answers_have_no_accuracy() -> Result<()> {
    let server = Serve::kiosk().run(RunText::of_runs("regression.toml")?).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    // Prices are scaled so that the loss of always saying their mean is 1.
    wait_until("a fifth of that loss on held-out samples", || {
        Ok(server.status()?["eval"]["loss"].as_f64().is_some_and(|loss| loss < 0.2))
    })?;
    let status = server.status()?;
    ensure!(
        status["target_loss"].is_number()
            && status["target_accuracy"].is_null()
            && status["eval"]["accuracy"].is_null(),
        "{status:#}"
    );
    let view = tab.wait_until("a loss", |view| view.number("loss").is_some_and(|loss| loss < 0.2))?;
    ensure!(view.number("accuracy").is_none(), "{view:#?}");
    driver.expect_no_console_errors()
}
