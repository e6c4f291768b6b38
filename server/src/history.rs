//! The history of a run: its supersteps, evaluations and events, in a SQLite file that outlives the server.
//!
//! The controller hands rows over and never waits: they go through a bounded channel to a thread of their own, the
//! [`writer`]. It keeps them in memory ([`kept`]), grown coarser with age ([`thinned`]), and writes what has changed
//! into the file ([`database`], [`tables`]) once a second. The page's [`curves`] are made from what is kept in memory,
//! which the file had when the server started.
//!
//! However long the run, at most 3,072 rows of supersteps are kept, 768 evaluations, and 1,024 events of each of eight
//! kinds: some 3 MB. A damaged, foreign or newer file is set aside ([`set_aside`]). A file that can't be written leaves
//! the history in memory; when it can be written again, nothing is missing in it.
//!
//! After a restart, rows of versions after the restored one belong to a model that was lost. They stay in the file,
//! marked as lost, and are in no curve: a curve shows the line that the current model comes from.

mod curves;
mod database;
mod kept;
mod rows;
mod set_aside;
mod tables;
#[cfg(test)]
mod tests;
mod thinned;
mod writer;

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bsp::central::ClosedSuperstep;
use bsp::protocol::message::SessionId;
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;

pub(crate) use curves::{Curves, EvaluatedModel, EvaluationPoint};
#[cfg(test)]
pub(crate) use curves::{HistoryEvent, LossPoint};
use database::Database;
use kept::Kept;
pub(crate) use rows::EventKind;
use rows::{EvaluationRow, EventRow, SuperstepRow};
use writer::{Message, Target, Writer, lock};

/// The most rows that wait for the thread: those of many seconds, while a disk stands still, in half a megabyte.
const QUEUE: usize = 4096;

/// A disk that stays slow is said once in this time.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// The longest detail of an event, in bytes: a sentence. A peer has a say in some.
const MAX_DETAIL_BYTES: usize = 240;

/// The controller's end of the history. Nothing that it does waits for a disk, but for [`History::flush`].
pub(crate) struct History {
    messages: SyncSender<Message>,
    kept: Arc<Mutex<Kept>>,
    /// Time trained before this server started.
    elapsed_before: f64,
    /// The current model, and the samples in it.
    stamp: ModelStamp,
    samples: u64,
    /// Contributions refused since the last superstep closed.
    refused: u64,
    last_evaluation: Option<EvaluationPoint>,
    dropped: u64,
    warned: Option<Instant>,
}

/// A reader of the curves, for other threads.
#[derive(Clone)]
pub(crate) struct HistoryReader(Arc<Mutex<Kept>>);

impl HistoryReader {
    /// The curves as they are now. Waits for no disk.
    pub(crate) fn curves(&self) -> Curves {
        Curves::new(&lock(&self.0))
    }
}

impl History {
    /// The history in this file, which is made if it is not there; without one, in memory. Never fails: whatever is
    /// wrong with the file is said in one warning, and the history is kept in memory.
    pub(crate) fn open(path: Option<&Path>) -> History {
        let (target, kept) = match path {
            None => (Target::Memory, Kept::default()),
            Some(path) => open_file(path),
        };
        History::start(target, kept)
    }

    fn start(target: Target, kept: Kept) -> History {
        let (messages, receiver) = sync_channel(QUEUE);
        let elapsed_before = kept.elapsed_seconds();
        let last_evaluation = kept.evaluations.line().next_back().map(|row| row.point);
        let kept = Arc::new(Mutex::new(kept));
        let writer = Writer {
            kept: Arc::clone(&kept),
            target,
        };
        start_thread(writer, receiver);
        History {
            messages,
            kept,
            elapsed_before,
            stamp: ModelStamp::default(),
            samples: 0,
            refused: 0,
            last_evaluation,
            dropped: 0,
            warned: None,
        }
    }

    // What the controller tells.

    /// The run begins with this model, or goes on with it: after a start, and after a return to an earlier model.
    pub(crate) fn begin(&mut self, now: Time, stamp: ModelStamp, samples: u64) {
        (self.stamp, self.samples) = (stamp, samples);
        if self.last_evaluation.is_some_and(|point| point.version > stamp.version) {
            let kept = lock(&self.kept);
            let mut line = kept.evaluations.line().rev().map(|row| row.point);
            self.last_evaluation = line.find(|point| point.version <= stamp.version);
        }
        let event = self.event(now, EventKind::Begin, None, String::new());
        self.send(Message::Begin(event));
    }

    /// A superstep has closed, with this many samples in the model that it made, and volunteers connected.
    pub(crate) fn push_superstep(&mut self, now: Time, closed: &ClosedSuperstep, samples: u64, volunteers: usize) {
        (self.stamp.version, self.samples) = (closed.version, samples);
        let row = SuperstepRow {
            id: 0,
            incarnation: self.stamp.incarnation,
            version: closed.version,
            merged: 1,
            samples,
            elapsed_seconds: self.elapsed_seconds(now),
            unix_seconds: unix_seconds(),
            loss: closed.loss,
            superstep_samples: closed.samples,
            open_seconds: closed.open_for.as_secs_f64(),
            volunteers: volunteers as f64,
            staleness: closed.staleness,
            refused: std::mem::take(&mut self.refused),
        };
        self.send(Message::Superstep(row));
    }

    /// A model was evaluated; the point's seconds count from this server's start.
    pub(crate) fn push_evaluation(&mut self, point: &EvaluationPoint) {
        let elapsed_seconds = self.elapsed_before + point.elapsed_seconds;
        let point = EvaluationPoint {
            elapsed_seconds,
            ..*point
        };
        self.last_evaluation = Some(point);
        let row = EvaluationRow {
            id: 0,
            incarnation: self.stamp.incarnation,
            merged: 1,
            unix_seconds: unix_seconds(),
            point,
        };
        self.send(Message::Evaluation(row));
    }

    /// A contribution was refused.
    pub(crate) fn push_refused_contribution(&mut self, now: Time, session: SessionId, detail: String) {
        self.refused += 1;
        self.push_event(now, EventKind::Refused, Some(session), detail);
    }

    /// Something has happened to the run.
    pub(crate) fn push_event(&mut self, now: Time, kind: EventKind, session: Option<SessionId>, detail: String) {
        let event = self.event(now, kind, session, detail);
        self.send(Message::Event(event));
    }

    /// Writes what is not written yet, and waits for that at most this long. For the end of a run.
    pub(crate) fn flush(&mut self, at_most: Duration) {
        let deadline = Instant::now() + at_most;
        let (answer, answered) = sync_channel(1);
        let mut message = Message::Flush(answer);
        loop {
            match self.messages.try_send(message) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => message = back,
                Err(_) => return,
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = answered.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }

    // Queries.

    /// Time trained until now, over all servers that have run it.
    pub(crate) fn elapsed_seconds(&self, now: Time) -> f64 {
        self.elapsed_before + now.as_micros() as f64 / 1e6
    }

    /// The last evaluation of a model that the current one comes from.
    pub(crate) fn last_evaluation(&self) -> Option<&EvaluationPoint> {
        self.last_evaluation.as_ref()
    }

    /// A reader of the curves, for other threads.
    pub(crate) fn reader(&self) -> HistoryReader {
        HistoryReader(Arc::clone(&self.kept))
    }

    fn event(&self, now: Time, kind: EventKind, session: Option<SessionId>, mut detail: String) -> EventRow {
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL_BYTES));
        EventRow {
            id: 0,
            kind,
            incarnation: self.stamp.incarnation,
            version: self.stamp.version,
            samples: self.samples,
            elapsed_seconds: self.elapsed_seconds(now),
            unix_seconds: unix_seconds(),
            session: session.map(|session| session.0),
            detail,
        }
    }

    /// Hands a row over, or drops it: the run goes on whatever a disk does.
    fn send(&mut self, message: Message) {
        let Err(error) = self.messages.try_send(message) else {
            return;
        };
        self.dropped += 1;
        if self.warned.is_some_and(|warned| warned.elapsed() < WARN_EVERY) {
            return;
        }
        self.warned = Some(Instant::now());
        let dropped = self.dropped;
        match error {
            TrySendError::Full(_) => tracing::warn!(
                "the history's disk is slower than the run: {dropped} rows are missing in the history so far"
            ),
            TrySendError::Disconnected(_) => {
                tracing::error!("the history's thread has ended: {dropped} rows are missing in the history so far");
            }
        }
    }
}

fn open_file(path: &Path) -> (Target, Kept) {
    // SQLite reads a name that begins with "file:" as an address.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match Database::open(&path) {
        Ok((database, kept)) => (Target::File(database), kept),
        Err(unusable) => {
            tracing::warn!(
                "{}: {unusable}. The history stays in memory, and ends with this server",
                path.display()
            );
            (Target::Memory, Kept::default())
        }
    }
}

fn start_thread(writer: Writer, messages: Receiver<Message>) {
    let thread = thread::Builder::new().name("history".to_owned());
    // Without a thread there is no history; the run goes on, and the log says so.
    if let Err(error) = thread.spawn(move || writer.run(&messages)) {
        tracing::error!("no thread for the history: {error}");
    }
}

fn unix_seconds() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |time| time.as_secs_f64())
}
