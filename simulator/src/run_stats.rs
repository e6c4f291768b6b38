//! The statistics of a run: what was computed, its outcome, and its cost.

use std::time::Duration;

use bsp::central::Totals;

/// The statistics of a run. Each sample counts once: computed = accepted + refused + lost + still there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunStats {
    /// Samples of finished gradients of all ML modules.
    pub computed: u64,
    /// Samples in contributions that were accepted.
    pub accepted: u64,
    /// Samples in closed supersteps: what is in the model.
    pub in_model: u64,
    /// Samples in contributions that were refused.
    pub refused: u64,
    /// Samples that were lost with their tab.
    pub lost: u64,
    /// Samples that are in a tab, or on their way.
    pub still_there: u64,
    /// Gradients that were not finite.
    pub not_finite: u64,
    /// Samples that all ML modules would have computed alone, at their speed and duty, while their tabs were open.
    pub alone: f64,
    /// Time in which tabs were open and their ML modules might compute, summed over ML modules.
    pub online: Duration,
    /// Time in which ML modules computed, summed over them.
    pub computing: Duration,
    /// Σ staleness · samples, over accepted contributions.
    pub staleness_sum: f64,
    /// Σ weight by staleness · samples, over accepted contributions.
    pub weight_sum: f64,
    /// Supersteps that have closed.
    pub supersteps: u64,
    /// Bytes from the tabs to the server, in frames of WebSockets.
    pub bytes_up: u64,
    /// Bytes from the server to the tabs.
    pub bytes_down: u64,
}

impl RunStats {
    /// Samples in the model, as a share of those that all would have computed alone.
    pub fn goodput(&self) -> f64 {
        ratio(self.in_model as f64, self.alone)
    }

    /// Time of computing, as a share of the time in which ML modules might compute.
    pub fn computing_share(&self) -> f64 {
        ratio(self.computing.as_secs_f64(), self.online.as_secs_f64())
    }

    /// Samples of a superstep, on average.
    pub fn samples_per_superstep(&self) -> f64 {
        ratio(self.in_model as f64, self.supersteps as f64)
    }

    /// Staleness of a sample in versions, on average.
    pub fn mean_staleness(&self) -> f64 {
        ratio(self.staleness_sum, self.accepted as f64)
    }

    /// Weight of a sample by its staleness, on average.
    pub fn mean_weight(&self) -> f64 {
        ratio(self.weight_sum, self.accepted as f64)
    }

    /// Bytes up for a sample in the model.
    pub fn bytes_up_per_sample(&self) -> f64 {
        ratio(self.bytes_up as f64, self.in_model as f64)
    }

    /// Bytes down for a sample in the model.
    pub fn bytes_down_per_sample(&self) -> f64 {
        ratio(self.bytes_down as f64, self.in_model as f64)
    }

    /// Takes over the central module's counts.
    pub(crate) fn set_totals(&mut self, totals: &Totals) {
        self.supersteps = totals.supersteps;
        self.in_model = totals.samples_in_model;
        self.staleness_sum = totals.staleness_sum;
        self.weight_sum = totals.weight_sum;
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
