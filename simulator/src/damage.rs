//! What the end of a process leaves half done, in words too.

use std::fmt;

use state::writing::Operation;

/// What a crash has done to the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The step of a checkpoint's writing that was under way, and how far it was done, in words.
    pub step: Option<String>,
    /// Files that are not as they were written last, because that was not synced.
    pub torn: Vec<String>,
}

/// How far a step was done when its process was killed.
#[derive(Clone, Copy)]
pub(crate) enum Progress {
    NotBegun,
    Part,
    Whole,
}

/// A step of writing, in words.
pub(crate) fn step_text(step: &Operation) -> String {
    match step {
        Operation::Write { file, .. } => format!("write {file}"),
        Operation::Sync { file } => format!("sync {file}"),
        Operation::Rename { from, to } => format!("rename {from} to {to}"),
        Operation::SyncFolder => "sync the folder’s names".to_owned(),
        Operation::Remove { file } => format!("remove {file}"),
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Progress::NotBegun => "not begun",
            Progress::Part => "done in part",
            Progress::Whole => "done",
        })
    }
}
