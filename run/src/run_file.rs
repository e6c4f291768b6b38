//! Run files: what to train, on which data, and how. `runs/README.md` explains every key.
//!
//! A run file is read once, at the start, and checked in full: a [`RunFile`] makes sense. Every error names the file,
//! the place in it and a hint, in one line. [`crate::keys`] says what each key is.

mod on_divergence;
mod syntax;
mod training;
mod words;

use std::path::{Path, PathBuf};

use bsp::protocol::codec::Codec;
use nn::data::sample_format::SampleFormat;
use nn::model::{DataMisfit, Model, SpecError};
use nn::optimizer::SettingError;
use nn::{LossSpec, ModelSpec};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::words::in_readers_words;
pub use on_divergence::{GoBack, OnDivergence};
pub use syntax::syntax;
pub use training::{Checkpoints, Evaluation, Training};

use crate::dataset::{DatasetSpec, TargetKind};
use crate::goal::Goal;
use crate::keys;

/// The run that is embedded in the program.
const DIGITS: &str = include_str!("../../runs/digits.toml");
/// What errors call it.
const DIGITS_PATH: &str = "runs/digits.toml (built in)";

/// The longest run file that is read: no honest one comes near.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A run: what to train, on which data, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunFile {
    /// A name for file names, logs and pages: letters, digits, `-` and `_`, at most 64.
    pub name: String,
    /// One sentence that tells volunteers what their machines work on.
    pub description: String,
    /// Everything random in the run follows from it: the first parameters, the shards, the minibatches.
    pub seed: u64,
    /// The share of right answers on held-out samples, from 0 to 1, at which the run has reached its aim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_accuracy: Option<f64>,
    /// The mean loss of held-out samples at which the run has reached its aim.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_loss: Option<f64>,
    /// The data.
    pub dataset: DatasetSpec,
    /// The model.
    pub model: ModelSpec,
    /// How to train it.
    pub training: Training,
    /// How it is evaluated on the way.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// What is kept of it for the next start of its server.
    #[serde(default)]
    pub checkpoints: Checkpoints,
    /// Where it was read from, for errors.
    #[serde(skip)]
    path: PathBuf,
}

/// Why a run file can't be used. Its message is one line: file, place, what is wrong, a hint.
#[derive(Debug, Error)]
#[error("{}: {problem}", .path.display())]
pub struct RunFileError {
    /// The run file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a run file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file isn't there, or isn't ours to read.
    #[error("can't be read: {0}; correct the path")]
    Unreadable(#[from] std::io::Error),
    /// The file can't be a run file.
    #[error("is longer than {MAX_FILE_BYTES} bytes, which no run file is; correct the path")]
    TooLong,
    /// The file isn't TOML, or has keys or types that a run file can't have.
    #[error("line {line}: {message}")]
    Syntax {
        /// The line, counted from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// The table `[training]` has keys or types that it can't have.
    #[error("[training] {0}")]
    Training(String),
    /// A key is set to something that makes no sense.
    #[error("{table}{}{setting}", if .table.is_empty() { "" } else { " " })]
    Setting {
        /// The header of the table with the key; empty at the top of the file.
        table: &'static str,
        /// The key, what it is set to, and what it may be.
        setting: Setting,
    },
    /// The layers don't fit each other.
    #[error("[model] {0}")]
    Model(SpecError),
    /// The model can't be trained on the data.
    #[error("[model] {0}")]
    Data(DataMisfit),
    /// The run can't have this aim.
    #[error("{0}")]
    Goal(&'static str),
    /// Settings that exclude each other.
    #[error("{0}")]
    Exclusive(&'static str),
}

/// A key that is set to something that makes no sense.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{key} = {value} is not allowed; set {allowed}")]
pub struct Setting {
    /// The key.
    pub key: &'static str,
    /// What it is set to.
    pub value: String,
    /// What it may be set to, in words.
    pub allowed: String,
}

impl From<SettingError> for Setting {
    fn from(error: SettingError) -> Setting {
        Setting {
            key: error.key,
            value: error.value,
            allowed: error.allowed.to_owned(),
        }
    }
}

impl Setting {
    /// An error about a key unless `is_allowed`. Comparisons with NaN are false, so NaN is never allowed.
    fn check(
        table: &'static str,
        key: &'static str,
        value: impl ToString,
        allowed: impl Into<String>,
        is_allowed: bool,
    ) -> Result<(), Problem> {
        if is_allowed {
            return Ok(());
        }
        Err(Problem::Setting {
            table,
            setting: Setting {
                key,
                value: value.to_string(),
                allowed: allowed.into(),
            },
        })
    }
}

impl RunFile {
    /// Reads and checks a run file. Paths in it are relative to it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn load(path: &Path) -> Result<RunFile, RunFileError> {
        let at_path = |problem| RunFileError {
            path: path.to_owned(),
            problem,
        };
        let text = read_bounded(path).map_err(at_path)?;
        let mut run = RunFile::parse(&text, path)?;
        run.dataset = run.dataset.relative_to(path.parent().unwrap_or(Path::new("")));
        Ok(run)
    }

    /// The run that is embedded in the program, the default of `superstep serve`.
    ///
    /// # Errors
    /// None: a test reads it.
    pub fn digits() -> Result<RunFile, RunFileError> {
        RunFile::parse(DIGITS, Path::new(DIGITS_PATH))
    }

    /// The run's model, if it fits data of this format.
    ///
    /// # Errors
    /// What does not fit, on both sides.
    pub fn model_for(&self, format: &SampleFormat) -> Result<Model, RunFileError> {
        let at_path = |problem| RunFileError {
            path: self.path.clone(),
            problem,
        };
        let model = Model::new(&self.model).map_err(|error| at_path(Problem::Model(error)))?;
        model
            .check_data(format)
            .map_err(|misfit| at_path(Problem::Data(misfit)))?;
        Ok(model)
    }

    /// Whether its model's answers are right or wrong, so that a share of them is right.
    pub fn has_accuracy(&self) -> bool {
        Model::new(&self.model).is_ok_and(|model| model.answers().has_accuracy())
    }

    /// What the run aims at, if at anything.
    pub fn goal(&self) -> Option<Goal> {
        let accuracy = self.target_accuracy.map(Goal::Accuracy);
        accuracy.or(self.target_loss.map(Goal::Loss))
    }

    /// The same run with other keys in its table `[training]`, checked like a run file. Tables in it are merged too;
    /// but one of another kind is taken whole, since keys of the one kind mean nothing to the other.
    ///
    /// # Errors
    /// The first thing that is wrong with the keys, or with the run that they make.
    pub fn with_training(&self, keys: &toml::Table) -> Result<RunFile, Problem> {
        let invalid = |message: &str| Problem::Training(in_readers_words(message));
        let mut training = toml::Table::try_from(&self.training).map_err(|error| invalid(&error.to_string()))?;
        merge(&mut training, keys);
        let training = Training::deserialize(training).map_err(|error| invalid(error.message()))?;
        let run = RunFile {
            training,
            ..self.clone()
        };
        run.check()?;
        Ok(run)
    }

    fn parse(text: &str, path: &Path) -> Result<RunFile, RunFileError> {
        let at_path = |problem| RunFileError {
            path: path.to_owned(),
            problem,
        };
        let mut run: RunFile = toml::from_str(text).map_err(|error| at_path(syntax(text, &error)))?;
        run.path = path.to_owned();
        run.check().map_err(at_path)?;
        Ok(run)
    }

    /// What is allowed, but has a cost that an operator should know.
    pub fn warnings(&self) -> Vec<&'static str> {
        let top_k = "[training] model_codec = \"top_k\" costs accuracy: volunteers compute on models that lack most \
                     of the last changes; for slow links set model_codec = \"int8\"";
        let has_top_k = self.training.model_codec == Codec::TopK;
        has_top_k.then_some(top_k).into_iter().collect()
    }

    /// Finds what serde can't: numbers out of range, layers that don't fit each other.
    fn check(&self) -> Result<(), Problem> {
        let is_named = (1..=64).contains(&self.name.len())
            && self
                .name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        let quoted = |text: &str| format!("{text:?}");
        let letters = "1 to 64 letters, digits, - and _";
        Setting::check("", "name", quoted(&self.name), letters, is_named)?;
        let is_sentence = (1..=500).contains(&self.description.chars().count())
            && !self.description.contains(|character: char| character.is_control());
        let one_sentence = "one sentence of at most 500 characters, in one line";
        Setting::check("", "description", quoted(&self.description), one_sentence, is_sentence)?;
        if let Some((key, number)) = keys::out_of_range(&self.written()) {
            Setting::check(key.table, key.name, number, key.range.words(), false)?;
        }
        if self.target_accuracy.is_some() && self.target_loss.is_some() {
            return Err(Problem::Goal(
                "target_accuracy and target_loss are both set; a run has one aim: leave one out",
            ));
        }
        self.check_dataset()?;
        let model = Model::new(&self.model).map_err(Problem::Model)?;
        if self.target_accuracy.is_some() && !model.answers().has_accuracy() {
            return Err(Problem::Goal(
                "target_accuracy is set, but numbers are not right or wrong; set target_loss instead",
            ));
        }
        self.training.check()
    }

    /// Everything in it that has a range, as a run file would have it. A part that can't be written, such as an aim
    /// that is not set or a path that is not UTF-8, has no range.
    fn written(&self) -> toml::Table {
        let parts = [
            ("target_accuracy", toml::Value::try_from(self.target_accuracy)),
            ("target_loss", toml::Value::try_from(self.target_loss)),
            ("dataset", toml::Value::try_from(&self.dataset)),
            ("training", toml::Value::try_from(&self.training)),
            ("evaluation", toml::Value::try_from(&self.evaluation)),
            ("checkpoints", toml::Value::try_from(&self.checkpoints)),
        ];
        let written = parts
            .into_iter()
            .filter_map(|(key, part)| Some((key.to_owned(), part.ok()?)));
        written.collect()
    }

    /// Checks that the data can be read and that the loss suits it. This comes before the layers are fitted to the
    /// loss: where the loss is wrong, the outputs are not.
    fn check_dataset(&self) -> Result<(), Problem> {
        let (needed, targets) = match &self.dataset {
            DatasetSpec::Digits(_) | DatasetSpec::Idx(_) => (LossSpec::SoftmaxCrossEntropy, "classes"),
            DatasetSpec::Text(_) => (LossSpec::SoftmaxCrossEntropy, "tokens"),
            DatasetSpec::Csv(csv) => {
                let is_byte = csv.delimiter.is_ascii() && !['"', '\n', '\r'].contains(&csv.delimiter);
                let delimiter = format!("{:?}", csv.delimiter);
                let allowed = "a comma, a semicolon or the like";
                Setting::check("[dataset]", "delimiter", delimiter, allowed, is_byte)?;
                match csv.target_kind {
                    TargetKind::Numbers => (LossSpec::MeanSquaredError, "numbers"),
                    TargetKind::Class => (LossSpec::SoftmaxCrossEntropy, "classes"),
                    TargetKind::Chances => (LossSpec::BinaryCrossEntropy, "0 or 1"),
                }
            }
        };
        if self.model.loss == needed {
            return Ok(());
        }
        Err(Problem::Data(DataMisfit::Loss {
            loss: self.model.loss.name(),
            targets,
            fix: needed.name(),
        }))
    }
}

/// Sets the keys of `table` that `over` has.
fn merge(table: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (table.get_mut(key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over))
                if over.get("kind").is_none_or(|kind| under.get("kind") == Some(kind)) =>
            {
                merge(under, over);
            }
            _ => {
                table.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The text of a run file or a scenario, if it is no longer than these can be.
///
/// # Errors
/// A file that can't be read, or is longer.
pub fn read_bounded(path: &Path) -> Result<String, Problem> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(Problem::TooLong);
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
