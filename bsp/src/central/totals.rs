//! The totals of a run so far, counted in one place.

use serde::{Deserialize, Serialize};

use super::trainer::ClosedSuperstep;

/// Totals of the run so far, over all its restarts. Server, simulator and pages show these numbers and keep no counters
/// of their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Samples in accepted contributions.
    pub samples: u64,
    /// Gradients in accepted contributions.
    pub gradients: u64,
    /// Contributions that were accepted.
    pub accepted: u64,
    /// Contributions that were refused.
    pub refused: u64,
    /// Contributions that came again, after a lost link or a restart: those that were settled already, …
    pub duplicates: u64,
    /// … and those that were accepted by an earlier incarnation, or never arrived there, and were settled now.
    pub resent: u64,
    /// Contributions that had been called durable, and that no checkpoint held that could be read: a disk has failed.
    pub lost_with_disk: u64,
    /// Supersteps that have closed.
    pub supersteps: u64,
    /// Samples in closed supersteps: the current model has learned from them.
    pub samples_in_model: u64,
    /// Mean loss of the last superstep's samples; none before the first.
    pub last_loss: Option<f64>,
    /// Σ staleness · samples over accepted contributions, in versions.
    pub staleness_sum: f64,
    /// Σ weight by staleness · samples over accepted contributions.
    pub weight_sum: f64,
}

impl Totals {
    /// A contribution was accepted, with this staleness in versions, and this weight of its samples.
    pub(super) fn on_accepted(&mut self, samples: u64, gradients: u64, staleness: f64, weight: f64) {
        self.samples = self.samples.saturating_add(samples);
        self.gradients = self.gradients.saturating_add(gradients);
        self.accepted += 1;
        self.staleness_sum += staleness * samples as f64;
        self.weight_sum += weight * samples as f64;
    }

    /// A contribution was refused.
    pub(super) fn on_refused(&mut self) {
        self.refused += 1;
    }

    /// A contribution came that was settled before.
    pub(super) fn on_duplicate(&mut self) {
        self.duplicates += 1;
    }

    /// A contribution was settled that was computed under an earlier incarnation.
    pub(super) fn on_resent(&mut self) {
        self.resent += 1;
    }

    /// So many durable contributions are lost.
    pub(super) fn on_gap(&mut self, contributions: u64) {
        self.lost_with_disk = self.lost_with_disk.saturating_add(contributions);
    }

    /// The run goes back to an earlier checkpoint, of these totals. What was accepted stays accepted; what is said of
    /// the model is said of the earlier one.
    pub(super) fn gone_back_to(self, earlier: &Totals) -> Totals {
        Totals {
            supersteps: earlier.supersteps,
            samples_in_model: earlier.samples_in_model,
            last_loss: earlier.last_loss,
            ..self
        }
    }

    /// A superstep has closed and made a version.
    pub(super) fn on_closed(&mut self, closed: &ClosedSuperstep) {
        self.supersteps += 1;
        self.samples_in_model = self.samples_in_model.saturating_add(closed.samples);
        self.last_loss = Some(closed.loss);
        assert!(
            self.samples_in_model <= self.samples,
            "a model holds no samples that were not accepted"
        );
    }

    /// Accepted samples that are neither in the model, which holds `in_model`, nor in the open superstep, which holds
    /// `open`. None if these are not the totals of that model.
    pub(super) fn in_no_model(&self, in_model: u64, open: u64) -> Option<u64> {
        let rest = self.samples.checked_sub(in_model)?.checked_sub(open)?;
        (self.samples_in_model == in_model).then_some(rest)
    }

    /// Mean staleness of an accepted sample, in versions; 0 before the first.
    pub fn mean_staleness(&self) -> f64 {
        self.staleness_sum / self.samples.max(1) as f64
    }

    /// Mean weight by staleness of an accepted sample, from 0 to 1; none before the first.
    pub fn mean_weight(&self) -> Option<f64> {
        (self.samples > 0).then(|| self.weight_sum / self.samples as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a model holds no samples that were not accepted")]
    fn a_model_with_more_samples_than_were_accepted_is_noticed() {
        let mut totals = Totals::default();
        totals.on_accepted(10, 2, 0.0, 1.0);
        totals.on_closed(&ClosedSuperstep {
            version: 1,
            contributions: 1,
            samples: 11,
            loss: 1.0,
            staleness: 0.0,
            weight: 1.0,
            open_for: std::time::Duration::ZERO,
        });
    }

    #[test]
    fn means_are_over_accepted_samples() {
        let mut totals = Totals::default();
        assert_eq!((totals.mean_staleness(), totals.mean_weight()), (0.0, None));
        totals.on_accepted(10, 2, 0.0, 1.0);
        totals.on_accepted(30, 3, 1.0, 0.5);
        totals.on_refused();
        assert_eq!((totals.mean_staleness(), totals.mean_weight()), (0.75, Some(0.625)));
        assert_eq!((totals.samples, totals.gradients), (40, 5));
        assert_eq!((totals.accepted, totals.refused), (2, 1));
    }
}
