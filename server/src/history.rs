//! The curves that the page draws: loss and accuracy over the run.

use serde::Serialize;

/// The most points of a curve: as many as a wide page has pixels for.
const MAX_POINTS: usize = 512;

/// The loss of the training samples over the run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct LossPoint {
    /// Samples that all volunteers had contributed by then.
    pub(crate) samples: u64,
    /// Seconds since the run began.
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
    /// Seconds from the beginning of the run to the moment at which that model was current.
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

/// Both curves, each in the order of its points.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub(crate) struct History {
    loss: Vec<LossPoint>,
    eval: Vec<EvaluationPoint>,
    /// Each loss point but the last is the mean of this many supersteps.
    #[serde(skip)]
    supersteps_per_point: u32,
    #[serde(skip)]
    supersteps_in_last: u32,
}

impl History {
    /// A superstep has closed.
    pub(crate) fn push_loss(&mut self, point: LossPoint) {
        let per_point = self.supersteps_per_point.max(1);
        match self.loss.last_mut() {
            Some(last) if self.supersteps_in_last < per_point => {
                self.supersteps_in_last += 1;
                last.loss += (point.loss - last.loss) / f64::from(self.supersteps_in_last);
                (last.samples, last.elapsed_seconds) = (point.samples, point.elapsed_seconds);
            }
            _ => {
                self.loss.push(point);
                self.supersteps_in_last = 1;
            }
        }
        if self.loss.len() > MAX_POINTS {
            halve(&mut self.loss, |first, second| LossPoint {
                loss: (first.loss + second.loss) / 2.0,
                ..*second
            });
            self.supersteps_per_point = per_point * 2;
            self.supersteps_in_last = self.supersteps_per_point;
        }
    }

    /// A model was evaluated.
    pub(crate) fn push_evaluation(&mut self, point: EvaluationPoint) {
        self.eval.push(point);
        if self.eval.len() > MAX_POINTS {
            halve(&mut self.eval, |_, second| *second);
        }
    }

    /// The last evaluation.
    pub(crate) fn last_evaluation(&self) -> Option<&EvaluationPoint> {
        self.eval.last()
    }

    /// All evaluations that are kept.
    pub(crate) fn evaluations(&self) -> &[EvaluationPoint] {
        &self.eval
    }
}

/// Makes one point of every two; a last odd one stays.
fn halve<P: Copy>(points: &mut Vec<P>, merge: impl Fn(&P, &P) -> P) {
    *points = points
        .chunks(2)
        .map(|pair| match pair {
            [first, second] => merge(first, second),
            rest => rest[0],
        })
        .collect();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_few_points_from_its_beginning_to_its_end() {
        let mut history = History::default();
        for superstep in 1..=100_000u64 {
            let loss = superstep as f64;
            history.push_loss(LossPoint {
                samples: superstep,
                elapsed_seconds: loss,
                loss,
            });
        }
        assert!(history.loss.len() <= MAX_POINTS && history.loss.len() > MAX_POINTS / 4);
        assert!(history.loss[0].samples < 1_000);
        assert_eq!(history.loss.last().map(|point| point.samples), Some(100_000));
        assert!(
            history
                .loss
                .windows(2)
                .all(|pair| pair[0].samples < pair[1].samples && pair[0].loss < pair[1].loss)
        );
    }
}
