//! Two servers never own a run: the owner holds a lock of the operating system on a file in the run's folder, and that
//! file says who it is. The system frees the lock when the process ends, however it ends.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{age, utc};
use crate::disk::{DiskError, Doing};

/// The file's name.
pub const FILE: &str = "owner.json";

/// Who lists runs asks for the lock, too, and holds it for some microseconds. So a claim is tried again a few times.
const TRIES: usize = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(10);

/// The process that owns a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Its machine.
    pub host: String,
    /// Its number there.
    pub process: u32,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
}

/// The ownership of a run, until it is dropped.
#[derive(Debug)]
pub struct Owned {
    /// Locked as long as it is open.
    #[cfg_attr(not(feature = "folder"), expect(dead_code, reason = "open for its lock"))]
    file: File,
}

#[cfg(feature = "folder")]
impl Owned {
    /// Whether the file that is locked is still the one in the folder: somebody may have taken the folder away.
    pub(crate) fn is_in(&self, folder: &Path) -> bool {
        is_at(&self.file, &folder.join(FILE)).unwrap_or(false)
    }
}

/// Why a run can't be owned.
#[derive(Debug, Error)]
pub enum OwnerError {
    /// Another process owns it.
    #[error("{}: {}; stop it first, or start another run", .folder, held_by(.owner.as_ref(), *.now_ms))]
    Held {
        /// The run's folder.
        folder: String,
        /// The process, if it has said who it is.
        owner: Option<Owner>,
        /// The time now.
        now_ms: u64,
    },
    /// The lock's file can't be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Makes this process the owner of the run in the folder.
///
/// # Errors
/// Another process owns it, or the system refuses.
pub fn claim(folder: &Path, now_ms: u64) -> Result<Owned, OwnerError> {
    let path = folder.join(FILE);
    for _ in 0..TRIES {
        let mut file = open(&path)?;
        match lock(&file, &path)? {
            Locked::Ours => {
                write(&mut file, &this_process(now_ms)).map_err(DiskError::at(&path, Doing::Written))?;
                return Ok(Owned { file });
            }
            // Its folder got another name between the two steps: the file of this name is another one by now.
            Locked::AnotherFile => {}
            Locked::ByAnother => thread::sleep(BETWEEN_TRIES),
        }
    }
    Err(OwnerError::Held {
        folder: folder.display().to_string(),
        owner: read(&mut open(&path)?),
        now_ms,
    })
}

fn open(path: &Path) -> Result<File, DiskError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    opened.map_err(DiskError::at(path, Doing::Created))
}

/// What came of an attempt to lock.
#[derive(Debug, PartialEq, Eq)]
enum Locked {
    /// This process holds the lock of the file at its path.
    Ours,
    /// The lock is of a file that is at another path, or at none.
    AnotherFile,
    /// Another process holds it.
    ByAnother,
}

/// Locks the file, which was opened at `path`.
fn lock(file: &File, path: &Path) -> Result<Locked, DiskError> {
    match file.try_lock() {
        Ok(()) if is_at(file, path).map_err(DiskError::at(path, Doing::Locked))? => Ok(Locked::Ours),
        Ok(()) => Ok(Locked::AnotherFile),
        Err(TryLockError::WouldBlock) => Ok(Locked::ByAnother),
        Err(TryLockError::Error(error)) => Err(DiskError::at(path, Doing::Locked)(error)),
    }
}

/// Whether the file at `path` is this one.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Elsewhere a folder with an open file in it gets no other name.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> io::Result<bool> {
    Ok(true)
}

/// This process as an owner.
pub(crate) fn this_process(now_ms: u64) -> Owner {
    Owner {
        host: host(),
        process: std::process::id(),
        since_ms: now_ms,
    }
}

/// The process that owns the run in the folder now, if any does.
pub fn owner_of(folder: &Path) -> Option<Owner> {
    let mut file = File::open(folder.join(FILE)).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => read(&mut file),
        _ => None,
    }
}

fn read(file: &mut File) -> Option<Owner> {
    let mut json = String::new();
    file.read_to_string(&mut json).ok()?;
    serde_json::from_str(&json).ok()
}

fn write(file: &mut File, owner: &Owner) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    let mut json = serde_json::to_vec_pretty(owner)?;
    json.push(b'\n');
    file.write_all(&json)
}

/// The name of this machine.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| fs::read_to_string("/etc/hostname"));
    match name {
        Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => std::env::var("HOSTNAME").unwrap_or_else(|_| "a machine without a name".to_owned()),
    }
}

fn held_by(owner: Option<&Owner>, now_ms: u64) -> String {
    match owner {
        Some(owner) => format!(
            "process {} on {} has owned this run since {} ({} ago)",
            owner.process,
            owner.host,
            utc(owner.since_ms),
            age(now_ms.saturating_sub(owner.since_ms))
        ),
        None => "another process owns this run".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_told_who_owns_the_run_and_since_when() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(owner_of(folder.path()), None);
        let owned = claim(folder.path(), 1_000_000).expect("it is free");
        let error = claim(folder.path(), 1_120_000).expect_err("it is owned").to_string();
        let process = format!("process {} on ", std::process::id());
        assert!(error.contains(&process) && error.contains("since 1970-01-01 00:16:40 UTC (2 minutes ago)"));
        assert_eq!(owner_of(folder.path()).map(|owner| owner.since_ms), Some(1_000_000));
        drop(owned);
        assert_eq!(owner_of(folder.path()), None);
        drop(claim(folder.path(), 2_000_000).expect("it is free again"));
    }

    #[test]
    fn a_run_can_be_begun_while_others_list_it() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(claim(folder.path(), 1_000).expect("it is free"));
        // Somebody lists it, and holds the lock until the claim has met it.
        let file = File::open(folder.path().join(FILE)).expect("it is there");
        file.try_lock_shared().expect("it is free");
        let listing = thread::spawn(move || {
            thread::sleep(2 * BETWEEN_TRIES);
            drop(file);
        });
        drop(claim(folder.path(), 2_000).expect("who lists owns nothing"));
        listing.join().expect("it ends");
    }

    #[cfg(unix)]
    #[test]
    fn the_lock_of_a_folder_that_got_another_name_meanwhile_is_no_ownership() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("digits");
        fs::create_dir(&folder).expect("creates");
        let path = folder.join(FILE);
        let file = open(&path).expect("opens");
        // A fresh start gives the folder another name, and begins one in its place.
        fs::rename(&folder, parent.path().join("digits.before-1")).expect("renames");
        assert_eq!(lock(&file, &path).expect("locks"), Locked::AnotherFile, "there is none");
        fs::create_dir(&folder).expect("creates");
        let owned = claim(&folder, 1_000).expect("it is free");
        assert_eq!(lock(&file, &path).expect("locks"), Locked::AnotherFile);
        drop(owned);
        let file = open(&path).expect("opens");
        assert_eq!(lock(&file, &path).expect("locks"), Locked::Ours);
    }

    #[test]
    fn a_process_that_is_killed_frees_its_run_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(claim(folder.path(), 1_000).expect("it is free"));
        let path = folder.path().join(FILE);
        // util-linux's command takes the same lock.
        let script = "flock -n -x \"$0\" -c 'echo locked; exec sleep 60'";
        let child = std::process::Command::new("setsid")
            .args(["sh", "-c", script])
            .arg(&path)
            .stdout(std::process::Stdio::piped())
            .spawn();
        let mut child = child.expect("util-linux is there");
        let mut said = [0; 7];
        child
            .stdout
            .as_mut()
            .expect("piped")
            .read_exact(&mut said)
            .expect("locked");
        assert!(matches!(claim(folder.path(), 2_000), Err(OwnerError::Held { .. })));
        let group = format!("-{}", child.id());
        let killed = std::process::Command::new("kill")
            .args(["-KILL", "--", &group])
            .status();
        assert!(killed.expect("kill is there").success());
        child.wait().expect("it ends");
        // The system frees it as soon as the last of the group has gone.
        let free = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            claim(folder.path(), 3_000).is_ok()
        });
        assert!(free);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = claim(&folder.path().join("gone"), 0)
            .expect_err("no folder")
            .to_string();
        assert!(
            error.contains("gone/owner.json: can't be created: No such file"),
            "{error}"
        );
    }
}
