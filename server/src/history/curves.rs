//! The curves that the page draws: loss and accuracy over the run, and the restarts on them.

use run::goal::Evaluated;
use serde::Serialize;
use state::Best;

use super::kept::Kept;
use super::rows::{EventKind, EventRow, Row, SuperstepRow};

/// The most points of a curve: as many as a wide page has pixels for.
const MAX_POINTS: usize = 512;

/// The most events of a kind beside the curves: more marks than that are a blur.
const MAX_EVENTS_OF_A_KIND: usize = 64;

/// The loss of the training samples over the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct LossPoint {
    /// Samples that all volunteers had contributed by then.
    pub(crate) samples: u64,
    /// Seconds since the run began, without those in which no server ran.
    pub(crate) elapsed_seconds: f64,
    /// Mean loss of a sample.
    pub(crate) loss: f64,
}

/// One evaluation on the held-out samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct EvaluationPoint {
    /// Samples in the model that was evaluated.
    pub(crate) samples: u64,
    /// Seconds from the beginning of the run to the moment at which that model was current, without those in which no
    /// server ran.
    pub(crate) elapsed_seconds: f64,
    /// The model's version.
    pub(crate) version: u64,
    /// The share of held-out samples that it answers rightly, from 0 to 1; `None` where answers are numbers.
    pub(crate) accuracy: Option<f64>,
    /// Mean loss of a held-out sample.
    pub(crate) loss: f64,
}

/// A model with its evaluation.
pub(crate) struct EvaluatedModel {
    /// Its version, and how it did.
    pub(crate) point: EvaluationPoint,
    /// Its parameters.
    pub(crate) parameters: Vec<f32>,
}

impl EvaluatedModel {
    /// How it did.
    pub(crate) fn evaluated(&self) -> Evaluated {
        Evaluated {
            loss: self.point.loss,
            accuracy: self.point.accuracy,
        }
    }
}

impl From<Best> for EvaluatedModel {
    /// A model that was kept by an earlier server: when it was current is not known.
    fn from(best: Best) -> EvaluatedModel {
        EvaluatedModel {
            point: EvaluationPoint {
                samples: best.samples,
                elapsed_seconds: 0.0,
                version: best.version,
                accuracy: best.accuracy,
                loss: best.loss,
            },
            parameters: best.model,
        }
    }
}

/// Something that happened to the run, as a mark on its curves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct HistoryEvent {
    pub(crate) kind: EventKind,
    /// Samples in the model that the run went on with.
    pub(crate) samples: u64,
    /// Seconds since the run began, without those in which no server ran.
    pub(crate) elapsed_seconds: f64,
    /// In words.
    pub(crate) detail: String,
}

/// Both curves over the whole run, each in the order of its points: the line that the current model comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "History"))]
pub(crate) struct Curves {
    pub(crate) loss: Vec<LossPoint>,
    pub(crate) eval: Vec<EvaluationPoint>,
    /// Restarts, changed settings, divergences.
    pub(crate) events: Vec<HistoryEvent>,
}

impl Curves {
    pub(super) fn new(kept: &Kept) -> Curves {
        let newest = |kind| kept.events.of_kind(kind).rev().take(MAX_EVENTS_OF_A_KIND);
        let others = [EventKind::Settings, EventKind::Diverged].into_iter().flat_map(newest);
        let mut events: Vec<&EventRow> = restarts_on_the_line(newest(EventKind::Restart)).chain(others).collect();
        events.sort_by_key(|row| row.id);
        Curves {
            loss: loss_curve(kept),
            eval: kept.evaluations.line().map(|row| row.point).collect(),
            events: events.into_iter().map(HistoryEvent::from).collect(),
        }
    }
}

/// Of restarts, the newest first, those that the current model has gone through: a later one may have gone back to a
/// version before.
fn restarts_on_the_line<'a>(restarts: impl Iterator<Item = &'a EventRow>) -> impl Iterator<Item = &'a EventRow> {
    let mut earliest = u64::MAX;
    restarts.filter(move |restart| {
        let is_on_line = restart.version <= earliest;
        earliest = earliest.min(restart.version);
        is_on_line
    })
}

impl From<&EventRow> for HistoryEvent {
    fn from(row: &EventRow) -> HistoryEvent {
        HistoryEvent {
            kind: row.kind,
            samples: row.samples,
            elapsed_seconds: row.elapsed_seconds,
            detail: row.detail.clone(),
        }
    }
}

/// The first superstep, and then points for equal numbers of supersteps. They begin with the run, so that points stay
/// where they are while the curve grows.
fn loss_curve(kept: &Kept) -> Vec<LossPoint> {
    let supersteps = kept.supersteps.line().map(Row::merged).fold(0, u64::saturating_add);
    let per_point = supersteps.div_ceil(MAX_POINTS as u64 - 2);
    let per_point = per_point.checked_next_power_of_two().unwrap_or(per_point);
    let mut rows: Vec<SuperstepRow> = Vec::with_capacity(MAX_POINTS);
    for row in kept.supersteps.line() {
        let is_second = rows.len() == 1;
        match rows.last_mut() {
            Some(last) if !is_second && last.merged < per_point => {
                let mut row = row.clone();
                row.take_in(last);
                *last = row;
            }
            _ => rows.push(row.clone()),
        }
    }
    let point = |row: SuperstepRow| LossPoint {
        samples: row.samples,
        elapsed_seconds: row.elapsed_seconds,
        loss: row.loss,
    };
    rows.into_iter().map(point).collect()
}
