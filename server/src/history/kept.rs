//! All that is kept of a run, in memory: bounded, and the same as what the file holds.

use std::collections::{BTreeSet, VecDeque};

use super::rows::{EvaluationRow, EventKind, EventRow, SuperstepRow};
use super::thinned::{Bounds, Changes, Thinned};

/// The newest 1,024 supersteps are kept as they were: minutes of a fast run, hours of a slow one. All older ones are in
/// at most 1,024 rows, twice as many as a curve has points. The lost ones are as many as a run makes between two
/// checkpoints.
const SUPERSTEPS: Bounds = Bounds {
    recent: 1024,
    old: 1024,
    lost: 1024,
};

/// Together as many as a curve has points, so that the page shows each evaluation that is kept.
const EVALUATIONS: Bounds = Bounds {
    recent: 256,
    old: 256,
    lost: 256,
};

/// The newest events of each kind, so that volunteers who come and go push no restart out.
const EVENTS_OF_A_KIND: usize = 1024;

/// All that is kept of a run.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) supersteps: Thinned<SuperstepRow>,
    pub(super) evaluations: Thinned<EvaluationRow>,
    pub(super) events: Events,
}

/// The newest events of each kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    /// By kind, in the order of [`EventKind::ALL`].
    by_kind: [VecDeque<EventRow>; EventKind::ALL.len()],
    last_id: u64,
    changed: BTreeSet<u64>,
}

/// What has changed in all tables.
pub(super) struct KeptChanges {
    /// Whether this is all there is: the file may hold anything.
    pub(super) is_whole: bool,
    pub(super) supersteps: Changes<SuperstepRow>,
    pub(super) evaluations: Changes<EvaluationRow>,
    pub(super) events: Changes<EventRow>,
}

impl Default for Kept {
    fn default() -> Kept {
        Kept {
            supersteps: Thinned::new(SUPERSTEPS),
            evaluations: Thinned::new(EVALUATIONS),
            events: Events::default(),
        }
    }
}

impl Kept {
    /// What was stored, each table in the order of its numbers.
    pub(super) fn load(
        supersteps: Vec<(SuperstepRow, bool)>,
        evaluations: Vec<(EvaluationRow, bool)>,
        events: Vec<(EventRow, bool)>,
    ) -> Kept {
        Kept {
            supersteps: Thinned::load(SUPERSTEPS, supersteps),
            evaluations: Thinned::load(EVALUATIONS, evaluations),
            events: Events::load(events),
        }
    }

    /// The run begins, or goes on, with the version that `event` has: rows of later versions are of a model that was
    /// lost.
    pub(super) fn begin(&mut self, mut event: EventRow) {
        let has_begun = !self.supersteps.is_empty() || !self.evaluations.is_empty() || !self.events.is_empty();
        let lost = self.supersteps.lose_after(event.version);
        self.evaluations.lose_after(event.version);
        if has_begun {
            event.kind = EventKind::Restart;
            event.detail = format!("goes on from version {}; {lost} later versions are lost", event.version);
        }
        self.events.push(event);
    }

    /// The time trained so far, over all incarnations.
    pub(super) fn elapsed_seconds(&self) -> f64 {
        let supersteps = self.supersteps.line().chain(self.supersteps.lost());
        let evaluations = self.evaluations.line().chain(self.evaluations.lost());
        let supersteps = supersteps.map(|row| row.elapsed_seconds);
        let evaluations = evaluations.map(|row| row.point.elapsed_seconds);
        let events = self.events.all().map(|row| row.elapsed_seconds);
        supersteps.chain(evaluations).chain(events).fold(0.0, f64::max)
    }

    /// Whether something has changed since the changes were last taken.
    pub(super) fn has_changed(&self) -> bool {
        self.supersteps.has_changed() || self.evaluations.has_changed() || !self.events.changed.is_empty()
    }

    /// What has changed since this was last asked; or all there is.
    pub(super) fn take_changes(&mut self, is_whole: bool) -> KeptChanges {
        let Kept {
            supersteps,
            evaluations,
            events,
        } = self;
        KeptChanges {
            is_whole,
            supersteps: supersteps.take_changes(is_whole),
            evaluations: evaluations.take_changes(is_whole),
            events: events.take_changes(is_whole),
        }
    }

    /// Nobody will ask what has changed until now.
    pub(super) fn forget_changes(&mut self) {
        self.supersteps.forget_changes();
        self.evaluations.forget_changes();
        self.events.changed.clear();
    }
}

impl Events {
    fn load(rows: Vec<(EventRow, bool)>) -> Events {
        let mut events = Events::default();
        for (row, _) in rows {
            events.last_id = events.last_id.max(row.id);
            events.insert(row);
        }
        events
    }

    /// Appends an event, and gives it its number.
    pub(super) fn push(&mut self, mut row: EventRow) {
        self.last_id += 1;
        row.id = self.last_id;
        self.changed.insert(row.id);
        self.insert(row);
    }

    fn insert(&mut self, row: EventRow) {
        let rows = &mut self.by_kind[row.kind as usize];
        rows.push_back(row);
        while rows.len() > EVENTS_OF_A_KIND
            && let Some(oldest) = rows.pop_front()
        {
            self.changed.insert(oldest.id);
        }
    }

    /// The events of one kind, in their order.
    pub(super) fn of_kind(&self, kind: EventKind) -> impl DoubleEndedIterator<Item = &EventRow> {
        self.by_kind[kind as usize].iter()
    }

    /// All events, kind by kind.
    pub(super) fn all(&self) -> impl Iterator<Item = &EventRow> {
        self.by_kind.iter().flatten()
    }

    fn is_empty(&self) -> bool {
        self.last_id == 0
    }

    fn take_changes(&mut self, is_whole: bool) -> Changes<EventRow> {
        let mut changed = std::mem::take(&mut self.changed);
        let written = self.all().filter(|row| is_whole || changed.remove(&row.id));
        let written = written.map(|row| (row.clone(), false)).collect();
        let removed = if is_whole { BTreeSet::new() } else { changed };
        Changes {
            written,
            removed: removed.into_iter().collect(),
        }
    }
}
