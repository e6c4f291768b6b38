//! Where a run file is not TOML, or has keys or types that it can't have.

use nn::LayerSpec;
use nn::optimizer::OptimizerSpec;
use nn::optimizer::schedule::ScheduleSpec;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Problem;
use super::words::in_readers_words;
use crate::dataset::DatasetSpec;

/// What the TOML reader says, in one line, with the line's number instead of its text.
pub fn syntax(text: &str, error: &toml::de::Error) -> Problem {
    if let Some((layer, line)) = layer_at_fault(text, error.message()) {
        return Problem::Syntax {
            line,
            message: format!("layer {layer}: {}", in_readers_words(error.message())),
        };
    }
    if let Some(line) = key_at_fault(text, error.message()) {
        return Problem::Syntax {
            line,
            message: in_readers_words(error.message()),
        };
    }
    let offset = error.span().map_or(0, |span| span.start);
    let line = 1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count();
    Problem::Syntax {
        line,
        message: in_readers_words(error.message()),
    }
}

/// The layer, counted from 1, that alone gives the same error, and the line on which it starts. The TOML reader only
/// knows where the first layer is.
fn layer_at_fault(text: &str, message: &str) -> Option<(usize, usize)> {
    let file: toml::Table = text.parse().ok()?;
    let layers = file.get("model")?.get("layers")?.as_array()?;
    let gives_the_error = |layer: &toml::Value| match LayerSpec::deserialize(layer.clone()) {
        Ok(_) => false,
        Err(error) => error.message() == message,
    };
    let index = layers.iter().position(gives_the_error)?;
    let mut starts = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("[[model.layers]]"));
    let (line, _) = starts.nth(index)?;
    Some((index + 1, line + 1))
}

/// The line of the key without which a table that is chosen by its kind does not give the error. The TOML reader only
/// knows where such a table begins.
fn key_at_fault(text: &str, message: &str) -> Option<usize> {
    let file: Table = text.parse().ok()?;
    let training = file.get("training").and_then(Value::as_table);
    let of_training = |name: &str| training.and_then(|training| training.get(name));
    key_in::<DatasetSpec>(text, "[dataset]", file.get("dataset"), message)
        .or_else(|| key_in::<OptimizerSpec>(text, "[training.optimizer]", of_training("optimizer"), message))
        .or_else(|| key_in::<ScheduleSpec>(text, "[training.schedule]", of_training("schedule"), message))
}

fn key_in<T: DeserializeOwned>(text: &str, header: &str, table: Option<&Value>, message: &str) -> Option<usize> {
    let table = table?.as_table()?;
    let gives_the_error = |table: &Table| T::deserialize(table.clone()).is_err_and(|error| error.message() == message);
    if !gives_the_error(table) {
        return None;
    }
    let is_at_fault = |key: &&String| {
        let mut others = table.clone();
        others.remove(*key);
        *key != "kind" && !gives_the_error(&others)
    };
    let key = table.keys().find(is_at_fault)?;
    let mut lines = text.lines().zip(1..).skip_while(|(line, _)| line.trim() != header);
    let is_its_line = |line: &str| {
        let rest = line.trim_start().strip_prefix(key.as_str());
        rest.is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    lines.find(|(line, _)| is_its_line(line)).map(|(_, line)| line)
}
