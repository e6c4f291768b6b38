//! What can be wrong with a checkpoint's bytes, in words that follow its file's name.

use thiserror::Error;

/// What is wrong with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// It is something else.
    #[error("it is no checkpoint: it begins with other bytes; move it out of the folder")]
    NotACheckpoint,
    /// A later version of the program wrote it.
    #[error("it has format {got}, but this superstep reads format {expected}; use the newer superstep that wrote it")]
    NewerFormat {
        /// Its format.
        got: u32,
        /// The newest format that is read.
        expected: u32,
    },
    /// It ends early.
    #[error("it is cut short: {got} of {expected} bytes; put a whole copy in its place")]
    CutShort {
        /// Its bytes.
        got: u64,
        /// The bytes that it should have.
        expected: u64,
    },
    /// It goes on behind its end.
    #[error("it is {got} bytes long instead of {expected}; put a whole copy in its place")]
    TooLong {
        /// Its bytes.
        got: u64,
        /// The bytes that it should have.
        expected: u64,
    },
    /// Its header is not what was written.
    #[error("its header is damaged: its checksum differs; put a whole copy in its place")]
    DamagedHeader,
    /// A part is not what was written.
    #[error("its part \"{part}\" is damaged: its checksum differs; put a whole copy in its place")]
    DamagedPart {
        /// The part's name.
        part: String,
    },
    /// It lacks a part.
    #[error("it has no part \"{part}\"; put a whole copy in its place")]
    MissingPart {
        /// The part's name.
        part: &'static str,
    },
    /// A part holds what no checkpoint of this format holds.
    #[error("its part \"{part}\" does not hold what format 1 says; put a checkpoint of this run in its place")]
    Malformed {
        /// The part's name.
        part: &'static str,
    },
    /// It belongs to another run.
    #[error(
        "it is of another run, {}; move it to the folder of its own run",
        in_words(got, expected)
    )]
    AnotherRun {
        /// The name of its run.
        got: String,
        /// The name of this run.
        expected: String,
    },
    /// It belongs to another model.
    #[error(
        "it is of another model, with {got} parameters, and the run's model has {expected}; \
         put the [model] of the run file back, or start a run of another name with --fork"
    )]
    AnotherModel {
        /// Its parameters.
        got: u64,
        /// The parameters of the run's model.
        expected: u64,
    },
    /// It was trained on other data.
    #[error("it was trained on other data; put the [dataset] back, or start a run of another name with --fork")]
    AnotherDataset,
    /// It was trained with another seed.
    #[error("it was trained with seed = {got}, and the run has {expected}; set it back, or use --fork")]
    AnotherSeed {
        /// Its seed.
        got: u64,
        /// The run's seed.
        expected: u64,
    },
}

/// How two runs differ for their operator.
fn in_words(got: &str, expected: &str) -> String {
    match got == expected {
        true => format!("which has the name \"{got}\" too"),
        false => format!("\"{got}\", and not of this one, \"{expected}\""),
    }
}
