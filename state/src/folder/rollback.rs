//! Going back to an earlier checkpoint while the run is served: its model has diverged since.

use std::io;

use bsp::central::Checkpoint;

use super::Folder;
use crate::disk::{DiskError, Doing};
use crate::open::{leave_trace, read_checkpoint};
use crate::snapshot::Snapshot;

impl Folder {
    /// The best of the checkpoints that are kept: that of the least training loss. The newest may be of a model that
    /// was diverging already. None if there is no good one.
    ///
    /// # Errors
    /// What the disk says.
    pub fn best_checkpoint(&mut self) -> Result<Option<Checkpoint>, DiskError> {
        let path = self.disk.path("");
        let names = self.disk.list().map_err(DiskError::at(path, Doing::Listed))?;
        let snapshots = names.iter().filter_map(|name| Snapshot::of_checkpoint_file(name));
        let mut best: Option<(f64, Checkpoint)> = None;
        let mut unreadable = None;
        for snapshot in snapshots {
            let read = read_checkpoint(&mut *self.disk, &self.about, &snapshot.checkpoint_file());
            let checkpoint = match read {
                Ok(checkpoint) => checkpoint,
                Err(why) => {
                    unreadable.get_or_insert(why.line);
                    continue;
                }
            };
            let Some(loss) = checkpoint.totals.last_loss.filter(|loss| loss.is_finite()) else {
                continue;
            };
            if best.as_ref().is_none_or(|(least, _)| loss < *least) {
                best = Some((loss, checkpoint));
            }
        }
        // A disk that gives none of them for a moment must not send a trained run back to its beginning.
        if let (None, Some(line)) = (&best, unreadable) {
            let path = self.disk.path("");
            return Err(DiskError::at(path, Doing::Read)(io::Error::other(line)));
        }
        Ok(best.map(|(_, checkpoint)| checkpoint))
    }

    /// Raises the incarnation, durably, and says which it is now. A start from here on goes on from the newest
    /// checkpoint, as ever: where the run goes back to is there once [`Folder::write`] has written it.
    ///
    /// # Errors
    /// What the disk says. Then the incarnation is as it was.
    pub fn raise_incarnation(&mut self) -> Result<u32, DiskError> {
        let incarnation = self.newest.incarnation + 1;
        leave_trace(&mut *self.disk, incarnation)?;
        self.newest.incarnation = incarnation;
        self.about.incarnation = incarnation;
        Ok(incarnation)
    }
}
