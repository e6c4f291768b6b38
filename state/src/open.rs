//! How a run is opened over the files of its folder: which run it is, where it goes on, and as which incarnation.

use std::collections::BTreeSet;
use std::io;

use bsp::central::{Awaited, Checkpoint};
use serde_json::Value;

use crate::checkpoint::{self, About, Problem};
use crate::disk::{Access, Disk, DiskError, Doing};
use crate::error::OpenError;
use crate::identity::{self, Change, Identity, Secrets, Wanted};
use crate::ledger::read_awaited;
use crate::newest::{self, Newest, RunState};
use crate::snapshot::Snapshot;
use crate::writing::replace_file;

/// More starts than a run has in a century, one each hour. A checkpoint has a few bytes for each.
const MAX_INCARNATION: u32 = 1_000_000;

/// Compares run files: the one that a run was last served with, and the one that it is to be served with.
pub type Compare<'a> = dyn Fn(&Value, &Value) -> Vec<Change> + 'a;

/// A run that was opened.
#[derive(Clone, Debug)]
pub struct Opened {
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
    /// What `newest.json` says now.
    pub newest: Newest,
}

/// What the folder gave.
struct Loaded {
    checkpoint: Option<Checkpoint>,
    newest: Option<Newest>,
    damaged: Vec<String>,
    warnings: Vec<String>,
}

/// Opens the run on a disk, or begins it where there is none. When this returns, the incarnation is durable.
///
/// # Errors
/// Why the run can't go on with this run file and these files. Nothing was removed.
pub fn open_on(
    disk: &mut dyn Disk,
    wanted: &Wanted,
    secrets: &mut dyn FnMut() -> Secrets,
    compare: &Compare<'_>,
    now_ms: u64,
) -> Result<Opened, OpenError> {
    let names = disk.list().map_err(DiskError::at(disk.path(""), Doing::Listed))?;
    let (identity, changes) = match read_identity(disk)? {
        Some(identity) => go_on(disk, identity, wanted, compare)?,
        None => {
            if names.iter().any(|name| Snapshot::of_checkpoint_file(name).is_some()) {
                return Err(OpenError::NoIdentity {
                    path: disk.path(identity::FILE),
                });
            }
            let identity = Identity {
                secrets: secrets(),
                run: wanted.clone(),
                created_at_ms: now_ms,
            };
            replace_file(disk, identity::FILE, Access::Owner, identity.to_json())?;
            (identity, Vec::new())
        }
    };
    let mut loaded = load(disk, &identity.about(0), &names)?;
    let awaited = read_awaited(disk, loaded.checkpoint.as_ref())?;

    let last = last_incarnation(&names, loaded.newest.as_ref());
    if last >= MAX_INCARNATION {
        let folder = disk.path("");
        return Err(OpenError::Incarnation { folder, last });
    }
    let incarnation = last + 1;
    let before = loaded.newest.take();
    let mut newest = Newest::new(incarnation, now_ms);
    newest.accuracy = before.as_ref().and_then(|before| before.accuracy);
    newest.damaged = still_damaged(before.as_ref(), &mut loaded, &names);
    if let Some(checkpoint) = &loaded.checkpoint {
        newest.point_to(checkpoint);
    }
    newest.state = RunState::Training;
    leave_trace(disk, incarnation)?;
    replace_file(disk, newest::FILE, Access::Default, newest.to_json())?;
    Ok(Opened {
        identity,
        incarnation,
        checkpoint: loaded.checkpoint,
        awaited,
        changes,
        warnings: loaded.warnings,
        newest,
    })
}

/// The newest checkpoint of the run on a disk, and what an operator should know. Nothing is changed.
#[cfg(feature = "folder")]
pub(crate) fn newest_checkpoint(
    disk: &mut dyn Disk,
    identity: &Identity,
) -> Result<(Option<Checkpoint>, Vec<String>), OpenError> {
    let names = disk.list().map_err(DiskError::at(disk.path(""), Doing::Listed))?;
    let loaded = load(disk, &identity.about(0), &names)?;
    Ok((loaded.checkpoint, loaded.warnings))
}

/// Whose folder it is; none where it has no `run.json`.
pub(crate) fn read_identity(disk: &mut dyn Disk) -> Result<Option<Identity>, OpenError> {
    let path = disk.path(identity::FILE);
    match disk.read(identity::FILE) {
        Ok(json) => match Identity::from_json(&json) {
            Ok(identity) => Ok(Some(identity)),
            Err(problem) => Err(OpenError::Identity { path, problem }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::at(path, Doing::Read)(error).into()),
    }
}

/// Checks whether a run can go on with another run file, and keeps that file if it is another.
fn go_on(
    disk: &mut dyn Disk,
    mut identity: Identity,
    wanted: &Wanted,
    compare: &Compare<'_>,
) -> Result<(Identity, Vec<Change>), OpenError> {
    let folder = disk.path("");
    let changes = compare(&identity.run.run_file, &wanted.run_file);
    let refused: Vec<String> = changes
        .iter()
        .filter(|c| !c.is_allowed)
        .map(Change::to_string)
        .collect();
    if !refused.is_empty() {
        return Err(OpenError::Changed {
            folder,
            changes: refused.join("; "),
        });
    }
    let before = &identity.run;
    if (before.spec_hash, before.parameters) != (wanted.spec_hash, wanted.parameters) {
        return Err(OpenError::ModelChanged { folder });
    }
    if before.seed != wanted.seed || before.data_hash != wanted.data_hash {
        return Err(OpenError::DataChanged { folder });
    }
    if identity.run.run_file != wanted.run_file {
        identity.run.run_file = wanted.run_file.clone();
        replace_file(disk, identity::FILE, Access::Owner, identity.to_json())?;
    }
    Ok((identity, changes))
}

/// The newest checkpoint that can be read. Names that can't be read are told.
fn load(disk: &mut dyn Disk, run: &About, names: &[String]) -> Result<Loaded, OpenError> {
    let mut warnings = Vec::new();
    let newest = read_newest(disk, &mut warnings)?;
    let mut candidates: Vec<Snapshot> = names
        .iter()
        .filter_map(|name| Snapshot::of_checkpoint_file(name))
        .collect();
    candidates.sort_unstable_by(|a, b| b.cmp(a));
    let pointed = newest.as_ref().and_then(|newest| newest.checkpoint.clone());
    let missing = pointed.filter(|file| !names.contains(file));
    if let Some(file) = &missing {
        let path = disk.path(file);
        if candidates.is_empty() {
            return Err(OpenError::Missing { path });
        }
        warnings.push(format!(
            "{}: is missing, though it was written; an older one is used",
            path.display()
        ));
    }
    let mut damaged: Vec<String> = Vec::new();
    let mut first_problem = None;
    for candidate in candidates {
        let file = candidate.checkpoint_file();
        let path = disk.path(&file);
        match read_checkpoint(disk, run, &file) {
            Ok(checkpoint) => {
                if !damaged.is_empty() {
                    warnings.push(format!("{}: the run goes on from here", path.display()));
                }
                return Ok(Loaded {
                    checkpoint: Some(checkpoint),
                    newest,
                    damaged,
                    warnings,
                });
            }
            Err(what) if what.is_newer => return Err(OpenError::NewerFormat { line: what.line }),
            Err(what) => {
                first_problem.get_or_insert_with(|| what.line.clone());
                warnings.push(what.line);
                damaged.push(file);
            }
        }
    }
    match first_problem {
        Some(newest) => Err(OpenError::NoneReadable {
            folder: disk.path(""),
            count: damaged.len(),
            newest,
        }),
        None => Ok(Loaded {
            checkpoint: None,
            newest,
            damaged,
            warnings,
        }),
    }
}

/// Why a checkpoint is passed over.
pub(crate) struct Unreadable {
    pub(crate) line: String,
    is_newer: bool,
}

pub(crate) fn read_checkpoint(disk: &mut dyn Disk, run: &About, file: &str) -> Result<Checkpoint, Unreadable> {
    let path = disk.path(file);
    let bytes = disk.read(file).map_err(|error| Unreadable {
        line: DiskError::at(&path, Doing::Read)(error).to_string(),
        is_newer: false,
    })?;
    let read = checkpoint::decode(&bytes).and_then(|(about, checkpoint)| about.check(run).map(|()| checkpoint));
    read.map_err(|problem| Unreadable {
        line: format!("{}: {problem}", path.display()),
        is_newer: matches!(problem, Problem::NewerFormat { .. }),
    })
}

/// `newest.json`, if it is there and whole.
fn read_newest(disk: &mut dyn Disk, warnings: &mut Vec<String>) -> Result<Option<Newest>, OpenError> {
    let path = disk.path(newest::FILE);
    match disk.read(newest::FILE) {
        Ok(json) => {
            let newest = Newest::from_json(&json);
            if newest.is_none() {
                let path = path.display();
                warnings.push(format!(
                    "{path}: is damaged; the newest checkpoint is found by its name, and it is written anew"
                ));
            }
            Ok(newest)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::at(path, Doing::Read)(error).into()),
    }
}

/// The last incarnation that has left a trace. A disk may have given an old pointer, so names count too.
fn last_incarnation(names: &[String], newest: Option<&Newest>) -> u32 {
    let files = names.iter().filter_map(|name| {
        let snapshot = Snapshot::of_checkpoint_file(name).or_else(|| Snapshot::of_ledger_file(name));
        snapshot.map(|snapshot| snapshot.incarnation)
    });
    files.chain(newest.map(|newest| newest.incarnation)).max().unwrap_or(0)
}

/// Begins the incarnation's first ledger. Its name says that there was this incarnation: a disk that gives an old
/// `newest.json`, or none, would let its number be used twice otherwise, and with it the numbers of its sessions.
pub(crate) fn leave_trace(disk: &mut dyn Disk, incarnation: u32) -> Result<(), DiskError> {
    let file = Snapshot { incarnation, number: 0 }.ledger_file();
    let path = disk.path(&file);
    disk.append(&file, &[]).map_err(DiskError::at(&path, Doing::Created))?;
    disk.sync(&file).map_err(DiskError::at(&path, Doing::Synced))?;
    disk.sync_folder().map_err(DiskError::at(disk.path(""), Doing::Synced))
}

/// The checkpoints that could not be read, now or earlier, as long as they are there.
fn still_damaged(before: Option<&Newest>, loaded: &mut Loaded, names: &[String]) -> Vec<String> {
    let mut damaged: BTreeSet<String> = loaded.damaged.drain(..).collect();
    let loaded = loaded.checkpoint.as_ref().map(|c| Snapshot::of(c).checkpoint_file());
    let earlier = before.iter().flat_map(|before| before.damaged.iter());
    let earlier = earlier.filter(|file| names.contains(file) && Some(*file) != loaded.as_ref());
    damaged.extend(earlier.cloned());
    damaged.into_iter().collect()
}
