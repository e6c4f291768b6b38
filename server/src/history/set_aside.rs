//! A file that can't go on is set aside under another name. Nothing is deleted.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

/// What belongs to a file of SQLite, by the ends of the names: the write-ahead log is a part of the contents.
const PARTS: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Renames the file and what belongs to it to a name with this word and the time (UTC) behind, and returns the name.
pub(super) fn set_aside(path: &Path, word: &str) -> io::Result<PathBuf> {
    let target = free_name(path, word)?;
    for part in PARTS {
        match std::fs::rename(with_end(path, part), with_end(&target, part)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(target)
}

/// Whether anything of a file of SQLite is there, be it without the file itself.
pub(super) fn has_parts(path: &Path) -> bool {
    PARTS.iter().any(|part| with_end(path, part).symlink_metadata().is_ok())
}

/// The path with something behind its name.
pub(super) fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    PathBuf::from(name)
}

/// A name that no file has.
fn free_name(path: &Path, word: &str) -> io::Result<PathBuf> {
    let time = utc_now().map_err(io::Error::other)?;
    let stem = with_end(path, &format!(".{word}-{time}"));
    let numbered = (2..100).map(|number| with_end(&stem, &format!("-{number}")));
    let mut names = std::iter::once(stem.clone()).chain(numbered);
    names.find(|name| !has_parts(name)).ok_or_else(|| {
        let name = stem.display();
        io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{name}: a hundred files have such names"),
        )
    })
}

/// The time of day as in `20261231T235959Z`. SQLite has the calendar.
fn utc_now() -> rusqlite::Result<String> {
    let connection = Connection::open_in_memory()?;
    connection.query_row("SELECT strftime('%Y%m%dT%H%M%SZ', 'now')", [], |row| row.get(0))
}
