//! The browser's clock.

use bsp::time::Time;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = performance, js_name = now)]
    fn performance_now() -> f64;
}

/// The time since this worker began. Each worker has its own beginning; only differences within one mean anything.
pub(crate) fn now() -> Time {
    Time::from_micros((performance_now() * 1000.0) as u64)
}
