//! The progress of an ML module, for pages and logs. No decision follows from it.
//!
//! The counters take no part in the protocol, so they are the standard library's even under loom, and each is Relaxed:
//! a reader may see one of them a step ahead of another.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

/// The phases of an ML module's time.
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

/// The totals of an ML module since it began.
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
    /// It has left its loop: it adds nothing more, and all its gradients are counted here.
    pub has_stopped: bool,
}

/// Time spent in each phase, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
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

impl PhaseTimes {
    /// The share of a phase in all time spent, from 0 to 1; 0 before any was.
    pub fn share(self, phase: Phase) -> f64 {
        let PhaseTimes {
            gradient,
            add,
            read,
            wait,
        } = self;
        let spent = match phase {
            Phase::Gradient => gradient,
            Phase::Add => add,
            Phase::Read => read,
            Phase::Wait => wait,
        };
        let total = gradient.saturating_add(add).saturating_add(read).saturating_add(wait);
        spent as f64 / total.max(1) as f64
    }
}

/// Written by one ML module only.
#[derive(Default)]
pub(super) struct Counters {
    gradients: AtomicU64,
    samples: AtomicU64,
    not_finite: AtomicU64,
    time_us: [AtomicU64; 4],
    has_stopped: AtomicBool,
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

    pub(super) fn on_stop(&self) {
        // Release: pairs with the Acquire in progress(): a thread that sees the flag sees the last counts too.
        self.has_stopped.store(true, Ordering::Release);
    }

    pub(super) fn progress(&self) -> Progress {
        // Acquire: pairs with the Release in on_stop().
        let has_stopped = self.has_stopped.load(Ordering::Acquire);
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
            has_stopped,
        }
    }
}
