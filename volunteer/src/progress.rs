//! How much a volunteer has done, and how fast, as a page shows it.

use bsp::local::Local;
use bsp::shared_memory::{Phase, PhaseTimes};
use bsp::time::Time;
use serde::Serialize;

/// How much this tab has done in the present session.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Progress {
    /// The session's number, as text, since JavaScript's numbers would round it; empty before there is one.
    pub session: String,
    /// Samples that its ML modules have computed.
    pub samples: u64,
    /// Samples in contributions that the server has said are accepted.
    pub accepted: u64,
    /// A mean over the last seconds.
    pub samples_per_second: f64,
    /// The version of the model that its ML modules compute on.
    pub version: u64,
    /// All for which there is room, in order; one that was not started has no steps.
    pub ml_modules: Vec<MlModuleProgress>,
}

/// How much one ML module has done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct MlModuleProgress {
    /// Samples that it has computed.
    pub samples: u64,
    /// Minibatches that it has computed.
    pub steps: u64,
    /// Where its time went, without its rests.
    pub time: TimeShares,
}

/// Shares of the time of one or more ML modules, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct TimeShares {
    /// Computing gradients.
    pub gradient: f64,
    /// Adding them to the aggregate.
    pub add: f64,
    /// Reading models.
    pub read: f64,
    /// Waiting for models or samples.
    pub wait: f64,
}

impl From<PhaseTimes> for TimeShares {
    fn from(time: PhaseTimes) -> TimeShares {
        TimeShares {
            gradient: time.share(Phase::Gradient),
            add: time.share(Phase::Add),
            read: time.share(Phase::Read),
            wait: time.share(Phase::Wait),
        }
    }
}

/// Measures how fast samples are computed.
#[derive(Debug, Default)]
pub(crate) struct Speed {
    last: Time,
    last_samples: u64,
    samples_per_second: f64,
}

impl Speed {
    /// A mean in which the last two seconds weigh most; to be called at every look.
    fn measure(&mut self, now: Time, samples: u64) -> f64 {
        /// Long enough to be steady to the eye, short enough to follow a pause.
        const MEMORY_SECONDS: f64 = 2.0;
        let elapsed = now.since(self.last).as_secs_f64().max(1e-3);
        let share = elapsed / (elapsed + MEMORY_SECONDS);
        let newest = samples.saturating_sub(self.last_samples) as f64 / elapsed;
        self.samples_per_second += share * (newest - self.samples_per_second);
        (self.last, self.last_samples) = (now, samples);
        self.samples_per_second
    }
}

impl Progress {
    /// What the shared memory says now.
    pub(crate) fn new(now: Time, local: &Local, speed: &mut Speed) -> Progress {
        let memory = local.memory();
        let ml_modules: Vec<_> = (0..memory.ml_modules())
            .map(|ml_module| {
                let progress = memory.progress(ml_module);
                MlModuleProgress {
                    samples: progress.samples,
                    steps: progress.steps,
                    time: TimeShares::from(progress.time_us),
                }
            })
            .collect();
        let samples = ml_modules.iter().map(|module| module.samples).sum();
        Progress {
            session: local
                .session()
                .map_or_else(String::new, |session| session.0.to_string()),
            samples,
            accepted: local.accepted_samples(),
            samples_per_second: speed.measure(now, samples),
            version: memory.published().map_or(0, |stamp| stamp.version),
            ml_modules,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_follows_a_pause_within_seconds() {
        let mut speed = Speed::default();
        let second = |second: u64| Time::from_micros(second * 1_000_000);
        let mut last = 0.0;
        for now in 1..=10 {
            last = speed.measure(second(now), now * 100);
        }
        assert!((90.0..=100.0).contains(&last), "{last}");
        for now in 11..=20 {
            last = speed.measure(second(now), 1_000);
        }
        assert!(last < 5.0, "{last}");
    }
}
