//! What a run leaves on disk so that it can go on. `docs/internals/state-folder.md` has the files and their formats.
//!
//! - [`checkpoint`]: a checkpoint as bytes.
//! - [`disk`]: the operations on files that all of this needs; a simulated disk implements them too.
//! - [`writing`]: how files are replaced, step by step, so that a crash between any two steps loses nothing.
//! - [`identity`] (`run.json`), [`newest`] (`newest.json`), [`ledger`], [`snapshot`] (the names of files).
//! - [`open`]: how a run is opened over these files.
//! - [`folder`]: a run's folder in the file system, and [`owner`]: one server at a time owns it. [`runs`] lists them.
//! - `s3`: the same files in an S3-compatible store.
//!
//! Nothing is removed but checkpoints and ledgers that newer ones replace, and unfinished files of this process.

pub mod checkpoint;
pub mod clock;
pub mod disk;
pub mod error;
#[cfg(feature = "folder")]
pub mod folder;
pub mod identity;
pub mod ledger;
pub mod newest;
pub mod open;
pub mod owner;
#[cfg(feature = "folder")]
pub mod runs;
#[cfg(feature = "s3")]
pub mod s3;
pub mod snapshot;
#[cfg(test)]
mod test_disk;
pub mod writing;

pub use checkpoint::{About, Best};
pub use disk::{Access, Disk, DiskError, FileSystem};
pub use error::OpenError;
#[cfg(feature = "folder")]
pub use folder::{Folder, OpenedFolder, Options, Written};
pub use identity::{Change, Identity, Secrets, Wanted};
pub use ledger::Ledger;
pub use newest::{Newest, RunState};
pub use open::{Opened, open_on};
pub use snapshot::Snapshot;
