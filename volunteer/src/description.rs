//! The run, as `GET /api/v1/run` describes it to volunteers: all that is needed to compute gradients of it.

use bsp::protocol::message::Mode;
use nn::data::sample_format::SampleFormat;
use nn::spec::ModelSpec;
use serde::{Deserialize, Serialize};

use crate::local_steps::LocalSteps;

/// What does not change while a run lasts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "Run"))]
pub struct RunDescription {
    /// The protocol that the server speaks; see [`bsp::protocol::message::PROTOCOL`].
    pub protocol: u16,
    /// The run's number.
    #[serde(with = "hexadecimal")]
    #[cfg_attr(feature = "typescript", ts(type = "string"))]
    pub run: u64,
    /// The hash of the model spec.
    #[serde(with = "hexadecimal")]
    #[cfg_attr(feature = "typescript", ts(type = "string"))]
    pub spec_hash: u64,
    /// The run's name.
    pub name: String,
    /// What it is about, in a sentence.
    pub description: String,
    /// Decoupled, or one of the baselines.
    #[cfg_attr(feature = "typescript", ts(type = "Mode"))]
    pub mode: Mode,
    /// How ML modules move along their own gradients between read-outs, if they do.
    #[cfg_attr(feature = "typescript", ts(type = "object | null"))]
    pub local_steps: Option<LocalSteps>,
    /// The seed of initialisation and of all minibatches.
    #[serde(with = "hexadecimal")]
    #[cfg_attr(feature = "typescript", ts(type = "string"))]
    pub seed: u64,
    /// Samples of one gradient.
    pub minibatch: usize,
    /// Samples that a superstep aims at.
    pub superstep_samples: u64,
    /// Samples of one contribution beyond this number weigh nothing.
    pub max_read_out_samples: u64,
    /// The share of held-out samples to answer rightly, from 0 to 1, if that is the run's aim.
    pub target_accuracy: Option<f64>,
    /// The mean loss of held-out samples to come down to, if that is.
    pub target_loss: Option<f64>,
    /// Whether the operator allows `/?join=1` to start without a click.
    pub kiosk: bool,
    /// The model's parameters.
    pub parameters: usize,
    /// The model.
    #[cfg_attr(feature = "typescript", ts(type = "{ loss: Loss }"))]
    pub model: ModelSpec,
    /// The samples.
    #[cfg_attr(feature = "typescript", ts(type = "Dataset & SampleFormat"))]
    pub dataset: DatasetDescription,
    /// What a tab needs.
    pub memory: MemoryNeed,
}

/// The samples of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "Dataset"))]
pub struct DatasetDescription {
    /// What their bytes mean.
    #[serde(flatten)]
    #[cfg_attr(feature = "typescript", ts(skip))]
    pub format: SampleFormat,
    /// Samples to train on.
    pub samples: usize,
    /// Samples held out to evaluate on.
    pub test_samples: usize,
    /// The shards, by the names under which they are served.
    pub shards: Vec<String>,
}

/// The memory that a tab needs, so that it asks its browser for no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct MemoryNeed {
    /// For what a tab has once: code and its data, samples, model slots, frames.
    pub tab_bytes: u64,
    /// For each ML module.
    pub ml_module_bytes: u64,
}

/// Numbers of 64 bits as JSON strings of 16 hexadecimal digits: JavaScript's numbers would round them.
pub mod hexadecimal {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes 16 digits.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{number:016x}"))
    }

    /// Reads them.
    ///
    /// # Errors
    /// Other than hexadecimal digits.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let digits = String::deserialize(deserializer)?;
        u64::from_str_radix(&digits, 16).map_err(|error| D::Error::custom(format!("\"{digits}\": {error}")))
    }
}
