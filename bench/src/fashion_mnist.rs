//! Two tabs of one ML module each train Fashion-MNIST; beside them plain training on one thread, with the same
//! optimizer, at the mean batch of the tabs' supersteps.
//!
//! Models are collected while the tabs train and evaluated afterwards, so that evaluating takes no time from training.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tempfile::TempDir;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::program::{output_of, root, superstep};
use tests::run_file::RunText;
use tests::server::Serve;
use tests::tab::Tab;

const ACCURACIES: [f64; 3] = [0.85, 0.88, 0.90];
const RUN: &str = "runs/fashion-mnist.toml";
/// Samples from one collected model to the next; the reference is evaluated as often.
const EVERY_SAMPLES: u64 = 5_000;
/// An accuracy is reached when the mean of this many evaluations reaches it: a single one is off by up to a percentage
/// point by luck, and for that much training takes tens of thousands of samples.
const EVALUATIONS: usize = 4;
/// Well over what either needs for the last accuracy.
const ENOUGH_SAMPLES: u64 = 650_000;
const PATIENCE: Duration = Duration::from_secs(300);
const SEEDS: [u64; 3] = [1, 2, 3];

/// One model on all held-out samples.
struct Evaluation {
    samples: f64,
    seconds: f64,
    accuracy: f64,
}

/// What two tabs came to.
struct Tabs {
    /// The models that were collected, and their age in seconds, counted from the first superstep.
    models: Vec<(PathBuf, f64)>,
    superstep_samples: f64,
    staleness: f64,
}

pub(crate) fn measure() -> Result<String> {
    let mut table = String::from(
        "## Fashion-MNIST: two tabs, one ML module each, against plain training\n\n\
         Plain training: one thread, native, the same optimizer and minibatches, at the tabs' mean superstep batch. \
         Both were \
         evaluated on all held-out samples every 5,000 samples; an accuracy is reached when the mean of four \
         evaluations is.\n\n\
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
        let tabs = train_tabs(&text, &directory)?;
        let minibatch = 32.0;
        let batch = ((tabs.superstep_samples / minibatch).round().max(1.0) * minibatch) as u64;
        // No timing is taken of these, so they may share the machine.
        let (curve, plain) = thread::scope(|scope| {
            let curve = scope.spawn(|| evaluate(&run_file, &tabs.models));
            let plain = train_plainly(&run_file, batch);
            (curve.join(), plain)
        });
        let curve = curve.map_err(|_| anyhow!("the evaluation has panicked"))??;
        let plain = plain?;
        for (accuracy, ratios) in ACCURACIES.iter().zip(&mut ratios) {
            let percent = accuracy * 100.0;
            let (Some(tabs_at), Some(plain_at)) = (reached(&curve, *accuracy), reached(&plain, *accuracy)) else {
                writeln!(table, "| {seed} | | | {percent:.0} % | not reached by both | | | |")?;
                continue;
            };
            let ratio = tabs_at.samples / plain_at.samples;
            ratios.push(ratio);
            writeln!(
                table,
                "| {seed} | {:.0} samples | {:.2} | {percent:.0} % | {:.0} | {:.1} | {:.0} | {ratio:.2} |",
                tabs.superstep_samples, tabs.staleness, tabs_at.samples, tabs_at.seconds, plain_at.samples,
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

fn train_tabs(text: &RunText, directory: &TempDir) -> Result<Tabs> {
    let mut server = Serve::kiosk().run(text.clone()).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let _first = Tab::open(&driver, &server.joining_url(1))?;
    let _second = Tab::open(&driver, &server.joining_url(1))?;
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

    for (_, seconds) in &mut models {
        *seconds -= first_seconds;
    }
    Ok(Tabs {
        models,
        superstep_samples: summary["mean_superstep_samples"].as_f64().context("a mean superstep")?,
        staleness: summary["mean_staleness"].as_f64().context("a mean staleness")?,
    })
}

fn evaluate(run_file: &Path, models: &[(PathBuf, f64)]) -> Result<Vec<Evaluation>> {
    let mut command = superstep();
    command.arg("evaluate").arg("--run").arg(run_file);
    command.args(models.iter().map(|(path, _)| path));
    let lines = lines_of(command)?;
    let curve = lines.iter().zip(models).map(|(line, (_, seconds))| {
        Ok(Evaluation {
            samples: column(line, 2)?,
            seconds: *seconds,
            accuracy: column(line, 4)?,
        })
    });
    curve.collect()
}

/// Trains to the target accuracy, by a mean of evaluations; that is later than where the reference would stop by
/// itself.
fn train_plainly(run_file: &Path, batch: u64) -> Result<Vec<Evaluation>> {
    let mut command = superstep();
    command.arg("reference").arg(run_file);
    command.arg("--batch").arg(batch.to_string());
    command.arg("--steps").arg((ENOUGH_SAMPLES / batch).to_string());
    command.arg("--evaluate-every").arg(EVERY_SAMPLES.to_string());
    let curve = lines_of(command)?.into_iter().map(|line| {
        Ok(Evaluation {
            samples: column(&line, 0)?,
            seconds: column(&line, 1)?,
            accuracy: column(&line, 3)?,
        })
    });
    curve.collect()
}

/// The middle of the first [`EVALUATIONS`] in a row whose mean is at least `accuracy`.
fn reached(curve: &[Evaluation], accuracy: f64) -> Option<Evaluation> {
    let mean = |window: &[Evaluation], figure: fn(&Evaluation) -> f64| {
        window.iter().map(figure).sum::<f64>() / window.len() as f64
    };
    let mut means = curve.windows(EVALUATIONS).map(|window| Evaluation {
        samples: mean(window, |e| e.samples),
        seconds: mean(window, |e| e.seconds),
        accuracy: mean(window, |e| e.accuracy),
    });
    means.find(|mean| mean.accuracy >= accuracy)
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
