//! The files of one folder: the few operations that a run's state needs, one at a time. [`FileSystem`] has the real
//! ones; a simulated disk can lose what was not synced.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The files of one folder, by their names.
///
/// What is written is there after a crash only once it was synced; a new name only once the folder was synced.
pub trait Disk: Send {
    /// Creates the file, or empties it, and writes what `content` gives.
    ///
    /// # Errors
    /// What the system says.
    fn write(&mut self, file: &str, access: Access, content: &mut WriteContent<'_>) -> io::Result<()>;

    /// Writes behind the end of the file, which is created where it is missing.
    ///
    /// # Errors
    /// What the system says.
    fn append(&mut self, file: &str, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's content durable.
    ///
    /// # Errors
    /// What the system says. Then nothing is known of what is durable.
    fn sync(&mut self, file: &str) -> io::Result<()>;

    /// Gives a file another name; a file that has it is replaced.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;

    /// Makes the names in the folder durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_folder(&mut self) -> io::Result<()>;

    /// The file's content.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::NotFound`] where there is no such file.
    fn read(&mut self, file: &str) -> io::Result<Vec<u8>>;

    /// The names of all files, in any order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&mut self) -> io::Result<Vec<String>>;

    /// Bytes of the file.
    ///
    /// # Errors
    /// What the system says.
    fn length(&mut self, file: &str) -> io::Result<u64>;

    /// Removes the file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&mut self, file: &str) -> io::Result<()>;

    /// How errors name the file.
    fn path(&self, file: &str) -> PathBuf;
}

/// What writes a file's content.
pub type WriteContent<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// Which users may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its owner alone: it holds a secret.
    Owner,
    /// As the system has it by default.
    Default,
}

/// A folder of the file system.
#[derive(Debug)]
pub struct FileSystem {
    folder: PathBuf,
}

impl FileSystem {
    /// The folder `folder`, which is there.
    pub fn new(folder: impl Into<PathBuf>) -> FileSystem {
        FileSystem { folder: folder.into() }
    }
}

impl Disk for FileSystem {
    fn write(&mut self, file: &str, access: Access, content: &mut WriteContent<'_>) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let mut file = restricted(&mut options, access).open(self.folder.join(file))?;
        content(&mut file)
    }

    fn append(&mut self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.folder.join(file))?;
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &str) -> io::Result<()> {
        // Syncing is about the file, not about the handle that it was written through.
        File::open(self.folder.join(file))?.sync_all()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn read(&mut self, file: &str) -> io::Result<Vec<u8>> {
        fs::read(self.folder.join(file))
    }

    fn list(&mut self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        // A name that is no text is none of ours.
        let names: io::Result<Vec<Option<String>>> = names.collect();
        Ok(names?.into_iter().flatten().collect())
    }

    fn length(&mut self, file: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.folder.join(file))?.len())
    }

    fn remove(&mut self, file: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(file))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }
}

#[cfg(unix)]
fn restricted(options: &mut OpenOptions, access: Access) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    match access {
        Access::Owner => options.mode(0o600),
        Access::Default => options,
    }
}

#[cfg(not(unix))]
fn restricted(options: &mut OpenOptions, _access: Access) -> &mut OpenOptions {
    options
}

/// What the system says against an operation.
#[derive(Debug, Error)]
#[error("{}: can't be {doing}: {error}; {}", .path.display(), fix(.error))]
pub struct DiskError {
    /// The file or the folder.
    pub path: PathBuf,
    /// What was to be done to it.
    pub doing: Doing,
    /// What the system says; a part of the message, and so no cause of its own.
    pub error: io::Error,
}

/// What is done to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Doing {
    Created,
    Written,
    Synced,
    Renamed,
    Read,
    Listed,
    Removed,
    Locked,
}

impl fmt::Display for Doing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Doing::Created => "created",
            Doing::Written => "written",
            Doing::Synced => "written to the disk for good",
            Doing::Renamed => "renamed",
            Doing::Read => "read",
            Doing::Listed => "listed",
            Doing::Removed => "removed",
            Doing::Locked => "locked",
        })
    }
}

impl DiskError {
    /// What makes the system's error one of this kind.
    pub(crate) fn at(path: impl AsRef<Path>, doing: Doing) -> impl FnOnce(io::Error) -> DiskError {
        let path = path.as_ref().to_owned();
        move |error| DiskError { path, doing, error }
    }
}

/// What an operator can do about it.
fn fix(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on its disk",
        io::ErrorKind::PermissionDenied => "give this user rights there, or choose another folder with --state",
        io::ErrorKind::ReadOnlyFilesystem => "mount it writable, or choose another folder with --state",
        io::ErrorKind::NotFound => "put it back, or choose another folder with --state",
        _ => "check its disk, or choose another folder with --state",
    }
}
