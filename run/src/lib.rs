//! What an operator writes, loaded once: a run file ([`run_file`]), its data ([`dataset`]), and what the run aims at
//! ([`goal`]). [`Run::load`] reads all of it. Whatever is wrong is said in one line: file, place, what is wrong, a
//! hint.
//!
//! Besides, it has what training and serving need of a run: its settings for the [`central`] module, the evaluation on
//! its held-out samples ([`Evaluator`]), and the [`model_file`] that an operator takes away from the run's
//! [`out_folder`].

pub mod central;
pub mod dataset;
mod evaluator;
pub mod goal;
mod gradient_check;
pub mod keys;
pub mod model_file;
pub mod out_folder;
pub mod run_file;

use std::path::Path;
use std::sync::Arc;

use nn::Model;
use thiserror::Error;

pub use evaluator::Evaluator;

use crate::dataset::{Dataset, DatasetError};
use crate::run_file::{RunFile, RunFileError};

/// A run: its file, its data, and a model that fits both.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the run file says.
    pub run_file: RunFile,
    /// The data.
    pub dataset: Arc<Dataset>,
    /// The model.
    pub model: Arc<Model>,
}

/// Why a run can't be loaded.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// Its file makes no sense, or the model does not fit the data.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// Its data can't be used.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
}

impl Run {
    /// Loads a run from its file; without one, the run of handwritten digits that is embedded in the program.
    ///
    /// # Errors
    /// What is wrong with the file, the data or the model.
    pub fn load(path: Option<&Path>) -> Result<Run, RunError> {
        Run::new(match path {
            Some(path) => RunFile::load(path)?,
            None => RunFile::digits()?,
        })
    }

    /// Loads the data of a run file, and fits the model to it.
    ///
    /// # Errors
    /// What is wrong with the data or the model.
    pub fn new(run_file: RunFile) -> Result<Run, RunError> {
        let dataset = Dataset::load(&run_file.dataset, run_file.seed)?;
        let model = run_file.model_for(&dataset.format)?;
        Ok(Run {
            run_file,
            dataset: Arc::new(dataset),
            model: Arc::new(model),
        })
    }
}
