//! `superstep evaluate`: how model files do on a run's held-out samples.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use run::Run;
use run::model_file::read_model_file;

use crate::output::print;

/// Prints a line for each model file: how it does on all held-out samples of the run (of the embedded digits without
/// `run`).
///
/// # Errors
/// A run that can't be loaded, and the first file that is no model of it.
pub fn evaluate(run: Option<&Path>, models: &[PathBuf]) -> Result<()> {
    let run = Run::load(run)?;
    let mut evaluator = run.evaluator_of_all();
    print("model\tversion\tsamples\tloss\taccuracy\n")?;
    for path in models {
        let place = || path.display().to_string();
        let bytes = std::fs::read(path).with_context(place)?;
        let (parameters, about) = read_model_file(&run.model, &bytes).with_context(place)?;
        let evaluation = evaluator.evaluate(&parameters);
        print(&format!(
            "{}\t{}\t{}\t{:.4}\t{}\n",
            path.display(),
            about.version,
            about.samples,
            evaluation.loss,
            evaluation.accuracy_text()
        ))?;
    }
    Ok(())
}
