//! Why a run can't be opened: one line each, with the file, what is wrong, and the fix.

use std::path::PathBuf;

use thiserror::Error;

use crate::disk::DiskError;
use crate::identity::IdentityProblem;
use crate::owner::OwnerError;

/// Why a run can't be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The system refuses something.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another server owns it.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// Its `run.json` can't be read.
    #[error("{}: {problem}", .path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: IdentityProblem,
    },
    /// It has checkpoints, but no `run.json`.
    #[error("{}: is missing beside checkpoints; put it back, or start anew with --fresh", .path.display())]
    NoIdentity {
        /// The file.
        path: PathBuf,
    },
    /// A file's name, or `newest.json`, has an incarnation that can't be.
    #[error(
        "{}: a file there is of incarnation {last}, more than a run ever has; take the file away, or start anew with \
         --fresh", .folder.display()
    )]
    Incarnation {
        /// The run's folder.
        folder: PathBuf,
        /// The incarnation.
        last: u32,
    },
    /// Its only checkpoint is gone.
    #[error("{}: is missing, though it was written; put it back, or start anew with --fresh", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// None of its checkpoints can be read.
    #[error(
        "{}: none of its {count} checkpoints can be read ({newest}); put a whole one there, or start anew with --fresh",
        .folder.display()
    )]
    NoneReadable {
        /// The run's folder.
        folder: PathBuf,
        /// How many there are.
        count: usize,
        /// The newest, and what is wrong with it.
        newest: String,
    },
    /// Its newest checkpoint is of a later format.
    #[error("{line}, or start anew with --fresh")]
    NewerFormat {
        /// The file, and what is wrong with it.
        line: String,
    },
    /// The run file has changed what must stay.
    #[error(
        "{}: this run can't go on with the changed run file: {changes}; set it back, start a run of another name with \
         --fork NEW_NAME, or start anew with --fresh",
        .folder.display()
    )]
    Changed {
        /// The run's folder.
        folder: PathBuf,
        /// The changes.
        changes: String,
    },
    /// The model has changed.
    #[error(
        "{}: this run has another model; set [model] back, start a run of another name with --fork NEW_NAME, or start \
         anew with --fresh",
        .folder.display()
    )]
    ModelChanged {
        /// The run's folder.
        folder: PathBuf,
    },
    /// The data has changed.
    #[error(
        "{}: this run has other data, or another seed; put the data's files back, start a run of another name with \
         --fork NEW_NAME, or start anew with --fresh",
        .folder.display()
    )]
    DataChanged {
        /// The run's folder.
        folder: PathBuf,
    },
    /// A store can't be used.
    #[cfg(feature = "s3")]
    #[error(transparent)]
    Store(#[from] crate::s3::StoreError),
    /// A run in a store can't be set aside.
    #[error(
        "{}: a run in a store can't get another name, so --fresh can't keep it; choose another prefix with --state, or \
         start a run of another name with --fork NEW_NAME",
        .path.display()
    )]
    FreshInStore {
        /// The run's place.
        path: PathBuf,
    },
    /// A name that no run can have.
    #[error("--fork {name}: a run's name has 1 to 64 letters, digits, `-` and `_`; choose another")]
    Name {
        /// The name.
        name: String,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for secrets: {0}; start it on a system that does")]
    NoSecrets(String),
}
