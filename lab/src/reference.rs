//! `superstep reference`: the sequential baseline. It trains with the same model, data, minibatches and optimizer on
//! one thread, without a BSP system. Runs are measured against it. In lockstep, with one volunteer of one ML module, a
//! run must agree with it bit for bit.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use run::Run;
use run::model_file::{About, model_file, write_whole};
use run::out_folder;

use crate::output::print;
use crate::sequential::SequentialTraining;

/// How to train the sequential baseline.
#[derive(Clone, Copy, Debug)]
pub struct ReferenceOptions<'a> {
    /// The run file; `None` is the run of the embedded digits.
    pub run: Option<&'a Path>,
    /// Samples of one step, a multiple of the run's minibatch; `None` is the run's `superstep_samples`.
    pub batch: Option<u64>,
    /// Stop after this many steps; `None` stops at the run's aim.
    pub steps: Option<u64>,
    /// Samples to train on from one evaluation to the next.
    pub evaluate_every: u64,
    /// Where to write the model at the end, as `safetensors`.
    pub model: Option<&'a Path>,
}

/// Trains, and prints a line for each evaluation.
///
/// # Errors
/// A run that can't be loaded, options that don't fit it, a model that has diverged or can't be written.
pub fn reference(options: &ReferenceOptions<'_>) -> Result<()> {
    let run = Run::load(options.run)?;
    let run_file = &run.run_file;
    let minibatch = run_file.training.minibatch;
    let goal = run_file.goal();
    ensure!(
        options.steps.is_some() || goal.is_some(),
        "the run has no target: say with --steps when to stop"
    );
    let batch = options.batch.unwrap_or(run_file.training.superstep_samples);
    ensure!(
        batch > 0 && batch.is_multiple_of(minibatch as u64),
        "--batch {batch}: must be a multiple of the run's minibatch, {minibatch}"
    );

    if let Some(path) = options.model {
        try_to_write(path, size_of::<f32>() * run.model.parameter_count())?;
    }
    let mut sequential = SequentialTraining::new(&run);
    let mut evaluator = run.evaluator();
    let began = Instant::now();
    let mut evaluated = 0;
    // Training goes on for the model's sake if these lines can't be printed.
    let report = |line: &str| match print(line) {
        Err(_) if options.model.is_some() => Ok(()),
        printed => printed,
    };
    report("samples\tseconds\tloss\taccuracy\n")?;
    for version in 1.. {
        sequential.step(batch)?;
        let trained = sequential.trained();
        let is_last = options.steps.is_some_and(|steps| version >= steps);
        if !is_last && trained - evaluated < options.evaluate_every {
            continue;
        }
        evaluated = trained;
        let evaluation = evaluator.evaluate(sequential.parameters());
        let seconds = began.elapsed().as_secs_f64();
        report(&format!(
            "{trained}\t{seconds:.1}\t{:.4}\t{}\n",
            evaluation.loss,
            evaluation.accuracy_text()
        ))?;
        ensure!(
            evaluation.loss.is_finite(),
            "the model has diverged after {trained} samples; lower the learning rate"
        );
        if is_last || (options.steps.is_none() && goal.is_some_and(|goal| goal.is_reached_by(&evaluation))) {
            if let Some(path) = options.model {
                let about = About {
                    run: run_file.name.clone(),
                    version,
                    samples: trained,
                };
                let legend = run.dataset.legend.as_ref();
                write(
                    path,
                    &model_file(&run.model, sequential.parameters(), legend, &about)?,
                    &about,
                )?;
            }
            return Ok(());
        }
    }
    Ok(())
}

/// Finds out before the training what would be too late to find out after it.
fn try_to_write(path: &Path, bytes: usize) -> Result<()> {
    ensure!(
        !path.is_dir(),
        "--model {}: is a folder; name a file in it",
        path.display()
    );
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    out_folder::probe(folder.unwrap_or(Path::new(".")), bytes)
        .map_err(|error| anyhow!("{error}: {}; choose another file with --model", error.source))
}

/// Writes the model here, or elsewhere if that can't be; then the error says where.
fn write(path: &Path, model: &[u8], about: &About) -> Result<()> {
    let Err(error) = write_whole(path, model) else {
        return Ok(());
    };
    for folder in out_folder::elsewhere(&about.run) {
        let other = folder.join(out_folder::MODEL);
        if std::fs::create_dir_all(&folder).is_ok() && write_whole(&other, model).is_ok() {
            return Err(error).context(format!("the model is in {} instead", other.display()));
        }
    }
    Err(error).context("the model is lost: it can't be written anywhere")
}
