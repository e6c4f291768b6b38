//! Going back to an earlier checkpoint while the run is served: its model has diverged since.

use std::io;

use bsp::central::Checkpoint;

use super::Folder;
use crate::clock::now_ms;
use crate::disk::{Access, DiskError, Doing};
use crate::newest::{self, RunState};
use crate::open::{leave_trace, read_checkpoint};
use crate::snapshot::Snapshot;
use crate::writing::replace_file;

/// Where a run goes back to.
#[derive(Clone, Debug, PartialEq)]
pub struct WentBack {
    /// The checkpoint; none if there was no good one, and the run goes back to its beginning.
    pub checkpoint: Option<Checkpoint>,
    /// The incarnation that goes on from there. It is durable that it has begun.
    pub incarnation: u32,
}

impl Folder {
    /// Goes back to the best of the checkpoints that are kept: that of the least training loss. The newest may be of a
    /// model that was diverging already. The incarnation is raised.
    ///
    /// # Errors
    /// What the disk says. Then nothing has changed.
    pub fn go_back(&mut self) -> Result<WentBack, DiskError> {
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
        let checkpoint = best.map(|(_, checkpoint)| checkpoint);
        let incarnation = self.newest.incarnation + 1;
        let mut newest = self.newest.clone();
        newest.incarnation = incarnation;
        newest.state = RunState::Training;
        newest.written_at_ms = now_ms();
        if let Some(checkpoint) = &checkpoint {
            newest.point_to(checkpoint);
        }
        leave_trace(&mut *self.disk, incarnation)?;
        replace_file(&mut *self.disk, newest::FILE, Access::Default, newest.to_json())?;
        self.newest = newest;
        self.about.incarnation = incarnation;
        Ok(WentBack {
            checkpoint,
            incarnation,
        })
    }
}
