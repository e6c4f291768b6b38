//! The models whose gradients are measured: the files in `bench/models`. Another model is another file.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use tests::program::root;

/// A model with the minibatch that it is measured at.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Model {
    title: String,
    /// Whether other libraries in the browser build it too.
    pub(crate) browser_peers: bool,
    /// Samples of a step.
    pub(crate) batch: usize,
    /// As the file has it, for peers that build it by themselves, and for ours, which reads it as a run's.
    #[serde(rename = "model")]
    pub(crate) spec: Value,
}

impl Model {
    /// What tables call it.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// Ours.
    pub(crate) fn build(&self) -> Result<nn::Model> {
        let spec = serde_json::from_value(self.spec.clone()).with_context(|| self.title.clone())?;
        nn::Model::new(&spec).with_context(|| self.title.clone())
    }
}

/// All models, the largest minibatch first.
pub(crate) fn all() -> Result<Vec<Model>> {
    let folder = root().join("bench/models");
    let mut models = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let model: Model = toml::from_str(&text).with_context(|| path.display().to_string())?;
        models.push(model);
    }
    ensure!(!models.is_empty(), "{}: no models", folder.display());
    models.sort_by(|left, right| right.batch.cmp(&left.batch).then_with(|| left.title.cmp(&right.title)));
    Ok(models)
}
