//! Two tabs of one ML module each train Fashion-MNIST; beside them plain training on one thread, with the same optimizer, at
//! the mean batch of the tabs' supersteps.
//!
//! Models are collected while the tabs train and evaluated afterwards, so that evaluating takes no time from training.

use std::fmt::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::program::{output_of, root, superstep};
use tests::run_file::RunText;
use tests::server::Serve;

const ACCURACIES: [f64; 3] = [0.85, 0.88, 0.90];
const RUN: &str = "runs/fashion-mnist.toml";
/// Samples from one collected model to the next; the reference is evaluated as often, so that both have as many chances to
/// reach an accuracy by luck.
const EVERY_SAMPLES: u64 = 10_000;
/// Well over what either needs.
const ENOUGH_SAMPLES: u64 = 500_000;
const PATIENCE: Duration = Duration::from_secs(300);
const SEEDS: [u64; 3] = [1, 2, 3];

/// When a run first reached each accuracy: (samples, seconds).
type Reached = [Option<(u64, f64)>; ACCURACIES.len()];

struct Tabs {
    reached: Reached,
    superstep_samples: f64,
    staleness: f64,
}

pub(crate) fn measure() -> Result<String> {
    let mut table = String::from(
        "## Fashion-MNIST: two tabs, one ML module each, against plain training\n\n\
         Plain training: one thread, native, the same optimizer and minibatches, at the tabs' mean superstep batch. First time that \
         the held-out accuracy was reached; evaluated every 10,000 samples.\n\n\
         | seed | mean superstep | staleness | accuracy | tabs: samples | seconds | plain: samples | tabs / plain |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let mut ratios: [Vec<f64>; ACCURACIES.len()] = Default::default();
    for seed in SEEDS {
        let text = RunText::read(&root().join(RUN))?
            .with("seed = 1\n", &format!("seed = {seed}\n"))?
            .with("interval_seconds = 5", "interval_seconds = 3600")?;
        let directory = TempDir::new()?;
        let run_file = directory.path().join("run.toml");
        std::fs::write(&run_file, text.as_str())?;
        let tabs = train_tabs(&text, &run_file, &directory)?;
        let minibatch = 32.0;
        let batch = ((tabs.superstep_samples / minibatch).round().max(1.0) * minibatch) as u64;
        let plain = train_plainly(&run_file, batch)?;
        for (index, accuracy) in ACCURACIES.iter().enumerate() {
            let (Some((samples, seconds)), Some((plain_samples, _))) = (tabs.reached[index], plain[index]) else {
                writeln!(
                    table,
                    "| {seed} | | | {accuracy} | {:?} | | {:?} | |",
                    tabs.reached[index], plain[index]
                )?;
                continue;
            };
            let ratio = samples as f64 / plain_samples as f64;
            ratios[index].push(ratio);
            writeln!(
                table,
                "| {seed} | {:.0} samples | {:.2} | {:.0} % | {samples} | {seconds:.1} | {plain_samples} | {ratio:.2} |",
                tabs.superstep_samples,
                tabs.staleness,
                accuracy * 100.0,
            )?;
        }
    }
    for (accuracy, ratios) in ACCURACIES.iter().zip(&mut ratios) {
        ratios.sort_by(f64::total_cmp);
        if let Some(median) = ratios.get(ratios.len() / 2) {
            writeln!(table, "| median | | | {:.0} % | | | | {median:.2} |", accuracy * 100.0)?;
        }
    }
    Ok(table)
}

fn train_tabs(text: &RunText, run_file: &PathBuf, directory: &TempDir) -> Result<Tabs> {
    let mut server = Serve::kiosk().run(text.clone()).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let _first = driver.open(&server.joining_url(1))?;
    let _second = driver.open(&server.joining_url(1))?;
    server.wait_for_contributors(2)?;
    let began = Instant::now();
    let mut models: Vec<(PathBuf, f64)> = Vec::new();
    let mut next = 0;
    while next < ENOUGH_SAMPLES && began.elapsed() < PATIENCE {
        let samples = server.samples()?;
        if samples < next {
            sleep(Duration::from_millis(20));
            continue;
        }
        next = samples + EVERY_SAMPLES;
        let seconds = server.status()?["elapsed_seconds"].as_f64().context("a time")?;
        let path = directory.path().join(format!("{samples}.safetensors"));
        std::fs::write(&path, server.model_file()?)?;
        models.push((path, seconds));
    }
    let history = server.ask("history")?;
    let first_seconds = history["loss"][0]["elapsed_seconds"]
        .as_f64()
        .context("a first superstep")?;
    drop(driver);
    server.stop()?;
    let summary: Value = serde_json::from_slice(&std::fs::read(server.out().join("summary.json"))?)?;

    let mut command = superstep();
    command
        .arg("evaluate")
        .arg("--run")
        .arg(run_file)
        .args(models.iter().map(|(path, _)| path));
    let mut reached = Reached::default();
    for (line, (_, seconds)) in lines_of(command)?.iter().zip(&models) {
        note(
            &mut reached,
            column(line, 4)?,
            column(line, 2)? as u64,
            seconds - first_seconds,
        );
    }
    Ok(Tabs {
        reached,
        superstep_samples: summary["mean_superstep_samples"].as_f64().context("a mean superstep")?,
        staleness: summary["mean_staleness"].as_f64().context("a mean staleness")?,
    })
}

fn train_plainly(run_file: &PathBuf, batch: u64) -> Result<Reached> {
    let mut command = superstep();
    command
        .arg("reference")
        .arg(run_file)
        .arg("--batch")
        .arg(batch.to_string());
    command.arg("--evaluate-every").arg(EVERY_SAMPLES.to_string());
    let mut reached = Reached::default();
    for line in lines_of(command)? {
        note(
            &mut reached,
            column(&line, 3)?,
            column(&line, 0)? as u64,
            column(&line, 1)?,
        );
    }
    Ok(reached)
}

fn note(reached: &mut Reached, accuracy: f64, samples: u64, seconds: f64) {
    for (reached, wanted) in reached.iter_mut().zip(ACCURACIES) {
        if reached.is_none() && accuracy >= wanted {
            *reached = Some((samples, seconds));
        }
    }
}

/// What a command prints, without its first line.
fn lines_of(command: std::process::Command) -> Result<Vec<String>> {
    let output = output_of(command)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?
        .lines()
        .skip(1)
        .map(str::to_owned)
        .collect())
}

fn column(line: &str, index: usize) -> Result<f64> {
    let text = line
        .split('\t')
        .nth(index)
        .with_context(|| format!("column {index} of {line:?}"))?;
    Ok(text.parse()?)
}
