//! What is written when a run ends, besides the model.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use run::Run;
use run::model_file::{model_file, write_whole};
use run::run_file::RunFile;
use serde::Serialize;

use crate::api::Status;
use crate::controller::Ended;
use crate::history::EvaluationPoint;

/// `summary.json`.
#[derive(Serialize)]
struct Summary<'a> {
    /// The program's version.
    superstep: &'static str,
    status: Status,
    /// The version of the model that is written: the last, or the one whose evaluation reached the run's aim.
    model_version: u64,
    supersteps: u64,
    /// Samples in the last version.
    samples_in_model: u64,
    /// Accepted samples that came too late for any model: none, unless it diverged.
    samples_lost: u64,
    mean_superstep_samples: f64,
    mean_staleness: f64,
    /// By staleness, from 0 to 1; none without samples.
    mean_weight: Option<f64>,
    /// Bytes of all frames that came from volunteers …
    bytes_up: u64,
    /// … and that went to them …
    bytes_down: u64,
    /// … and both for each accepted sample; none without samples.
    bytes_per_sample: Option<f64>,
    evaluations: Vec<EvaluationPoint>,
    run_file: &'a RunFile,
}

/// Writes `model.safetensors` and `summary.json` into `out`, and says where they are.
pub(crate) fn write(out: &Path, run: &Run, status: Status, ended: &Ended) -> Result<[PathBuf; 2]> {
    let Run {
        run_file,
        dataset,
        model,
    } = run;
    std::fs::create_dir_all(out).with_context(|| format!("{}: can't be made", out.display()))?;
    let controller = &ended.controller;
    let central = controller.central();
    let (about, parameters) = controller.result(run_file.name.clone());
    let bytes = model_file(model, parameters, dataset.legend.as_ref(), &about)?;
    let model_path = out.join("model.safetensors");
    write_whole(&model_path, &bytes)?;
    let (totals, traffic) = (central.totals(), controller.traffic());
    let samples = totals.samples;
    let (bytes_up, bytes_down) = (traffic.up(), traffic.down());
    let summary = Summary {
        superstep: env!("CARGO_PKG_VERSION"),
        status,
        model_version: about.version,
        supersteps: totals.supersteps,
        samples_in_model: totals.samples_in_model,
        samples_lost: samples - totals.samples_in_model,
        mean_superstep_samples: totals.samples_in_model as f64 / totals.supersteps.max(1) as f64,
        mean_staleness: totals.mean_staleness(),
        mean_weight: totals.mean_weight(),
        bytes_up,
        bytes_down,
        bytes_per_sample: (samples > 0).then(|| (bytes_up + bytes_down) as f64 / samples as f64),
        evaluations: controller.history().reader().curves().eval,
        run_file,
    };
    let summary_path = out.join("summary.json");
    write_whole(&summary_path, &serde_json::to_vec_pretty(&summary)?)?;
    Ok([model_path, summary_path])
}
