//! Gradient steps on one native thread: ours, and PyTorch's.

use std::process::Command;

use anyhow::{Context, Result, bail};
use nn::loss::Answers;
use nn::{Minibatch, Targets};
use serde_json::{Value, json};
use tests::program::{output_of, root};

use super::model::Model;
use super::stopwatch::units_per_second;
use super::{Answer, Figure};

/// Debian's, which has Debian's PyTorch; another one on the path may have none.
const PYTHON: &str = "/usr/bin/python3";
const SEED: u64 = 1;

/// Samples per second of our gradient steps.
pub(crate) fn ours(model: &Model, seconds: f64) -> Result<Figure> {
    let Model { batch, .. } = *model;
    let model = model.build()?;
    let parameters = model.initial_parameters(SEED);
    let input = |place| match model.tokens() {
        Some(tokens) => (place * 37 % tokens) as f32,
        None => (place * 37 % 256) as f32 / 255.0 - 0.5,
    };
    let inputs: Vec<f32> = (0..batch * model.inputs()).map(input).collect();
    let Answers::Classes { positions, classes } = model.answers() else {
        bail!("the model has no classes");
    };
    let targets: Vec<u32> = (0..batch * positions)
        .map(|position| (position % classes) as u32)
        .collect();
    let minibatch = Minibatch {
        inputs: &inputs,
        targets: Targets::Classes(&targets),
        key: None,
    };
    let mut gradient = vec![0.0; model.parameter_count()];
    let mut scratch = model.scratch(batch);
    Ok(Figure {
        units_per_second: units_per_second(batch as f64, seconds, || {
            model.gradient(&parameters, &minibatch, &mut gradient, &mut scratch);
        }),
        threads: 1,
    })
}

/// Samples per second of PyTorch's gradient steps.
pub(crate) fn pytorch(model: &Model, seconds: f64) -> Result<Figure> {
    let request = json!({
        "model": model.spec,
        "batch": model.batch,
        "seed": SEED,
        "parameters": model.build()?.parameter_count(),
        "seconds": seconds,
    });
    serde_json::from_value::<Answer>(ask_pytorch(&request)?)?.into_figure()
}

/// What PyTorch calls itself, or why it is not there.
pub(crate) fn pytorch_version() -> Result<String> {
    let answer = ask_pytorch(&Value::Null)?;
    let said = answer["version"].as_str().or(answer["error"].as_str());
    Ok(said.context("a version")?.to_owned())
}

fn ask_pytorch(request: &Value) -> Result<Value> {
    let mut command = Command::new(PYTHON);
    command.arg(root().join("bench/pytorch.py")).arg(request.to_string());
    // PyTorch's own setting does not reach every library of products.
    for variable in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"] {
        command.env(variable, "1");
    }
    let output = output_of(command).with_context(|| format!("PyTorch was left out: {PYTHON} is not there"))?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).with_context(|| stderr.trim().to_owned())
}
