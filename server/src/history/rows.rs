//! What is kept of a run: rows of supersteps, evaluations and events.

use serde::Serialize;

use super::curves::EvaluationPoint;

/// A row that grows coarser with age: two neighbours become one.
pub(super) trait Row: Clone {
    /// Its number in its table; later rows have higher ones.
    fn id(&self) -> u64;
    /// Gives it its number.
    fn set_id(&mut self, id: u64);
    /// The last version that it speaks of.
    fn version(&self) -> u64;
    /// The number of supersteps, or evaluations, that it stands for.
    fn merged(&self) -> u64;
    /// Takes the row before it in. Its number and its place in the run stay.
    fn take_in(&mut self, earlier: &Self);
}

/// One superstep, or the mean of several that followed each other.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SuperstepRow {
    pub(super) id: u64,
    pub(super) incarnation: u32,
    /// The last version.
    pub(super) version: u64,
    /// The number of supersteps.
    pub(super) merged: u64,
    /// Samples in the last version's model.
    pub(super) samples: u64,
    /// Time trained, over all incarnations, until the last version was made.
    pub(super) elapsed_seconds: f64,
    /// The time of day then, in seconds since 1970 (UTC).
    pub(super) unix_seconds: f64,
    /// Mean loss of a sample.
    pub(super) loss: f64,
    /// Samples in these supersteps.
    pub(super) superstep_samples: u64,
    /// The time for which they were open, in all.
    pub(super) open_seconds: f64,
    /// Connected volunteers when they closed, on average.
    pub(super) volunteers: f64,
    /// Mean staleness of their samples, in versions.
    pub(super) staleness: f64,
    /// Contributions that were refused while they were open.
    pub(super) refused: u64,
}

/// One evaluation; of several that became one, the last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EvaluationRow {
    pub(super) id: u64,
    pub(super) incarnation: u32,
    /// The number of evaluations.
    pub(super) merged: u64,
    /// The time of day at which it was done, in seconds since 1970 (UTC).
    pub(super) unix_seconds: f64,
    pub(super) point: EvaluationPoint,
}

/// Something that happened to the run.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct EventRow {
    pub(super) id: u64,
    pub(super) kind: EventKind,
    pub(super) incarnation: u32,
    /// The current version then.
    pub(super) version: u64,
    /// Samples in that version's model.
    pub(super) samples: u64,
    pub(super) elapsed_seconds: f64,
    pub(super) unix_seconds: f64,
    /// The volunteer's session, where the event is about one. A volunteer's address is never kept.
    pub(super) session: Option<u64>,
    pub(super) detail: String,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) enum EventKind {
    /// The run has begun.
    Begin,
    /// The run goes on: from a checkpoint, or from an earlier model.
    Restart,
    /// A volunteer is there, for the first time or again.
    Joined,
    /// A volunteer's connection has ended.
    Left,
    /// A contribution was refused, or a volunteer turned away; the detail says why.
    Refused,
    /// A checkpoint was written, or could not be; the detail says which.
    Checkpoint,
    /// Settings of the run have changed.
    Settings,
    /// The model has diverged.
    Diverged,
}

impl EventKind {
    /// All kinds.
    pub(super) const ALL: [EventKind; 8] = [
        EventKind::Begin,
        EventKind::Restart,
        EventKind::Joined,
        EventKind::Left,
        EventKind::Refused,
        EventKind::Checkpoint,
        EventKind::Settings,
        EventKind::Diverged,
    ];

    /// Its name in the file.
    pub(super) fn name(self) -> &'static str {
        match self {
            EventKind::Begin => "begin",
            EventKind::Restart => "restart",
            EventKind::Joined => "joined",
            EventKind::Left => "left",
            EventKind::Refused => "refused",
            EventKind::Checkpoint => "checkpoint",
            EventKind::Settings => "settings",
            EventKind::Diverged => "diverged",
        }
    }

    /// The kind of this name.
    pub(super) fn named(name: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl Row for SuperstepRow {
    fn id(&self) -> u64 {
        self.id
    }

    fn set_id(&mut self, id: u64) {
        self.id = id;
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn merged(&self) -> u64 {
        self.merged
    }

    fn take_in(&mut self, earlier: &SuperstepRow) {
        let share = earlier.merged as f64 / (earlier.merged + self.merged) as f64;
        let mean = |earlier: f64, later: f64| later + (earlier - later) * share;
        self.loss = mean(earlier.loss, self.loss);
        self.volunteers = mean(earlier.volunteers, self.volunteers);
        self.staleness = mean(earlier.staleness, self.staleness);
        self.open_seconds += earlier.open_seconds;
        self.superstep_samples = self.superstep_samples.saturating_add(earlier.superstep_samples);
        self.refused = self.refused.saturating_add(earlier.refused);
        self.merged = self.merged.saturating_add(earlier.merged);
    }
}

impl Row for EvaluationRow {
    fn id(&self) -> u64 {
        self.id
    }

    fn set_id(&mut self, id: u64) {
        self.id = id;
    }

    fn version(&self) -> u64 {
        self.point.version
    }

    fn merged(&self) -> u64 {
        self.merged
    }

    /// An evaluation is of one model: a mean of two would be of none.
    fn take_in(&mut self, earlier: &EvaluationRow) {
        self.merged = self.merged.saturating_add(earlier.merged);
    }
}
