//! The browser's clock.

use std::time::Duration;

use bsp::time::Time;
use volunteer::sleep_clock::SleepClock;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// The time, with that for which the machine slept. Takes no memory.
pub(crate) fn now_awake_or_asleep(clock: &mut SleepClock) -> Time {
    let micros = |ms: f64| Duration::from_micros((ms * 1000.0) as u64);
    clock.now(micros(performance_now()), micros(js_sys::Date::now()))
}

/// The time since this worker began, without that for which the machine slept. Each worker has its own beginning; only
/// differences within one mean anything.
pub(crate) fn now() -> Time {
    Time::from_micros((performance_now() * 1000.0) as u64)
}
