//! The ledger: which contributions were accepted since a checkpoint. Its records are not synced: they outlive the
//! server's process, not the machine. So after a kill the server knows what is lost unless it comes again.
//!
//! A ledger begins at a checkpoint's snapshot: a contribution that is in the checkpoint is not in the ledger of its
//! name. A record is 28 bytes, little-endian: session, number, samples, u64 each, and the CRC-32 of these 24 bytes.

use std::collections::{BTreeMap, HashMap, HashSet};

use bsp::central::{Awaited, Checkpoint};
use bsp::protocol::message::SessionId;

use crate::disk::{Disk, DiskError, Doing};
use crate::snapshot::Snapshot;

const RECORD_BYTES: usize = 28;
const CHECKED_BYTES: usize = 24;

/// What the controller notes accepted contributions in.
pub struct Ledger {
    disk: Box<dyn Disk>,
    file: String,
    /// The last write failed: it may have left a part of a record.
    may_be_torn: bool,
}

impl Ledger {
    /// The ledger that begins at `snapshot`.
    pub fn new(disk: Box<dyn Disk>, snapshot: Snapshot) -> Ledger {
        Ledger {
            disk,
            file: snapshot.ledger_file(),
            may_be_torn: false,
        }
    }

    /// Notes a contribution that was accepted.
    ///
    /// # Errors
    /// What the disk says. A part of a record that was written is passed over when the ledger is read.
    pub fn append(&mut self, contribution: Awaited) -> Result<(), DiskError> {
        self.append_all(&[contribution])
    }

    /// Notes several at once, in one write.
    ///
    /// # Errors
    /// As [`Ledger::append`].
    pub fn append_all(&mut self, contributions: &[Awaited]) -> Result<(), DiskError> {
        let mut bytes = Vec::with_capacity(contributions.len() * RECORD_BYTES);
        if self.may_be_torn {
            // Records are found by their places.
            let length = self.disk.length(&self.file).unwrap_or(0) as usize;
            bytes.resize(length.next_multiple_of(RECORD_BYTES) - length, 0);
        }
        bytes.extend(contributions.iter().flat_map(|c| record(*c)));
        let appended = self.disk.append(&self.file, &bytes);
        self.may_be_torn = appended.is_err();
        appended.map_err(DiskError::at(self.disk.path(&self.file), Doing::Written))
    }

    /// Goes on with the ledger that begins at `snapshot`; with the same one as it is.
    pub fn continue_at(&mut self, snapshot: Snapshot) {
        if self.file != snapshot.ledger_file() {
            self.rotate(snapshot);
        }
    }

    /// A checkpoint's snapshot was taken: what comes now belongs to the ledger that begins with it.
    pub fn rotate(&mut self, snapshot: Snapshot) {
        self.file = snapshot.ledger_file();
        self.may_be_torn = false;
    }
}

/// Contributions that were accepted and that the checkpoint `checkpoint` neither has nor awaits, by session and number.
/// Without a checkpoint: all.
///
/// # Errors
/// A ledger that can't be read.
pub fn read_awaited(disk: &mut dyn Disk, checkpoint: Option<&Checkpoint>) -> Result<Vec<Awaited>, DiskError> {
    let names = disk.list().map_err(DiskError::at(disk.path(""), Doing::Listed))?;
    let since = checkpoint.map(Snapshot::of);
    let mut ledgers: Vec<Snapshot> = names.iter().filter_map(|name| Snapshot::of_ledger_file(name)).collect();
    ledgers.retain(|ledger| Some(*ledger) >= since);
    ledgers.sort_unstable();

    let settled: HashMap<SessionId, u64> = checkpoint
        .map(|c| c.sessions.sessions.iter().map(|s| (s.session, s.settled)).collect())
        .unwrap_or_default();
    let awaited: HashSet<(SessionId, u64)> = checkpoint
        .map(|c| c.awaited.iter().map(|a| (a.session, a.sequence)).collect())
        .unwrap_or_default();
    let mut found = BTreeMap::new();
    for ledger in ledgers {
        let file = ledger.ledger_file();
        let bytes = disk.read(&file).map_err(DiskError::at(disk.path(&file), Doing::Read))?;
        for contribution in records(&bytes) {
            let key = (contribution.session, contribution.sequence);
            let is_settled = settled.get(&key.0).is_some_and(|settled| key.1 <= *settled);
            if !is_settled && !awaited.contains(&key) {
                found.insert(key, contribution);
            }
        }
    }
    Ok(found.into_values().collect())
}

fn record(contribution: Awaited) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    let numbers = [contribution.session.0, contribution.sequence, contribution.samples];
    for (place, number) in record.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
        *place = number.to_le_bytes();
    }
    let checksum = crc32fast::hash(&record[..CHECKED_BYTES]);
    record[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
    record
}

/// The records of a ledger. A record that was not written whole is passed over: at the end after a kill, anywhere after
/// the machine stopped.
fn records(bytes: &[u8]) -> impl Iterator<Item = Awaited> {
    let (records, _) = bytes.as_chunks::<RECORD_BYTES>();
    records.iter().filter_map(|record| {
        let (numbers, _) = record.as_chunks::<8>();
        let awaited = Awaited {
            session: SessionId(u64::from_le_bytes(numbers[0])),
            sequence: u64::from_le_bytes(numbers[1]),
            samples: u64::from_le_bytes(numbers[2]),
        };
        (self::record(awaited) == *record).then_some(awaited)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::checkpoint;
    use crate::disk::FileSystem;

    fn contribution(session: u64, sequence: u64) -> Awaited {
        Awaited {
            session: SessionId(session),
            sequence,
            samples: 32,
        }
    }

    fn snapshot(incarnation: u32, number: u64) -> Snapshot {
        Snapshot { incarnation, number }
    }

    #[test]
    fn accepted_contributions_that_no_checkpoint_has_are_awaited_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = FileSystem::new(folder.path());
        let mut ledger = Ledger::new(Box::new(FileSystem::new(folder.path())), snapshot(2, 2));
        ledger.append(contribution(1, 12)).expect("writes");
        // The checkpoint has settled session 1 up to 12, and awaits number 9 of session 3.
        ledger.rotate(snapshot(2, 3));
        let later = [contribution(1, 13), contribution(1, 12), contribution(3, 9)];
        ledger.append_all(&later).expect("writes");
        // It came again in the next incarnation, and a session was opened there.
        ledger.rotate(snapshot(3, 0));
        ledger.append(contribution(1, 13)).expect("writes");
        ledger.append(contribution(2 << 32 | 1, 1)).expect("writes");

        let awaited = read_awaited(&mut disk, Some(&checkpoint())).expect("reads");
        assert_eq!(awaited, [contribution(1, 13), contribution(2 << 32 | 1, 1)]);
        assert_eq!(read_awaited(&mut disk, None).expect("reads").len(), 4);
    }

    #[test]
    fn a_record_that_was_not_written_whole_is_passed_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut disk = FileSystem::new(folder.path());
        let whole: Vec<u8> = (1..=3).flat_map(|sequence| record(contribution(5, sequence))).collect();
        for length in 0..=whole.len() {
            let file = snapshot(1, 0).ledger_file();
            disk.write(&file, crate::disk::Access::Default, &mut |to| {
                to.write_all(&whole[..length])
            })
            .expect("writes");
            let awaited = read_awaited(&mut disk, None).expect("reads");
            assert_eq!(awaited.len(), length / RECORD_BYTES);
        }
        let mut torn = whole.clone();
        torn[RECORD_BYTES..RECORD_BYTES + 8].fill(0);
        assert_eq!(records(&torn).count(), 2);
        assert_eq!(records(&[0; 10 * RECORD_BYTES]).count(), 0);
    }
}
