//! What is written when a run ends, besides the model.

use std::path::Path;

use anyhow::{Context, Result};
use bsp::time::Time;
use run::Run;
use run::model_file::{About, model_file};
use run::out_folder::{self, Kept, Left, Results};
use run::run_file::RunFile;
use serde::Serialize;

use crate::api::Status;
use crate::controller::{Controller, Ended};
use crate::divergence;
use crate::history::EvaluationPoint;

/// `summary.json`.
#[derive(Serialize)]
struct Summary<'a> {
    /// The program's version.
    superstep: &'static str,
    /// The run's own number: it stays the same when the run goes on after a restart.
    run_id: String,
    status: Status,
    /// The version of the model that is written: the last, or the one whose evaluation reached the run's aim.
    model_version: u64,
    supersteps: u64,
    /// Samples in the last version.
    samples_in_model: u64,
    /// Accepted samples that no model holds, and none will, by the same count as the status's.
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

/// Leaves the model, the best one if that is another, and the summary in `out`, and says in the log where they are. If
/// they can't be written there, they are left in a new folder elsewhere.
///
/// # Errors
/// They could not be written in `out`; the error says where they are.
pub(crate) fn write(out: &Path, run: &Run, status: Status, ended: &Ended) -> Result<()> {
    let (about, parameters) = divergence::result(run, &ended.controller);
    let model = model_file(&run.model, &parameters, run.dataset.legend.as_ref(), &about)?;
    let best = best_model(run, &ended.controller, &parameters)?;
    let run_id = run_id(&ended.controller);
    let summary = serde_json::to_vec_pretty(&summary(run, status, ended, &about))?;
    let results = Results {
        about: &about,
        run_id: &run_id,
        model: &model,
        best: best.as_deref(),
        summary: &summary,
    };
    let Err(error) = leave(out, &results) else {
        return Ok(());
    };
    for folder in out_folder::elsewhere(&about.run) {
        match leave(&folder, &results) {
            Ok(()) => {
                let place = folder.display();
                return Err(error).context(format!("the model and the summary are in {place} instead"));
            }
            Err(error) => tracing::error!("{error:#}"),
        }
    }
    Err(error).context("the model is lost: it can't be written anywhere")
}

/// The file of the best model, where one is kept and it is another than the one that the run leaves.
fn best_model(run: &Run, controller: &Controller, parameters: &[f32]) -> Result<Option<Vec<u8>>> {
    let Some(best) = controller.kept_best().filter(|best| best.parameters != parameters) else {
        return Ok(None);
    };
    let about = About {
        run: run.run_file.name.clone(),
        version: best.point.version,
        samples: best.point.samples,
    };
    let file = model_file(&run.model, &best.parameters, run.dataset.legend.as_ref(), &about)?;
    Ok(Some(file))
}

fn leave(folder: &Path, results: &Results<'_>) -> Result<()> {
    match out_folder::leave(folder, results)? {
        Left::Written { paths, kept } => {
            if let Some(kept) = kept {
                tracing::warn!("{} was there; it is {} now", described(&kept), kept.path.display());
            }
            for path in paths {
                tracing::info!("wrote {}", path.display());
            }
        }
        Left::Nothing(kept) => tracing::warn!(
            "no version was made, so nothing was written: {} stays in {}",
            described(&kept),
            kept.path.display()
        ),
    }
    Ok(())
}

fn described(kept: &Kept) -> String {
    match &kept.about {
        Some(about) => format!("version {} of run {}", about.version, about.run),
        None => "a file that is no model".to_owned(),
    }
}

fn run_id(controller: &Controller) -> String {
    format!("{:016x}", controller.central().config().run.0)
}

fn summary<'a>(run: &'a Run, status: Status, ended: &'a Ended, about: &About) -> Summary<'a> {
    let controller = &ended.controller;
    let (totals, traffic) = (controller.central().totals(), controller.traffic());
    let samples = totals.samples;
    let (bytes_up, bytes_down) = (traffic.up(), traffic.down());
    Summary {
        superstep: env!("CARGO_PKG_VERSION"),
        run_id: run_id(controller),
        status,
        model_version: about.version,
        supersteps: totals.supersteps,
        samples_in_model: totals.samples_in_model,
        samples_lost: controller.central().samples_lost(Time::ZERO + ended.elapsed).total(),
        mean_superstep_samples: totals.samples_in_model as f64 / totals.supersteps.max(1) as f64,
        mean_staleness: totals.mean_staleness(),
        mean_weight: totals.mean_weight(),
        bytes_up,
        bytes_down,
        bytes_per_sample: (samples > 0).then(|| (bytes_up + bytes_down) as f64 / samples as f64),
        evaluations: controller.history().reader().curves().eval,
        run_file: &run.run_file,
    }
}
