//! A folder that vanishes while its run is served, and comes back: as it was, empty, or with another run in it.

use std::fs;
use std::io;

use super::Folder;
use super::place::Hold;
use crate::clock::{now_ms, utc};
use crate::disk::{Access, DiskError, Doing};
use crate::identity::{self, Identity};
use crate::owner::{self, OwnerError};
use crate::writing::replace_file;

impl Folder {
    /// Makes sure that the folder is the one that this process owns. One that came back empty gets this owner and the
    /// run's identity again: without them its checkpoints would be of no use. A folder that is missing is not made: it
    /// may be a disk that is not mounted now.
    ///
    /// # Errors
    /// The folder is missing, or another process has it now.
    pub(super) fn take_back(&mut self) -> Result<(), DiskError> {
        if self.hold.lock().is_none_or(|owned| owned.is_in(&self.path)) {
            return Ok(());
        }
        fs::read_dir(&self.path).map_err(DiskError::at(self.disk.path(""), Doing::Listed))?;
        let owned = match owner::claim(&self.path, now_ms()) {
            Ok(owned) => owned,
            Err(OwnerError::Disk(error)) => return Err(error),
            Err(OwnerError::Held { owner, .. }) => {
                let other = owner.map_or("another process".to_owned(), |owner| {
                    let since = utc(owner.since_ms);
                    format!("process {} on {}, since {since},", owner.process, owner.host)
                });
                return Err(self.lose(format!(
                    "the folder was taken away, and {other} owns the one that is there now"
                )));
            }
        };
        match self.disk.read(identity::FILE) {
            Ok(json) if Identity::from_json(&json).is_ok_and(|there| there.secrets == self.identity.secrets) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                replace_file(&mut *self.disk, identity::FILE, Access::Owner, self.identity.to_json())?;
            }
            Err(error) => return Err(DiskError::at(self.disk.path(identity::FILE), Doing::Read)(error)),
            Ok(_) => return Err(self.lose("the folder was taken away, and another run is there now".to_owned())),
        }
        self.hold = Hold::Lock { owned };
        Ok(())
    }

    fn lose(&mut self, what: String) -> DiskError {
        let line = format!("{what}; this server stops");
        self.lost = Some(line.clone());
        DiskError::at(&self.path, Doing::Written)(io::Error::other(line))
    }
}
