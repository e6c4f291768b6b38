//! How ours is timed natively: as `bench/peers/measure.js` and `bench/pytorch.py` time theirs.

use std::time::{Duration, Instant};

const LEAST_WARM_UP_STEPS: usize = 3;
const LEAST_WARM_UP: Duration = Duration::from_secs(1);
/// Long enough for the clock, short enough that some windows stay undisturbed.
const WINDOW: Duration = Duration::from_millis(200);
const LEAST_WINDOWS: usize = 3;

/// Units per second: the median of windows of time. A step is `units`.
pub(crate) fn units_per_second(units: f64, seconds: f64, mut step: impl FnMut()) -> f64 {
    let began = Instant::now();
    let mut warm_up_steps = 0;
    while warm_up_steps < LEAST_WARM_UP_STEPS || began.elapsed() < LEAST_WARM_UP {
        step();
        warm_up_steps += 1;
    }
    let mut rates = Vec::new();
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < seconds || rates.len() < LEAST_WINDOWS {
        let window = Instant::now();
        let mut steps = 0;
        while window.elapsed() < WINDOW {
            step();
            steps += 1;
        }
        rates.push(f64::from(steps) * units / window.elapsed().as_secs_f64());
    }
    median(rates)
}

/// The value in the middle, or between the two that are; not a number where there is none.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    let lower = values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(f64::NAN);
    (lower + upper) / 2.0
}
