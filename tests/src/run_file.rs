//! Run files for tests: the embedded digits, with a few words changed.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::program::root;

/// The text of a run file.
#[derive(Clone, Debug)]
pub struct RunText(String);

impl RunText {
    /// `runs/digits.toml`.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn digits() -> Result<RunText> {
        RunText::read(&root().join("runs/digits.toml"))
    }

    /// A run of `runs/`, with its data where it lies.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn of_runs(name: &str) -> Result<RunText> {
        let runs = root().join("runs");
        let RunText(text) = RunText::read(&runs.join(name))?;
        Ok(RunText(
            text.replace("\"data/", &format!("\"{}/", runs.join("data").display())),
        ))
    }

    /// What is in a file.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn read(path: &Path) -> Result<RunText> {
        Ok(RunText(
            std::fs::read_to_string(path).with_context(|| path.display().to_string())?,
        ))
    }

    /// Digits in lockstep, a minibatch for each version: sequential training, distributed.
    ///
    /// # Errors
    /// As [`RunText::with`].
    pub fn digits_in_lockstep() -> Result<RunText> {
        RunText::digits()?
            .with(
                "superstep_samples = 128",
                &format!("superstep_samples = {DIGITS_MINIBATCH}"),
            )?
            .with("[training]\n", "[training]\nmode = \"lockstep\"\n")
    }

    /// Digits as for slow links: local steps, and int8 both ways.
    ///
    /// # Errors
    /// As [`RunText::with`].
    pub fn digits_for_slow_links() -> Result<RunText> {
        RunText::digits()?
            .with(
                "superstep_samples = 128",
                "superstep_samples = 2048\ncontribution_codec = \"int8\"\nmodel_codec = \"int8\"",
            )?
            .with("kind = \"adam\"", "kind = \"sgd\"")?
            .with("learning_rate = 0.003", "learning_rate = 1.0")?
            .with(
                "[evaluation]\n",
                "[training.local_steps]\nlearning_rate = 0.05\n\n[evaluation]\n",
            )
    }

    /// The same with `old`, which occurs once, replaced by `new`.
    ///
    /// # Errors
    /// A run file that has changed so that `old` is not in it.
    pub fn with(self, old: &str, new: &str) -> Result<RunText> {
        ensure!(
            self.0.matches(old).count() == 1,
            "{old:?} is not once in the run file:\n{}",
            self.0
        );
        Ok(RunText(self.0.replace(old, new)))
    }

    /// The same with further tables at its end.
    pub fn and(self, tables: &str) -> RunText {
        RunText(format!("{}\n{tables}\n", self.0))
    }

    /// The same with other layers.
    ///
    /// # Errors
    /// A run file without layers, or without a table after them.
    pub fn with_layers(self, layers: &str) -> Result<RunText> {
        let RunText(text) = self;
        let parts = text.split_once("[[model.layers]]").and_then(|(before, rest)| {
            let (_, after) = rest.split_once("[training]")?;
            Some((before, after))
        });
        let (before, after) = parts.with_context(|| format!("no layers before [training] in the run file:\n{text}"))?;
        Ok(RunText(format!("{before}{layers}\n[training]{after}")))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The parameters of the model of `runs/digits.toml`.
pub const DIGITS_PARAMETERS: u64 = 38_282;

/// The minibatch of `runs/digits.toml`, in samples.
pub const DIGITS_MINIBATCH: u64 = 16;
