//! Where runs are kept: a folder of the file system, or a store.

use std::fs;
use std::path::{Path, PathBuf};

use super::is_name;
use crate::clock::now_ms;
use crate::disk::{Disk, DiskError, Doing, FileSystem};
use crate::error::OpenError;
use crate::identity::Wanted;
use crate::open::read_identity;
use crate::owner::{self, Owned};
#[cfg(feature = "s3")]
use crate::s3::{self, S3Disk, Store};

/// Where all runs are kept.
pub(super) enum Place {
    Folder(PathBuf),
    #[cfg(feature = "s3")]
    Store(Store),
}

/// The files of a run that this process owns.
pub(super) struct OwnedRun {
    pub(super) disk: Box<dyn Disk>,
    /// The same files, for the ledger.
    pub(super) ledger: Box<dyn Disk>,
    /// The run's folder, as errors name it.
    pub(super) path: PathBuf,
    pub(super) hold: Hold,
}

/// What keeps others out.
pub(super) enum Hold {
    /// A lock of this machine, as long as it is not dropped.
    Lock { owned: Owned },
    /// A lease in the store.
    #[cfg(feature = "s3")]
    Lease(S3Disk),
}

impl Hold {
    /// Who has taken the run over.
    pub(super) fn lost(&self) -> Option<String> {
        match self {
            Hold::Lock { .. } => None,
            #[cfg(feature = "s3")]
            Hold::Lease(disk) => disk.lost(),
        }
    }

    /// The lock of this machine, if it is one.
    pub(super) fn lock(&self) -> Option<&Owned> {
        match self {
            Hold::Lock { owned } => Some(owned),
            #[cfg(feature = "s3")]
            Hold::Lease(_) => None,
        }
    }

    /// Whether the run's files are those of a folder here.
    pub(super) fn is_local(&self) -> bool {
        matches!(self, Hold::Lock { .. })
    }
}

impl Place {
    /// The place that `--state` names.
    pub(super) fn of(state: &Path) -> Result<Place, OpenError> {
        #[cfg(feature = "s3")]
        if let Some(address) = state.to_str().filter(|text| s3::is_address(text)) {
            return Ok(Place::Store(Store::from_env(address)?));
        }
        Ok(Place::Folder(state.to_owned()))
    }

    /// Makes this process the owner of a run, whose folder is made if there is none.
    pub(super) fn own(&self, run: &str) -> Result<OwnedRun, OpenError> {
        match self {
            Place::Folder(state) => {
                let path = state.join(run);
                create(state, &path)?;
                let owned = owner::claim(&path, now_ms())?;
                Ok(OwnedRun {
                    disk: Box::new(FileSystem::new(&path)),
                    ledger: Box::new(FileSystem::new(&path)),
                    path,
                    hold: Hold::Lock { owned },
                })
            }
            #[cfg(feature = "s3")]
            Place::Store(store) => {
                let disk = S3Disk::claim(store.run(run), now_ms())?;
                Ok(OwnedRun {
                    path: disk.path(""),
                    disk: Box::new(disk.clone()),
                    ledger: Box::new(disk.clone()),
                    hold: Hold::Lease(disk),
                })
            }
        }
    }

    /// The files of a run, to be read.
    pub(super) fn files_of(&self, run: &str) -> Box<dyn Disk> {
        match self {
            Place::Folder(state) => Box::new(FileSystem::new(state.join(run))),
            #[cfg(feature = "s3")]
            Place::Store(store) => Box::new(S3Disk::reader(store.run(run))),
        }
    }

    /// A line for each run here that has the model, the data and the seed of `wanted`, which begins now: its name was
    /// changed in the run file, perhaps. What can't be read says nothing.
    pub(super) fn alike(&self, wanted: &Wanted) -> Vec<String> {
        let names = match self {
            Place::Folder(state) => FileSystem::new(state).list().unwrap_or_default(),
            #[cfg(feature = "s3")]
            Place::Store(store) => store.runs().unwrap_or_default(),
        };
        let others = names.into_iter().filter(|name| *name != wanted.run && is_name(name));
        let alike = others.filter(|name| {
            let identity = read_identity(&mut *self.files_of(name)).ok().flatten();
            identity.is_some_and(|identity| {
                let run = identity.run;
                (run.spec_hash, run.data_hash, run.seed) == (wanted.spec_hash, wanted.data_hash, wanted.seed)
            })
        });
        let line = |name: String| {
            let new = &wanted.run;
            format!(
                "run {new} begins anew, and run {name} in the same place has its model, data and seed; to go on with \
                 that one, set name = \"{name}\" in the run file, and to give it the new name, start it with --fork \
                 {new} then"
            )
        };
        alike.map(line).collect()
    }

    /// Gives the folder of a run that has begun another name, which it says.
    pub(super) fn set_aside(&self, run: &str) -> Result<Option<PathBuf>, OpenError> {
        let mut disk = self.files_of(run);
        let names = disk.list().map_err(DiskError::at(disk.path(""), Doing::Listed))?;
        if names
            .iter()
            .all(|name| name == owner::FILE || name == crate::newest::FILE)
        {
            return Ok(None);
        }
        match self {
            Place::Folder(state) => rename(state, run).map(Some),
            #[cfg(feature = "s3")]
            Place::Store(_) => Err(OpenError::FreshInStore { path: disk.path("") }),
        }
    }
}

/// Makes the folder of all runs, and in it that of one, where they are missing, for good.
fn create(state: &Path, path: &Path) -> Result<(), DiskError> {
    if path.is_dir() {
        return Ok(());
    }
    let is_first = !state.is_dir();
    fs::create_dir_all(path).map_err(DiskError::at(path, Doing::Created))?;
    if is_first {
        // Some systems let nobody read the folder around it; then its name is durable when the system likes.
        let _ = sync(state.parent().unwrap_or(Path::new("")));
    }
    sync(state)
}

fn rename(state: &Path, run: &str) -> Result<PathBuf, OpenError> {
    let path = state.join(run);
    // No run has a name with a full stop in it.
    let free = (1..u32::MAX).map(|number| state.join(format!("{run}.before-{number}")));
    let mut free = free.skip_while(|path| path.exists());
    let kept = free.next().unwrap_or_else(|| state.join(format!("{run}.before")));
    fs::rename(&path, &kept).map_err(DiskError::at(&path, Doing::Renamed))?;
    sync(state)?;
    Ok(kept)
}

fn sync(folder: &Path) -> Result<(), DiskError> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    FileSystem::new(folder)
        .sync_folder()
        .map_err(DiskError::at(folder, Doing::Synced))
}
