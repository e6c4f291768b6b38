//! A table of rows that grows coarser with age and stays bounded, however long the run.
//!
//! The newest rows are as they were. Older ones become one for every two, again and again, so that the old ones stand
//! for equal numbers of supersteps. The very first row stays: a curve begins where the run began. Rows of versions that
//! a restart has lost are kept apart from the line that the current model comes from.

use std::collections::{BTreeSet, VecDeque};

use super::rows::Row;

/// The most rows of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Rows as they were.
    pub(super) recent: usize,
    /// Rows that stand for several, and the first.
    pub(super) old: usize,
    /// Rows of versions that were lost.
    pub(super) lost: usize,
}

/// A table of rows.
#[derive(Clone, Debug)]
pub(super) struct Thinned<R> {
    bounds: Bounds,
    old: Vec<R>,
    recent: VecDeque<R>,
    lost: VecDeque<R>,
    /// An old row but the first and the last stands for this many.
    per_old: u64,
    last_id: u64,
    /// The rows that have changed, come or gone since the changes were last taken.
    changed: BTreeSet<u64>,
}

/// What has changed in a table.
#[derive(Clone, Debug)]
pub(super) struct Changes<R> {
    /// Rows that are new or other than before, and whether their version was lost.
    pub(super) written: Vec<(R, bool)>,
    /// Rows that are gone.
    pub(super) removed: Vec<u64>,
}

impl<R: Row> Thinned<R> {
    /// An empty table.
    pub(super) fn new(bounds: Bounds) -> Thinned<R> {
        Thinned {
            bounds,
            old: Vec::new(),
            recent: VecDeque::new(),
            lost: VecDeque::new(),
            per_old: 1,
            last_id: 0,
            changed: BTreeSet::new(),
        }
    }

    /// A table of rows that were stored, in the order of their numbers, each with whether its version was lost.
    pub(super) fn load(bounds: Bounds, rows: impl IntoIterator<Item = (R, bool)>) -> Thinned<R> {
        let mut table = Thinned::new(bounds);
        for (row, is_lost) in rows {
            table.last_id = table.last_id.max(row.id());
            if is_lost {
                table.lost.push_back(row);
            } else {
                table.recent.push_back(row);
            }
        }
        // Rows that stand for several are old, and so are all before them.
        let coarse = table.recent.iter().rposition(|row| row.merged() > 1);
        let beyond_bounds = table.recent.len().saturating_sub(bounds.recent);
        let old = coarse.map_or(0, |last| last + 1).max(beyond_bounds);
        table.old = table.recent.drain(..old).collect();
        table.per_old = table.old.iter().skip(1).map(Row::merged).max().unwrap_or(1).max(1);
        table.keep_within_bounds();
        table
    }

    /// Appends a row, and gives it its number.
    pub(super) fn push(&mut self, mut row: R) {
        self.last_id += 1;
        row.set_id(self.last_id);
        self.changed.insert(self.last_id);
        self.recent.push_back(row);
        self.keep_within_bounds();
    }

    /// Versions after this one are no ancestors of the current model. Returns the number of supersteps, or
    /// evaluations, that were lost with them. A row that stands for versions on both sides is lost whole.
    pub(super) fn lose_after(&mut self, version: u64) -> u64 {
        let is_kept = |row: &R| row.version() <= version;
        let recent = self.recent.iter().rposition(is_kept).map_or(0, |last| last + 1);
        let mut lost = VecDeque::from_iter(self.recent.drain(recent..));
        if self.recent.is_empty() {
            let old = self.old.iter().rposition(is_kept).map_or(0, |last| last + 1);
            self.old.drain(old..).rev().for_each(|row| lost.push_front(row));
        }
        self.changed.extend(lost.iter().map(Row::id));
        let merged = lost.iter().fold(0u64, |sum, row| sum.saturating_add(row.merged()));
        self.lost.append(&mut lost);
        self.keep_within_bounds();
        merged
    }

    /// The rows of the line that the current model comes from, from the run's beginning on.
    pub(super) fn line(&self) -> impl DoubleEndedIterator<Item = &R> {
        self.old.iter().chain(&self.recent)
    }

    /// The rows whose versions were lost.
    pub(super) fn lost(&self) -> impl Iterator<Item = &R> {
        self.lost.iter()
    }

    /// Whether there is no row at all.
    pub(super) fn is_empty(&self) -> bool {
        self.old.is_empty() && self.recent.is_empty() && self.lost.is_empty()
    }

    /// Whether something has changed since the changes were last taken.
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What has changed since this was last asked; or all there is.
    pub(super) fn take_changes(&mut self, is_whole: bool) -> Changes<R> {
        let mut changed = std::mem::take(&mut self.changed);
        let written = self.all().filter(|(row, _)| is_whole || changed.remove(&row.id()));
        let written = written.map(|(row, is_lost)| (row.clone(), is_lost)).collect();
        let removed = if is_whole { BTreeSet::new() } else { changed };
        Changes {
            written,
            removed: removed.into_iter().collect(),
        }
    }

    /// Nobody will ask what has changed until now.
    pub(super) fn forget_changes(&mut self) {
        self.changed.clear();
    }

    /// Each row, and whether its version was lost.
    fn all(&self) -> impl Iterator<Item = (&R, bool)> {
        let line = self.line().map(|row| (row, false));
        line.chain(self.lost().map(|row| (row, true)))
    }

    fn keep_within_bounds(&mut self) {
        while self.recent.len() > self.bounds.recent
            && let Some(row) = self.recent.pop_front()
        {
            self.grow_old(row);
        }
        while self.old.len() > self.bounds.old.max(2) {
            self.halve();
        }
        while self.lost.len() > self.bounds.lost
            && let Some(row) = self.lost.pop_front()
        {
            self.changed.insert(row.id());
        }
    }

    fn grow_old(&mut self, mut row: R) {
        let is_first = self.old.len() < 2;
        match self.old.last_mut() {
            Some(last) if !is_first && last.merged() < self.per_old => {
                self.changed.extend([last.id(), row.id()]);
                row.take_in(last);
                *last = row;
            }
            _ => self.old.push(row),
        }
    }

    /// Makes one row of every two but the first; a last odd one stays.
    fn halve(&mut self) {
        let mut halved = Vec::with_capacity(self.bounds.old + 1);
        let mut rows = self.old.drain(..);
        halved.extend(rows.next());
        while let Some(earlier) = rows.next() {
            let Some(mut later) = rows.next() else {
                halved.push(earlier);
                break;
            };
            self.changed.extend([earlier.id(), later.id()]);
            later.take_in(&earlier);
            halved.push(later);
        }
        drop(rows);
        self.old = halved;
        self.per_old = self.per_old.saturating_mul(2);
    }
}
