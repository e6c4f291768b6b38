//! The file: a SQLite database, checked when it is opened, written in batches.
//!
//! In write-ahead mode a batch is appended to a log, which is synced when it is moved into the file, about once a
//! mebibyte: after `kill -9` nothing of a batch is missing, after a power cut the newest batches may be.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode, OpenFlags, params_from_iter};

use super::kept::{Kept, KeptChanges};
use super::set_aside::{has_parts, set_aside, with_end};
use super::tables::{APPLICATION_ID, Columns, SCHEMA, SCHEMA_VERSION, Stored};
use super::thinned::Changes;

/// A run's bounds come to about 3 MB. Reading a file beyond ten times that would hold the start up for nothing.
pub(super) const MAX_FILE_BYTES: u64 = 32 << 20;

/// A reader may hold the file for a moment. A batch that waits longer is tried again later.
const BUSY: Duration = Duration::from_secs(1);

/// The beginning of each file of SQLite. SQLite itself takes a file of a few bytes for an empty database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Pages of 4,096 bytes: the log is moved into the file at one mebibyte.
const LOG_PAGES: u32 = 256;

/// An open file that holds what is kept, or will.
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    file: FileId,
}

/// Which file a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

/// The file can't be read or written now. Perhaps it can be later.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {fix}")]
pub(super) struct Unusable {
    what: String,
    fix: &'static str,
}

/// The file is no history that can be gone on with.
#[derive(Debug)]
struct NotOurs {
    /// For the name under which it is set aside.
    word: &'static str,
    why: String,
}

enum OpenError {
    Unusable(Unusable),
    NotOurs(NotOurs),
}

impl FileId {
    /// The file that this path leads to now, if it leads to one.
    pub(super) fn at(path: &Path) -> Option<FileId> {
        let metadata = fs::metadata(path).ok()?;
        Some(FileId {
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }
}

impl Database {
    /// Opens the file, or makes it. A file that can't be gone on with is set aside, which one warning says.
    pub(super) fn open(path: &Path) -> Result<(Database, Kept), Unusable> {
        match open(path) {
            Ok(opened) => Ok(opened),
            Err(OpenError::Unusable(unusable)) => Err(unusable),
            Err(OpenError::NotOurs(NotOurs { word, why })) => {
                let target = set_aside(path, word).map_err(|error| {
                    let what = format!("{why}, and it can't be renamed: {error}");
                    let fix = "move it away, or let the server's user write in its folder";
                    Unusable { what, fix }
                })?;
                let (path_shown, target) = (path.display(), target.display());
                tracing::warn!("{path_shown}: {why}; it is set aside as {target}, and a new history begins");
                open(path).map_err(|error| match error {
                    OpenError::Unusable(unusable) => unusable,
                    OpenError::NotOurs(NotOurs { why: what, .. }) => {
                        let fix = "check its disk";
                        Unusable { what, fix }
                    }
                })
            }
        }
    }

    /// The file's path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Which file it is.
    pub(super) fn file(&self) -> FileId {
        self.file
    }

    /// Writes what has changed, all or nothing.
    pub(super) fn write(&mut self, changes: &KeptChanges) -> Result<(), Unusable> {
        // SQLite would go on writing into a file that nobody finds again.
        if FileId::at(&self.path) != Some(self.file) {
            return Err(Unusable {
                what: "the file is gone, or another one is in its place".to_owned(),
                fix: "leave a run's folder alone while its server runs",
            });
        }
        self.try_write(changes).map_err(|error| unusable(&error))
    }

    /// The file may not grow from now on.
    #[cfg(test)]
    pub(super) fn limit_to_its_pages(&self) {
        self.connection
            .execute_batch("PRAGMA max_page_count = 1")
            .unwrap_or_default();
    }

    fn try_write(&mut self, changes: &KeptChanges) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        write_table(&transaction, &changes.supersteps, changes.is_whole)?;
        write_table(&transaction, &changes.evaluations, changes.is_whole)?;
        write_table(&transaction, &changes.events, changes.is_whole)?;
        transaction.commit()
    }
}

fn open(path: &Path) -> Result<(Database, Kept), OpenError> {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if has_parts(path) {
                return Err(not_ours("corrupt", "only its write-ahead log is there"));
            }
            if path.parent().is_none_or(|folder| !folder.is_dir()) {
                let what = "its folder is not there".to_owned();
                let fix = "make the folder";
                return Err(OpenError::Unusable(Unusable { what, fix }));
            }
            create(path)?;
            fs::metadata(path).map_err(|error| OpenError::Unusable(no_access(&error)))?
        }
        Err(error) => return Err(OpenError::Unusable(no_access(&error))),
    };
    match metadata.len() {
        _ if !metadata.is_file() => {
            let what = "it is no file".to_owned();
            let fix = "move it away";
            return Err(OpenError::Unusable(Unusable { what, fix }));
        }
        0 => return Err(not_ours("corrupt", "the file is empty")),
        bytes if bytes > MAX_FILE_BYTES => {
            return Err(not_ours("foreign", "the file is larger than a history can be"));
        }
        _ => {}
    }
    let mut beginning = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut beginning))
        .map_err(|error| OpenError::Unusable(no_access(&error)))?;
    if beginning != MAGIC {
        return Err(not_ours("corrupt", "the file is no SQLite database"));
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    check(&connection, path)?;
    let kept = Kept::load(
        read_table(&connection)?,
        read_table(&connection)?,
        read_table(&connection)?,
    );
    // Where there can be no write-ahead log, SQLite stays with its journal, and says so in this row.
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    connection.execute_batch(&format!(
        "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = {LOG_PAGES};
         PRAGMA journal_size_limit = {};",
        LOG_PAGES * 4096,
    ))?;
    let file = FileId {
        device: metadata.dev(),
        inode: metadata.ino(),
    };
    let path = path.to_owned();
    Ok((Database { connection, path, file }, kept))
}

/// Makes the file. It appears under its name when it is whole, so that an empty one is never ours.
fn create(path: &Path) -> Result<(), OpenError> {
    let unfinished = with_end(path, ".new");
    for part in [unfinished.clone(), with_end(&unfinished, "-journal")] {
        // One that a killed server left holds no row.
        if let Err(error) = fs::remove_file(part)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(OpenError::Unusable(no_access(&error)));
        }
    }
    let connection = connect(
        &unfinished,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE,
    )?;
    // It is synced once, below.
    connection.execute_batch("PRAGMA synchronous = OFF")?;
    connection.execute_batch(&format!(
        "BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; {SCHEMA} COMMIT;"
    ))?;
    drop(connection);
    fs::File::open(&unfinished)
        .and_then(|file| file.sync_all())
        .and_then(|()| fs::rename(&unfinished, path))
        .map_err(|error| OpenError::Unusable(no_access(&error)))
}

fn connect(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    // A file that was made elsewhere runs nothing here.
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}

/// Whether the file is a sound history of this version that can be written to.
fn check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    if number("PRAGMA application_id")? != APPLICATION_ID {
        return Err(not_ours("foreign", "the file is another program's database"));
    }
    let version = number("PRAGMA user_version")?;
    if version > SCHEMA_VERSION {
        let why = format!(
            "the file is of schema version {version}, written by a newer superstep, and this one reads version \
             {SCHEMA_VERSION}"
        );
        return Err(not_ours("newer", &why));
    }
    let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if found != "ok" {
        // A heading names the database, which is the only one; the first of the findings is enough.
        let finding = found.lines().find(|line| !line.starts_with("***")).unwrap_or_default();
        return Err(not_ours("corrupt", &format!("the file is damaged: {finding}")));
    }
    let expected = Connection::open_in_memory()?;
    expected.execute_batch(SCHEMA)?;
    if version != SCHEMA_VERSION || schema(connection)? != schema(&expected)? {
        return Err(not_ours("foreign", "the file has other tables than a history"));
    }
    if connection.is_readonly("main")? {
        // SQLite falls back to reading where it may not write. A damaged header forbids it too.
        return Err(match fs::OpenOptions::new().write(true).open(path) {
            Ok(_) => not_ours("corrupt", "the file is damaged: its header forbids to write to it"),
            Err(error) => OpenError::Unusable(no_access(&error)),
        });
    }
    Ok(())
}

/// The text of all tables, indices and triggers.
fn schema(connection: &Connection) -> rusqlite::Result<Vec<Option<String>>> {
    let mut statement = connection.prepare("SELECT sql FROM sqlite_schema ORDER BY name")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

fn read_table<R: Stored>(connection: &Connection) -> rusqlite::Result<Vec<(R, bool)>> {
    let (columns, table) = (R::COLUMNS, R::TABLE);
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM {table} ORDER BY id"))?;
    let rows = statement.query_map([], |row| R::from_columns(&Columns(row)))?;
    rows.collect()
}

fn write_table<R: Stored>(connection: &Connection, changes: &Changes<R>, is_whole: bool) -> rusqlite::Result<()> {
    let (columns, table) = (R::COLUMNS, R::TABLE);
    if is_whole {
        connection.execute(&format!("DELETE FROM {table}"), [])?;
    }
    if !changes.removed.is_empty() {
        let mut delete = connection.prepare(&format!("DELETE FROM {table} WHERE id = ?"))?;
        for id in &changes.removed {
            delete.execute([i64::try_from(*id).unwrap_or(i64::MAX)])?;
        }
    }
    if !changes.written.is_empty() {
        let places = vec!["?"; columns.split(',').count()].join(", ");
        let mut insert =
            connection.prepare(&format!("INSERT OR REPLACE INTO {table} ({columns}) VALUES ({places})"))?;
        for (row, is_lost) in &changes.written {
            insert.execute(params_from_iter(row.to_columns(*is_lost)))?;
        }
    }
    Ok(())
}

fn not_ours(word: &'static str, why: &str) -> OpenError {
    let why = why.to_owned();
    OpenError::NotOurs(NotOurs { word, why })
}

impl From<Error> for OpenError {
    fn from(error: Error) -> OpenError {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => not_ours("corrupt", "the file is no SQLite database"),
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::OutOfMemory
                | ErrorCode::PermissionDenied
                | ErrorCode::ReadOnly
                | ErrorCode::SystemIoFailure,
            ) => OpenError::Unusable(unusable(&error)),
            // What is wrong is in the file, or what was read is no row of ours.
            _ => not_ours("corrupt", &format!("the file is damaged: {error}")),
        }
    }
}

fn unusable(error: &Error) -> Unusable {
    let fix = match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "free space on its disk",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "let the server's user write in its folder"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "end the program that holds the file",
        _ => "check its disk",
    };
    let what = error.to_string();
    Unusable { what, fix }
}

fn no_access(error: &io::Error) -> Unusable {
    Unusable {
        what: error.to_string(),
        fix: "let the server's user write in its folder",
    }
}
