//! `run.json`: which run a folder is of, the key of its sessions' tokens, and its run file.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::About;

/// Its name.
pub const FILE: &str = "run.json";
const FORMAT: u32 = 1;

/// The run that is to be served: what follows from its run file and its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub run: String,
    /// The hash of the model's description.
    pub spec_hash: u64,
    /// The hash of the data.
    pub data_hash: u64,
    /// Its seed.
    pub seed: u64,
    /// Parameters of the model.
    pub parameters: u64,
    /// Its run file, defaults written out.
    pub run_file: Value,
}

/// What only a new run needs: numbers that nobody can guess.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secrets {
    /// The run's number.
    pub run_id: u64,
    /// The key of its sessions' tokens.
    pub token_key: [u8; 32],
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(…)")
    }
}

/// A run, as its folder knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Its number, and the key of its sessions' tokens.
    pub secrets: Secrets,
    /// What it trains.
    pub run: Wanted,
    /// When it began, in milliseconds since 1970.
    pub created_at_ms: u64,
}

/// The file. Numbers of 64 bits that are no counts are hexadecimal: other readers of JSON would round them.
#[derive(Serialize, Deserialize)]
struct IdentityV1 {
    format: u32,
    name: String,
    run_id: String,
    token_key: String,
    spec_hash: String,
    data_hash: String,
    seed: u64,
    parameters: u64,
    created_at_ms: u64,
    run_file: Value,
}

/// What is wrong with a `run.json`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityProblem {
    /// A later version of the program wrote it.
    #[error("it has format {got}, but this superstep reads format {FORMAT}; use the newer superstep that wrote it")]
    NewerFormat {
        /// Its format.
        got: u64,
    },
    /// It is not what was written.
    #[error("it is damaged: {what}; put a copy in its place, or start anew with --fresh")]
    Damaged {
        /// What is wrong with it.
        what: String,
    },
}

impl Identity {
    /// What its checkpoints say of it.
    pub fn about(&self, incarnation: u32) -> About {
        About {
            run_id: self.secrets.run_id,
            run: self.run.run.clone(),
            spec_hash: self.run.spec_hash,
            data_hash: self.run.data_hash,
            seed: self.run.seed,
            parameters: self.run.parameters,
            incarnation,
        }
    }

    /// The file's content.
    pub fn to_json(&self) -> Vec<u8> {
        let key = self.secrets.token_key.iter();
        let file = IdentityV1 {
            format: FORMAT,
            name: self.run.run.clone(),
            run_id: hexadecimal(self.secrets.run_id),
            token_key: key.map(|byte| format!("{byte:02x}")).collect(),
            spec_hash: hexadecimal(self.run.spec_hash),
            data_hash: hexadecimal(self.run.data_hash),
            seed: self.run.seed,
            parameters: self.run.parameters,
            created_at_ms: self.created_at_ms,
            run_file: self.run.run_file.clone(),
        };
        let mut json = serde_json::to_vec_pretty(&file).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Reads the file's content.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_json(json: &[u8]) -> Result<Identity, IdentityProblem> {
        let damaged = |what: String| IdentityProblem::Damaged { what };
        let value: Value = serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))?;
        match value.get("format").and_then(Value::as_u64) {
            Some(format) if format > u64::from(FORMAT) => return Err(IdentityProblem::NewerFormat { got: format }),
            _ => {}
        }
        let file: IdentityV1 = serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        let number = |name: &str, text: &str| {
            u64::from_str_radix(text, 16).map_err(|_| damaged(format!("{name} is no hexadecimal number")))
        };
        Ok(Identity {
            secrets: Secrets {
                run_id: number("run_id", &file.run_id)?,
                token_key: key(&file.token_key)
                    .ok_or_else(|| damaged("token_key is not 64 hexadecimal digits".to_owned()))?,
            },
            run: Wanted {
                run: file.name,
                spec_hash: number("spec_hash", &file.spec_hash)?,
                data_hash: number("data_hash", &file.data_hash)?,
                seed: file.seed,
                parameters: file.parameters,
                run_file: file.run_file,
            },
            created_at_ms: file.created_at_ms,
        })
    }
}

fn hexadecimal(number: u64) -> String {
    format!("{number:016x}")
}

fn key(text: &str) -> Option<[u8; 32]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes?.try_into().ok()
}

/// A key of the run file that was changed since the run was last served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key, with its table.
    pub key: String,
    /// What it was; empty where it was not there.
    pub before: String,
    /// What it is; empty where it is not there any more.
    pub now: String,
    /// Whether the run can go on with it.
    pub is_allowed: bool,
    /// What that means for the run.
    pub meaning: String,
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| {
            if text.is_empty() {
                "nothing".to_owned()
            } else {
                text.to_owned()
            }
        };
        let (before, now) = (shown(&self.before), shown(&self.now));
        write!(formatter, "{}: {before} → {now} ({})", self.key, self.meaning)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn identity() -> Identity {
        Identity {
            secrets: Secrets {
                run_id: 0x1234_5678_9abc_def0,
                token_key: std::array::from_fn(|index| index as u8 * 7),
            },
            run: Wanted {
                run: "digits".to_owned(),
                spec_hash: 7,
                data_hash: u64::MAX,
                seed: 9,
                parameters: 5,
                run_file: serde_json::json!({ "name": "digits", "seed": 9 }),
            },
            created_at_ms: 1_000,
        }
    }

    #[test]
    fn it_comes_back_whole() {
        assert_eq!(Identity::from_json(&identity().to_json()), Ok(identity()));
        assert!(
            !format!("{:?}", identity()).contains("token_key"),
            "no log shows the key"
        );
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        let json = String::from_utf8(identity().to_json()).expect("text");
        let problem = |json: &str| Identity::from_json(json.as_bytes()).expect_err("damaged").to_string();
        assert!(problem(&json[..json.len() / 2]).contains("damaged"));
        assert!(problem("").contains("damaged"));
        assert!(problem(&json.replace("\"format\": 1", "\"format\": 2")).contains("format 2"));
        assert!(problem(&json.replace("1234", "xyz!")).contains("run_id"));
        assert!(problem(&json.replace("00070e", "0007é")).contains("token_key"));
    }
}
