//! A run's folder, in the file system or in a store: opened by one server at a time, written on a thread of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bsp::central::{Awaited, Checkpoint};

use crate::checkpoint::{self, About, Best};
use crate::clock::now_ms;
use crate::disk::{Access, Disk, DiskError, Doing};
use crate::error::OpenError;
use crate::identity::{Change, Identity, Secrets, Wanted};
use crate::ledger::Ledger;
use crate::newest::{self, Newest, RunState};
use crate::open::{Compare, open_on, read_identity};
use crate::snapshot::Snapshot;
use crate::writing::{Content, Writing, perform_all, replace_file, write_checkpoint};

mod fork;
mod place;
mod rollback;
mod take_back;

use place::{Hold, Place};

/// The best model's file.
pub const BEST_FILE: &str = "best.superstep";
/// The longest name of a run, as in run files.
const MAX_NAME: usize = 64;

/// What is opened, and how.
pub struct Options<'a> {
    /// The folder of all runs, or the address of a store: `s3://BUCKET/PREFIX`.
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
    /// Makes a checkpoint of another run that a fork begins with fit this run. Says what of it is left out, in a line.
    pub adapt: &'a Adapt<'a>,
}

/// Makes a checkpoint fit a run that is trained in another way; see [`Options::adapt`].
pub type Adapt<'a> = dyn Fn(&mut Checkpoint) -> Option<String> + 'a;

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
    disk: Box<dyn Disk>,
    identity: Identity,
    about: About,
    newest: Newest,
    keep: usize,
    hold: Hold,
    /// Who has the folder now, if this process has lost it.
    lost: Option<String>,
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
        let place = Place::of(options.state)?;
        let mut owned = place.own(&wanted.run)?;
        if options.is_fresh
            && let Some(kept) = place.set_aside(&wanted.run)?
        {
            warnings.push(format!("{}: the run before is kept there", kept.display()));
            owned = place.own(&wanted.run)?;
        }
        // Only a new run needs them, but whether there are any is to be known before anything is written.
        let secrets = random_secrets()?;
        let disk = &mut *owned.disk;
        if options.fork.is_some() {
            let mut source = place.files_of(&options.wanted.run);
            warnings.extend(fork::begin(&mut *source, disk, &wanted, secrets, options.adapt)?);
        } else if read_identity(disk)?.is_none() {
            warnings.extend(place.alike(&wanted));
        }
        let opened = open_on(disk, &wanted, &mut || secrets, options.compare, now_ms())?;
        warnings.extend(opened.warnings);
        let start = Snapshot {
            incarnation: opened.incarnation,
            number: 0,
        };
        Ok(OpenedFolder {
            folder: Folder {
                disk: owned.disk,
                about: opened.identity.about(opened.incarnation),
                identity: opened.identity.clone(),
                newest: opened.newest,
                keep: options.keep,
                hold: owned.hold,
                lost: None,
                path: owned.path,
            },
            ledger: Ledger::new(owned.ledger, start),
            identity: opened.identity,
            incarnation: opened.incarnation,
            checkpoint: opened.checkpoint,
            awaited: opened.awaited,
            changes: opened.changes,
            warnings,
        })
    }

    /// Where it is, as errors name it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder, for the run's other files; none where the run is kept in a store.
    pub fn local_path(&self) -> Option<&Path> {
        self.hold.is_local().then_some(&self.path)
    }

    /// Who has taken the run over, in a line; none as long as this process owns it. A lease in a store can be taken
    /// over, and a folder that was taken away and put back: then nothing that is written from here on is durable.
    pub fn lost(&self) -> Option<String> {
        self.lost.clone().or_else(|| self.hold.lost())
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
        self.take_back()?;
        let mut newest = self.newest.clone();
        newest.point_to(checkpoint);
        newest.accuracy = accuracy.or(newest.accuracy);
        newest.state = state;
        newest.written_at_ms = now_ms();
        let written = write_checkpoint(&mut *self.disk, &self.about, checkpoint, &newest, self.keep)?;
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
        replace_file(&mut *self.disk, newest::FILE, Access::Default, self.newest.to_json())
    }

    /// Keeps this model as the best one, in place of the one before.
    ///
    /// # Errors
    /// What the disk says. Then the one before stays.
    pub fn keep_best(&mut self, best: &Best) -> Result<(), DiskError> {
        let steps = Writing::replace(BEST_FILE, Access::Default, Content::Given);
        let mut encode = |to: &mut dyn Write| checkpoint::encode_best(&self.about, best, to).map(|_| ());
        perform_all(steps, &mut *self.disk, &mut encode).map(|_| ())
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
