//! `superstep evaluate`: how model files do on a run's held-out samples.

use std::sync::Arc;

use anyhow::{Context, Result};
use run::Run;

use crate::cli::EvaluateArguments;
use crate::evaluation::Evaluator;
use crate::model_file::read_model_file;

/// Prints a line for each model file.
pub(crate) fn evaluate(arguments: &EvaluateArguments) -> Result<()> {
    let Run { dataset, model, .. } = Run::load(arguments.run.as_deref())?;
    let mut evaluator = Evaluator::new(Arc::clone(&model), dataset);
    println!("model\tversion\tsamples\tloss\taccuracy");
    for path in &arguments.models {
        let place = || path.display().to_string();
        let bytes = std::fs::read(path).with_context(place)?;
        let (parameters, about) = read_model_file(&model, &bytes).with_context(place)?;
        let evaluation = evaluator.evaluate(&parameters);
        println!(
            "{}\t{}\t{}\t{:.4}\t{}",
            path.display(),
            about.version,
            about.samples,
            evaluation.loss,
            evaluation.accuracy_text()
        );
    }
    Ok(())
}
