//! The thread that keeps the history: it takes rows in, thins them, and writes what has changed.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::database::{Database, FileId};
use super::kept::Kept;
use super::rows::{EvaluationRow, EventKind, EventRow, SuperstepRow};

/// A batch is written this long after its first row: a second is what a kill may cost, and one transaction a second
/// costs little.
const BATCH: Duration = Duration::from_secs(1);

/// After a failure the file is tried again at this interval: often enough for an operator who frees a disk, seldom
/// enough to cost nothing.
const RETRY: Duration = Duration::from_secs(30);

/// What is handed to the thread.
pub(super) enum Message {
    Superstep(SuperstepRow),
    Evaluation(EvaluationRow),
    Event(EventRow),
    /// The run begins, or goes on, with the event's version.
    Begin(EventRow),
    /// Write now, and answer.
    Flush(SyncSender<()>),
}

/// Where the history is written.
pub(super) enum Target {
    /// Nowhere.
    Memory,
    /// Into this file, which holds what is kept, but for the changes.
    File(Database),
    /// Into this file again, once that works.
    Failed { path: PathBuf, file: FileId },
}

/// The thread.
pub(super) struct Writer {
    pub(super) kept: Arc<Mutex<Kept>>,
    pub(super) target: Target,
}

/// The lock is held for computing only, never for a disk; nothing that is done under it leaves a half-done state that
/// matters to a reader.
pub(super) fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Goes on until nobody can hand in anything more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        let mut due: Option<Instant> = None;
        loop {
            let message = match due {
                Some(due) => messages.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => messages.recv().map_err(RecvTimeoutError::from),
            };
            let is_due = due.is_some_and(|due| due <= Instant::now())
                || message.as_ref().is_ok_and(|message| self.is_written_at_once(message));
            match message {
                Ok(Message::Flush(answer)) => {
                    self.write();
                    due = None;
                    // The one that asked may have waited long enough.
                    let _ = answer.try_send(());
                    continue;
                }
                Ok(message) => self.take_in(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write();
                    return;
                }
            }
            if is_due {
                self.write();
                due = None;
            }
            if due.is_none() && lock(&self.kept).has_changed() {
                due = Some(Instant::now() + self.pause());
            }
        }
    }

    /// What a checkpoint holds is written beside it, so that curves have no hole where a server was killed.
    fn is_written_at_once(&self, message: &Message) -> bool {
        let is_checkpoint = matches!(message, Message::Event(row) if row.kind == EventKind::Checkpoint);
        is_checkpoint && matches!(self.target, Target::File(_))
    }

    fn pause(&self) -> Duration {
        match self.target {
            Target::Failed { .. } => RETRY,
            Target::Memory | Target::File(_) => BATCH,
        }
    }

    pub(super) fn take_in(&self, message: Message) {
        let mut kept = lock(&self.kept);
        match message {
            Message::Superstep(row) => kept.supersteps.push(row),
            Message::Evaluation(row) => kept.evaluations.push(row),
            Message::Event(row) => kept.events.push(row),
            Message::Begin(row) => kept.begin(row),
            Message::Flush(_) => {}
        }
    }

    /// Writes what has changed. A file that fails is closed, and tried again later.
    pub(super) fn write(&mut self) {
        self.target = match std::mem::replace(&mut self.target, Target::Memory) {
            Target::Memory => {
                lock(&self.kept).forget_changes();
                Target::Memory
            }
            Target::File(database) => self.write_changes(database),
            Target::Failed { path, file } => self.try_again(path, file),
        };
    }

    fn write_changes(&self, mut database: Database) -> Target {
        let changes = lock(&self.kept).take_changes(false);
        match database.write(&changes) {
            Ok(()) => Target::File(database),
            Err(unusable) => {
                let (path, file) = (database.path().to_owned(), database.file());
                tracing::warn!(
                    "{}: {unusable}. The history stays in memory until the file can be written again",
                    path.display()
                );
                Target::Failed { path, file }
            }
        }
    }

    /// All that is kept is written anew, so that nothing of it is missing. A file that came into the place of ours is
    /// left alone.
    fn try_again(&self, path: PathBuf, file: FileId) -> Target {
        lock(&self.kept).forget_changes();
        if FileId::at(&path).is_some_and(|there| there != file) {
            return Target::Failed { path, file };
        }
        let Ok((mut database, _)) = Database::open(&path) else {
            return Target::Failed { path, file };
        };
        let file = database.file();
        let whole = lock(&self.kept).take_changes(true);
        match database.write(&whole) {
            Ok(()) => {
                tracing::info!("{}: the history is written again, and whole", path.display());
                Target::File(database)
            }
            Err(_) => Target::Failed { path, file },
        }
    }
}
