//! Which checkpoint a file holds, by the file's name.

use bsp::central::Checkpoint;

/// A checkpoint's place in the run: its incarnation, and its number within that. Number 0 is the incarnation's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Snapshot {
    /// The incarnation that made it.
    pub incarnation: u32,
    /// Its number.
    pub number: u64,
}

impl Snapshot {
    /// The place of a checkpoint.
    pub fn of(checkpoint: &Checkpoint) -> Snapshot {
        Snapshot {
            incarnation: checkpoint.trainer.incarnation,
            number: checkpoint.number,
        }
    }

    /// The name of its checkpoint's file.
    pub fn checkpoint_file(self) -> String {
        format!("checkpoint-{}-{}.superstep", self.incarnation, self.number)
    }

    /// The checkpoint that a file of this name holds.
    pub fn of_checkpoint_file(name: &str) -> Option<Snapshot> {
        Snapshot::parse(name.strip_prefix("checkpoint-")?.strip_suffix(".superstep")?)
    }

    /// The name of the ledger that begins with it.
    pub fn ledger_file(self) -> String {
        format!("ledger-{}-{}", self.incarnation, self.number)
    }

    /// What the ledger of this name begins with.
    pub fn of_ledger_file(name: &str) -> Option<Snapshot> {
        Snapshot::parse(name.strip_prefix("ledger-")?)
    }

    fn parse(text: &str) -> Option<Snapshot> {
        let (incarnation, number) = text.split_once('-')?;
        let snapshot = Snapshot {
            incarnation: incarnation.parse().ok()?,
            number: number.parse().ok()?,
        };
        // Only the name as it is written: "+1-01" is another file.
        let written = format!("{}-{}", snapshot.incarnation, snapshot.number);
        (written == text).then_some(snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_no_others() {
        let snapshot = Snapshot {
            incarnation: 12,
            number: 345,
        };
        assert_eq!(
            Snapshot::of_checkpoint_file(&snapshot.checkpoint_file()),
            Some(snapshot)
        );
        assert_eq!(Snapshot::of_ledger_file(&snapshot.ledger_file()), Some(snapshot));
        let others = [
            "checkpoint-1-2.superstep.part",
            "checkpoint-+1-2.superstep",
            "checkpoint-1-02.superstep",
            "checkpoint-1.superstep",
            "checkpoint-1-99999999999999999999.superstep",
            "checkpoint-1-2.superstep (copy)",
            "best.superstep",
        ];
        assert!(others.iter().all(|name| Snapshot::of_checkpoint_file(name).is_none()));
    }

    #[test]
    fn later_incarnations_come_later() {
        let snapshots = [(1, 0), (1, 10), (2, 1), (2, 9), (2, 10), (10, 1)];
        let snapshots = snapshots.map(|(incarnation, number)| Snapshot { incarnation, number });
        assert!(snapshots.is_sorted());
    }
}
