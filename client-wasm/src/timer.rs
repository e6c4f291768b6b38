//! The BSP worker's timers.

use std::time::Duration;

use js_sys::Function;
use wasm_bindgen::prelude::*;
use web_sys::DedicatedWorkerGlobalScope;

/// A timer that is set again and again. To set it takes no memory.
pub(crate) struct Timer {
    scope: DedicatedWorkerGlobalScope,
    callback: Function,
    handle: Option<i32>,
}

impl Timer {
    /// One that is not set.
    pub(crate) fn new(scope: &DedicatedWorkerGlobalScope, callback: Function) -> Timer {
        Timer {
            scope: scope.clone(),
            callback,
            handle: None,
        }
    }

    /// Calls back after this time and not when it was set to before; with `None`, not at all.
    pub(crate) fn set(&mut self, after: Option<Duration>) {
        if let Some(handle) = self.handle.take() {
            self.scope.clear_timeout_with_handle(handle);
        }
        self.handle = after.and_then(|after| {
            // Browsers count whole milliseconds; one that is early would only have to be set again.
            let ms = i32::try_from(after.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
            self.scope
                .set_timeout_with_callback_and_timeout_and_arguments_0(&self.callback, ms)
                .ok()
        });
    }
}

/// Calls back again and again, for as long as its worker lives.
pub(crate) struct Interval {
    _callback: Closure<dyn FnMut()>,
}

impl Interval {
    /// Begins: the first call comes after `every_ms`.
    pub(crate) fn new(scope: &DedicatedWorkerGlobalScope, every_ms: i32, callback: impl FnMut() + 'static) -> Interval {
        let callback = Closure::new(callback);
        // It fails only for what is no function.
        drop(scope.set_interval_with_callback_and_timeout_and_arguments_0(callback.as_ref().unchecked_ref(), every_ms));
        Interval { _callback: callback }
    }
}
