//! A run's folder in the file system: opened by one server at a time, written on a thread of its own.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bsp::central::{Awaited, Checkpoint};

use crate::checkpoint::{self, About, Best};
use crate::clock::now_ms;
use crate::disk::{Access, Disk, DiskError, Doing, FileSystem};
use crate::error::OpenError;
use crate::identity::{Change, Identity, Secrets, Wanted};
use crate::ledger::Ledger;
use crate::newest::{self, Newest, RunState};
use crate::open::{Compare, open_on, read_identity};
use crate::owner::{self, Owned};
use crate::snapshot::Snapshot;
use crate::writing::{Content, Writing, perform_all, replace_file, write_checkpoint};

mod fork;
mod rollback;

pub use rollback::WentBack;

/// The best model's file.
pub const BEST_FILE: &str = "best.superstep";
/// The longest name of a run, as in run files.
const MAX_NAME: usize = 64;

/// What is opened, and how.
pub struct Options<'a> {
    /// The folder of all runs.
    pub state: &'a Path,
    /// The run.
    pub wanted: &'a Wanted,
    /// How many checkpoints stay.
    pub keep: usize,
    /// Begin anew: the folder that is there is kept under another name.
    pub is_fresh: bool,
    /// Go on under this name, with what the run has learned if its model is the same.
    pub fork: Option<&'a str>,
    /// What a changed run file means.
    pub compare: &'a Compare<'a>,
}

/// A run that was opened in its folder.
pub struct OpenedFolder {
    /// The folder, to write to.
    pub folder: Folder,
    /// The ledger of this incarnation.
    pub ledger: Ledger,
    /// Which run it is.
    pub identity: Identity,
    /// This incarnation. It is durable that it has begun.
    pub incarnation: u32,
    /// Where it goes on; none at its beginning.
    pub checkpoint: Option<Checkpoint>,
    /// Contributions that were accepted since and that no checkpoint has.
    pub awaited: Vec<Awaited>,
    /// Keys of the run file that are not as they were; all of them are allowed.
    pub changes: Vec<Change>,
    /// What an operator should know: a line each.
    pub warnings: Vec<String>,
}

/// The folder of a run that this process owns.
pub struct Folder {
    path: PathBuf,
    disk: FileSystem,
    about: About,
    newest: Newest,
    keep: usize,
    _owned: Owned,
}

/// A checkpoint that was written: it is durable.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    /// Its bytes.
    pub bytes: u64,
    /// How long that took.
    pub seconds: f64,
    /// Old files that could not be removed: a line each.
    pub warnings: Vec<String>,
}

impl Folder {
    /// Opens a run, or begins it. From then on this process owns it, and its incarnation is durable.
    ///
    /// # Errors
    /// Why it can't be served. Nothing was removed.
    pub fn open(options: &Options<'_>) -> Result<OpenedFolder, OpenError> {
        let wanted = Wanted {
            run: options.fork.unwrap_or(&options.wanted.run).to_owned(),
            ..options.wanted.clone()
        };
        if !is_name(&wanted.run) {
            return Err(OpenError::Name { name: wanted.run });
        }
        let mut warnings = Vec::new();
        let path = options.state.join(&wanted.run);
        create(options.state, &path)?;
        let mut owned = owner::claim(&path, now_ms())?;
        if options.is_fresh
            && let Some(kept) = set_aside(options.state, &wanted.run)?
        {
            warnings.push(format!("{}: the run before is kept there", kept.display()));
            create(options.state, &path)?;
            owned = owner::claim(&path, now_ms())?;
        }
        if options.fork.is_some() {
            let source = options.state.join(&options.wanted.run);
            fork::begin(&source, &path, &wanted, random_secrets()?, &mut warnings)?;
        }
        // Only a new run needs them, but whether there are any is to be known before anything is written.
        let secrets = random_secrets()?;
        let mut disk = FileSystem::new(&path);
        let opened = open_on(&mut disk, &wanted, &mut || secrets, options.compare, now_ms())?;
        warnings.extend(opened.warnings);
        let start = Snapshot {
            incarnation: opened.incarnation,
            number: 0,
        };
        Ok(OpenedFolder {
            folder: Folder {
                disk,
                about: opened.identity.about(opened.incarnation),
                newest: opened.newest,
                keep: options.keep,
                _owned: owned,
                path: path.clone(),
            },
            ledger: Ledger::new(Box::new(FileSystem::new(path)), start),
            identity: opened.identity,
            incarnation: opened.incarnation,
            checkpoint: opened.checkpoint,
            awaited: opened.awaited,
            changes: opened.changes,
            warnings,
        })
    }

    /// Where it is: the run's other files are here too.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a checkpoint. When this returns, it is durable, and so is all that it has settled. `accuracy` is that of
    /// the last evaluation, for those who list runs.
    ///
    /// # Errors
    /// What the disk says. The checkpoints before it stay.
    pub fn write(
        &mut self,
        checkpoint: &Checkpoint,
        accuracy: Option<f64>,
        state: RunState,
    ) -> Result<Written, DiskError> {
        let start = Instant::now();
        let mut newest = self.newest.clone();
        newest.point_to(checkpoint);
        newest.accuracy = accuracy.or(newest.accuracy);
        newest.state = state;
        newest.written_at_ms = now_ms();
        let written = write_checkpoint(&mut self.disk, &self.about, checkpoint, &newest, self.keep)?;
        self.newest = newest;
        Ok(Written {
            bytes: written.bytes,
            seconds: start.elapsed().as_secs_f64(),
            warnings: written.warnings,
        })
    }

    /// Notes how the run stands, without a checkpoint.
    ///
    /// # Errors
    /// What the disk says.
    pub fn set_state(&mut self, accuracy: Option<f64>, state: RunState) -> Result<(), DiskError> {
        self.newest.accuracy = accuracy.or(self.newest.accuracy);
        self.newest.state = state;
        self.newest.written_at_ms = now_ms();
        replace_file(&mut self.disk, newest::FILE, Access::Default, self.newest.to_json())
    }

    /// Keeps this model as the best one, in place of the one before.
    ///
    /// # Errors
    /// What the disk says. Then the one before stays.
    pub fn keep_best(&mut self, best: &Best) -> Result<(), DiskError> {
        let steps = Writing::replace(BEST_FILE, Access::Default, Content::Given);
        let mut encode = |to: &mut dyn Write| checkpoint::encode_best(&self.about, best, to).map(|_| ());
        perform_all(steps, &mut self.disk, &mut encode).map(|_| ())
    }

    /// The best model until now; none before the first. One that can't be read is a line to warn of.
    pub fn best(&mut self) -> Result<Option<Best>, String> {
        let path = self.disk.path(BEST_FILE);
        let bytes = match self.disk.read(BEST_FILE) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DiskError::at(path, Doing::Read)(error).to_string()),
        };
        let read = checkpoint::decode_best(&bytes);
        let read = read.and_then(|(about, best)| about.check(&self.about).map(|()| best));
        read.map(Some)
            .map_err(|problem| format!("{}: {problem}", path.display()))
    }
}

/// Whether a run can have this name.
fn is_name(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=MAX_NAME).contains(&name.len()) && name.chars().all(is_allowed)
}

/// Makes the folder of all runs, and in it that of one, where they are missing, for good.
fn create(state: &Path, path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(DiskError::at(path, Doing::Created))?;
    let mut state = FileSystem::new(state);
    state
        .sync_folder()
        .map_err(DiskError::at(state.path(""), Doing::Synced))
}

/// Gives the folder of a run that has begun another name, which it says.
fn set_aside(state: &Path, name: &str) -> Result<Option<PathBuf>, OpenError> {
    let path = state.join(name);
    let mut names = FileSystem::new(&path);
    let names = names.list().map_err(DiskError::at(&path, Doing::Listed))?;
    if names.iter().all(|name| name == owner::FILE) {
        return Ok(None);
    }
    // No run has a name with a full stop in it.
    let free = (1..u32::MAX).map(|number| state.join(format!("{name}.before-{number}")));
    let mut free = free.skip_while(|path| path.exists());
    let kept = free.next().unwrap_or_else(|| state.join(format!("{name}.before")));
    fs::rename(&path, &kept).map_err(DiskError::at(&path, Doing::Renamed))?;
    let mut state = FileSystem::new(state);
    state
        .sync_folder()
        .map_err(DiskError::at(state.path(""), Doing::Synced))?;
    Ok(Some(kept))
}

/// Numbers that nobody can guess, from the system.
fn random_secrets() -> Result<Secrets, OpenError> {
    let mut bytes = [0; 40];
    getrandom::fill(&mut bytes).map_err(|error| OpenError::NoSecrets(error.to_string()))?;
    let mut run_id = [0; 8];
    let mut token_key = [0; 32];
    run_id.copy_from_slice(&bytes[..8]);
    token_key.copy_from_slice(&bytes[8..]);
    Ok(Secrets {
        run_id: u64::from_le_bytes(run_id),
        token_key,
    })
}

#[cfg(test)]
mod tests;
