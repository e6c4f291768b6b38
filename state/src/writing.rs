//! How files are replaced so that a crash between any two steps leaves the old or the new: the steps, without I/O, and
//! the loop that does them on a disk.
//!
//! A file is written under another name, synced, renamed, and the folder is synced. For a checkpoint, `newest.json`
//! follows in the same way, and only then leave the checkpoints that are older than the last few. An unfinished file
//! that a crash left behind is written over by the next of its kind.

use std::collections::VecDeque;
use std::io::{self, Write};

use bsp::central::Checkpoint;

use crate::checkpoint::{self, About};
use crate::disk::{Access, Disk, DiskError, Doing};
use crate::newest::{self, Newest};
use crate::snapshot::Snapshot;

/// What a checkpoint is called while it is written.
const UNFINISHED_CHECKPOINT: &str = "checkpoint.part";

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Write the file.
    Write {
        /// Its name.
        file: String,
        /// Which users may read it.
        access: Access,
        /// What goes into it.
        content: Content,
    },
    /// Make its content durable.
    Sync {
        /// Its name.
        file: String,
    },
    /// Give it its own name.
    Rename {
        /// The name until now.
        from: String,
        /// Its own.
        to: String,
    },
    /// Make the names durable.
    SyncFolder,
    /// Remove a file that is not needed any more.
    Remove {
        /// Its name.
        file: String,
    },
}

/// What a file is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What the caller of [`perform`] gives: it is large, and written without a copy.
    Given,
}

/// The steps that replace files. As an iterator it gives one after the other; each must have succeeded before the next.
#[derive(Clone, Debug, Default)]
pub struct Writing {
    operations: VecDeque<Operation>,
}

impl Iterator for Writing {
    type Item = Operation;

    fn next(&mut self) -> Option<Operation> {
        self.operations.pop_front()
    }
}

impl Writing {
    /// Replaces the file `file`.
    pub fn replace(file: &str, access: Access, content: Content) -> Writing {
        let mut writing = Writing::default();
        writing.push_replace(format!("{file}.part"), file.to_owned(), access, content);
        writing
    }

    /// Writes the checkpoint `snapshot`, points to it with `newest`, and keeps the last `keep` of those that are there,
    /// `present`, itself included.
    ///
    /// What `newest` calls damaged stays and does not count. The ledgers stay that begin with a checkpoint that stays,
    /// or later.
    pub fn checkpoint(snapshot: Snapshot, newest: &Newest, present: &[String], keep: usize) -> Writing {
        let mut writing = Writing::default();
        let unfinished = UNFINISHED_CHECKPOINT.to_owned();
        let file = snapshot.checkpoint_file();
        writing.push_replace(unfinished, file.clone(), Access::Default, Content::Given);
        let pointer = Content::Bytes(newest.to_json());
        let unfinished = format!("{}.part", newest::FILE);
        writing.push_replace(unfinished, newest::FILE.to_owned(), Access::Default, pointer);

        let names = present
            .iter()
            .filter(|name| **name != file && !newest.damaged.contains(name));
        let mut older: Vec<Snapshot> = names.filter_map(|name| Snapshot::of_checkpoint_file(name)).collect();
        older.sort_unstable_by(|a, b| b.cmp(a));
        let stay = keep.max(1) - 1;
        let oldest_kept = older.iter().take(stay).fold(snapshot, |oldest, kept| oldest.min(*kept));
        let leave = older.iter().skip(stay).map(|old| old.checkpoint_file());
        let ledgers = present
            .iter()
            .filter(|name| Snapshot::of_ledger_file(name).is_some_and(|l| l < oldest_kept));
        let leave = leave.chain(ledgers.cloned());
        writing.operations.extend(leave.map(|file| Operation::Remove { file }));
        writing
    }

    fn push_replace(&mut self, unfinished: String, file: String, access: Access, content: Content) {
        self.operations.extend([
            Operation::Write {
                file: unfinished.clone(),
                access,
                content,
            },
            Operation::Sync {
                file: unfinished.clone(),
            },
            Operation::Rename {
                from: unfinished,
                to: file,
            },
            Operation::SyncFolder,
        ]);
    }
}

/// Does one step. `given` writes the content that is [`Content::Given`].
///
/// # Errors
/// What the disk says. A file that is gone when it is to be removed is no error.
pub fn perform(
    operation: &Operation,
    disk: &mut dyn Disk,
    given: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<(), DiskError> {
    let (done, file, doing) = match operation {
        Operation::Write {
            file,
            access,
            content: Content::Given,
        } => (disk.write(file, *access, given), &file[..], Doing::Written),
        Operation::Write {
            file,
            access,
            content: Content::Bytes(bytes),
        } => {
            let written = disk.write(file, *access, &mut |to| to.write_all(bytes));
            (written, &file[..], Doing::Written)
        }
        Operation::Sync { file } => (disk.sync(file), &file[..], Doing::Synced),
        Operation::Rename { from, to } => (disk.rename(from, to), &from[..], Doing::Renamed),
        Operation::SyncFolder => (disk.sync_folder(), "", Doing::Synced),
        Operation::Remove { file } => {
            let removed = disk.remove(file).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            });
            (removed, &file[..], Doing::Removed)
        }
    };
    done.map_err(|source| DiskError {
        path: disk.path(file),
        doing,
        error: source,
    })
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the checkpoint.
    pub bytes: u64,
    /// Old files that could not be removed. What was written is durable all the same.
    pub warnings: Vec<String>,
}

/// Writes a checkpoint. When it returns, the checkpoint and the pointer to it are durable.
///
/// # Errors
/// What the disk says. The checkpoints before this one stay as they are, and so does the pointer, or it points to this
/// one already.
pub fn write_checkpoint(
    disk: &mut dyn Disk,
    about: &About,
    checkpoint: &Checkpoint,
    newest: &Newest,
    keep: usize,
) -> Result<Written, DiskError> {
    let present = disk.list().map_err(DiskError::at(disk.path(""), Doing::Listed))?;
    let snapshot = Snapshot::of(checkpoint);
    let mut written = Written::default();
    let mut encode = |to: &mut dyn Write| {
        written.bytes = checkpoint::encode(about, checkpoint, to)?;
        Ok(())
    };
    let steps = Writing::checkpoint(snapshot, newest, &present, keep);
    written.warnings = perform_all(steps, disk, &mut encode)?;
    Ok(written)
}

/// Replaces a file by these bytes. When it returns, they are durable.
///
/// # Errors
/// What the disk says. Then the file is as it was, or new.
pub fn replace_file(disk: &mut dyn Disk, file: &str, access: Access, bytes: Vec<u8>) -> Result<(), DiskError> {
    let steps = Writing::replace(file, access, Content::Bytes(bytes));
    perform_all(steps, disk, &mut |_| Ok(())).map(|_| ())
}

/// Does all steps. An unfinished file is removed when a step fails, so that it takes no room on a full disk. Gives
/// warnings of old files that could not be removed.
pub(crate) fn perform_all(
    steps: Writing,
    disk: &mut dyn Disk,
    given: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<Vec<String>, DiskError> {
    let mut unfinished = None;
    let mut warnings = Vec::new();
    for step in steps {
        if let Operation::Write { file, .. } = &step {
            unfinished = Some(file.clone());
        }
        match perform(&step, disk, given) {
            Ok(()) => {}
            Err(error) if matches!(step, Operation::Remove { .. }) => warnings.push(error.to_string()),
            Err(error) => {
                if let Some(file) = unfinished {
                    // The error that is told is the first one.
                    let _ = disk.remove(&file);
                }
                return Err(error);
            }
        }
        if matches!(step, Operation::Rename { .. }) {
            unfinished = None;
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests;
