//! `superstep evaluate`: how model files do on a run's held-out samples.

use std::sync::Arc;

use anyhow::{Context, Result};

use crate::cli::EvaluateArguments;
use crate::dataset::Dataset;
use crate::evaluation::Evaluator;
use crate::model_file::read_model_file;
use crate::run_file::RunFile;

/// Prints a line for each model file.
pub(crate) fn evaluate(arguments: &EvaluateArguments) -> Result<()> {
    let run_file = match &arguments.run {
        Some(path) => RunFile::load(path)?,
        None => RunFile::digits()?,
    };
    let dataset = Arc::new(Dataset::load(&run_file.dataset, run_file.seed)?);
    let model = Arc::new(run_file.model_for(&dataset.format)?);
    let mut evaluator = Evaluator::new(Arc::clone(&model), dataset);
    println!("model\tversion\tsamples\tloss\taccuracy");
    for path in &arguments.models {
        let place = || path.display().to_string();
        let bytes = std::fs::read(path).with_context(place)?;
        let (parameters, about) = read_model_file(&model, &bytes).with_context(place)?;
        let evaluation = evaluator.evaluate(&parameters);
        let of_all = evaluation.samples.max(1) as f64;
        let (loss, accuracy) = (evaluation.loss_sum / of_all, evaluation.correct as f64 / of_all);
        println!(
            "{}\t{}\t{}\t{loss:.4}\t{accuracy:.4}",
            path.display(),
            about.version,
            about.samples
        );
    }
    Ok(())
}
