//! The ledger is written on a thread of its own, so that the controller never waits for a disk.
//!
//! A note is handed over before its contribution is acknowledged, and reaches the system within microseconds while the
//! disk answers. While it does not, notes wait, up to [`QUEUE`] of them; those that find no room are said in the log.
//! They are missing only where the server is killed before the next checkpoint is written, and their volunteers are
//! gone by then: then nobody knows that these samples are lost.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use bsp::central::Awaited;
use state::{Ledger, Snapshot};

/// Notes that may wait for the disk: at a thousand contributions a second those of 16 s, in less than a megabyte.
const QUEUE: usize = 16_384;

/// A contribution, and the snapshot with which its ledger begins.
type Note = (Snapshot, Awaited);

/// The controller's end of the thread.
pub(crate) struct LedgerWriter {
    /// None once it was closed.
    notes: Option<SyncSender<Note>>,
    /// Ends when the thread does.
    end: Receiver<()>,
    snapshot: Snapshot,
    /// Notes found no room since the last one that did.
    missing: u64,
}

impl LedgerWriter {
    /// Starts the thread that writes into `ledger`, which begins at `snapshot`.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(crate) fn start(ledger: Ledger, snapshot: Snapshot) -> std::io::Result<LedgerWriter> {
        let (notes, inbox) = sync_channel(QUEUE);
        let (ended, end) = sync_channel(1);
        let body = move || {
            write_all(ledger, &inbox);
            drop(ended);
        };
        thread::Builder::new().name("ledger".to_owned()).spawn(body)?;
        Ok(LedgerWriter {
            notes: Some(notes),
            end,
            snapshot,
            missing: 0,
        })
    }

    /// Hands over the note of a contribution that was accepted. Waits for nothing.
    pub(crate) fn note(&mut self, contribution: Awaited) {
        let Some(notes) = &self.notes else { return };
        match notes.try_send((self.snapshot, contribution)) {
            Ok(()) => {
                if self.missing > 0 {
                    tracing::info!(
                        "the ledger is written again; {} contributions are not in it, until the next checkpoint holds \
                         them",
                        self.missing
                    );
                }
                self.missing = 0;
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                if self.missing == 0 {
                    tracing::warn!(
                        "the ledger's disk does not answer: contributions are not noted any more; if the server is \
                         killed before the next checkpoint, it would not be known how many samples are lost"
                    );
                }
                self.missing += 1;
            }
        }
    }

    /// A checkpoint's snapshot was taken: what comes now belongs to the ledger that begins with it.
    pub(crate) fn rotate(&mut self, snapshot: Snapshot) {
        self.snapshot = snapshot;
    }

    /// Nothing more comes: waits until all is written, at most until `until`. Returns whether it is.
    pub(crate) fn close(&mut self, until: Instant) -> bool {
        self.notes = None;
        let left = until.saturating_duration_since(Instant::now());
        self.end.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Writes what comes, all that waits in one write, until nobody can hand anything over any more.
fn write_all(mut ledger: Ledger, inbox: &Receiver<Note>) {
    let mut fails = false;
    let mut waiting: Vec<Note> = Vec::new();
    while let Ok(first) = inbox.recv() {
        waiting.push(first);
        waiting.extend(inbox.try_iter().take(QUEUE));
        for notes in waiting.chunk_by(|a, b| a.0 == b.0) {
            let contributions: Vec<Awaited> = notes.iter().map(|note| note.1).collect();
            ledger.continue_at(notes[0].0);
            let outcome = ledger.append_all(&contributions);
            if let (Err(error), false) = (&outcome, fails) {
                tracing::warn!("{error}; after a crash it would not be known how many samples are lost");
            }
            fails = outcome.is_err();
        }
        waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::path::PathBuf;
    use std::sync::mpsc::Sender;
    use std::time::Duration;

    use bsp::protocol::message::SessionId;
    use state::disk::WriteContent;
    use state::{Access, Disk, FileSystem};

    /// A disk that does not answer a write behind a file's end before the test says so.
    struct StallingDisk {
        files: FileSystem,
        begun: Sender<()>,
        permits: Receiver<()>,
    }

    impl Disk for StallingDisk {
        fn append(&mut self, file: &str, bytes: &[u8]) -> io::Result<()> {
            // The test may have seen enough.
            let _ = self.begun.send(());
            let _ = self.permits.recv();
            self.files.append(file, bytes)
        }

        fn write(&mut self, file: &str, access: Access, content: &mut WriteContent<'_>) -> io::Result<()> {
            self.files.write(file, access, content)
        }

        fn sync(&mut self, file: &str) -> io::Result<()> {
            self.files.sync(file)
        }

        fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
            self.files.rename(from, to)
        }

        fn sync_folder(&mut self) -> io::Result<()> {
            self.files.sync_folder()
        }

        fn read(&mut self, file: &str) -> io::Result<Vec<u8>> {
            self.files.read(file)
        }

        fn list(&mut self) -> io::Result<Vec<String>> {
            self.files.list()
        }

        fn length(&mut self, file: &str) -> io::Result<u64> {
            self.files.length(file)
        }

        fn remove(&mut self, file: &str) -> io::Result<()> {
            self.files.remove(file)
        }

        fn path(&self, file: &str) -> PathBuf {
            self.files.path(file)
        }
    }

    const START: Snapshot = Snapshot {
        incarnation: 1,
        number: 0,
    };

    fn contribution(sequence: u64) -> Awaited {
        Awaited {
            session: SessionId(1),
            sequence,
            samples: 8,
        }
    }

    /// A writer onto a disk that stalls, the test's word that it goes on, and the disk's word that it was asked.
    fn stalled(folder: &std::path::Path) -> (LedgerWriter, Sender<()>, Receiver<()>) {
        let (permit, permits) = std::sync::mpsc::channel();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let disk = StallingDisk {
            files: FileSystem::new(folder),
            begun,
            permits,
        };
        let ledger = Ledger::new(Box::new(disk), START);
        (LedgerWriter::start(ledger, START).unwrap(), permit, has_begun)
    }

    #[test]
    fn nobody_waits_for_a_ledger_whose_disk_stalls_and_nothing_that_found_room_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let (mut writer, permit, has_begun) = stalled(folder.path());
        writer.note(contribution(1));
        has_begun.recv().unwrap();
        // The thread waits for its disk from here on: only the queue takes anything.
        writer.note(contribution(2));
        writer.rotate(Snapshot { number: 1, ..START });
        for sequence in 3..=QUEUE as u64 + 5 {
            writer.note(contribution(sequence));
        }
        assert_eq!(writer.missing, 4, "the queue is full");
        assert!(!writer.close(Instant::now()), "the disk has not answered");
        drop(permit);
        assert!(writer.close(Instant::now() + Duration::from_secs(60)));
        let noted = state::ledger::read_awaited(&mut FileSystem::new(folder.path()), None).unwrap();
        let sequences: Vec<u64> = noted.iter().map(|note| note.sequence).collect();
        assert_eq!(sequences, (1..=QUEUE as u64 + 1).collect::<Vec<_>>());
        let since = FileSystem::new(folder.path()).length(&START.ledger_file()).unwrap();
        assert_eq!(since, 2 * 28, "what came after the snapshot is in the ledger behind it");
    }
}
