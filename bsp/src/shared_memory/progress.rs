//! What an ML module has done so far, for pages and logs. Nothing is decided by it.
//!
//! The counters take no part in the protocol, so they are the standard library's even under loom, and each is Relaxed: a
//! reader may see one of them a step ahead of another.

use std::sync::atomic::{AtomicU64, Ordering};

/// What an ML module spends its time with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Computing a gradient.
    Gradient,
    /// Adding it to the aggregate.
    Add,
    /// Reading the model.
    Read,
    /// Waiting for a model, for samples, or at the barrier of lockstep.
    Wait,
}

/// What an ML module has done since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// Gradients computed, the refused included.
    pub steps: u64,
    /// Gradients added.
    pub gradients: u64,
    /// Samples of the gradients added.
    pub samples: u64,
    /// Gradients refused because they were not finite.
    pub not_finite: u64,
    /// Time spent, in microseconds.
    pub time_us: PhaseTimes,
}

/// Time spent in each phase, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PhaseTimes {
    /// Computing gradients.
    pub gradient: u64,
    /// Adding them to the aggregate.
    pub add: u64,
    /// Reading the model.
    pub read: u64,
    /// Waiting.
    pub wait: u64,
}

/// Written by one ML module only.
#[derive(Default)]
pub(super) struct Counters {
    gradients: AtomicU64,
    samples: AtomicU64,
    not_finite: AtomicU64,
    time_us: [AtomicU64; 4],
}

impl Counters {
    pub(super) fn count_gradient(&self, samples: u32) {
        self.samples.fetch_add(u64::from(samples), Ordering::Relaxed);
        self.gradients.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_not_finite(&self) {
        self.not_finite.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn account(&self, phase: Phase, duration_us: u64) {
        self.time_us[phase as usize].fetch_add(duration_us, Ordering::Relaxed);
    }

    pub(super) fn progress(&self) -> Progress {
        let gradients = self.gradients.load(Ordering::Relaxed);
        let not_finite = self.not_finite.load(Ordering::Relaxed);
        let time_us = |phase: Phase| self.time_us[phase as usize].load(Ordering::Relaxed);
        Progress {
            steps: gradients + not_finite,
            gradients,
            samples: self.samples.load(Ordering::Relaxed),
            not_finite,
            time_us: PhaseTimes {
                gradient: time_us(Phase::Gradient),
                add: time_us(Phase::Add),
                read: time_us(Phase::Read),
                wait: time_us(Phase::Wait),
            },
        }
    }
}
