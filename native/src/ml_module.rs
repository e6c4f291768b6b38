//! Threads that run ML modules (105).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use bsp::ml_module::MlModule;
use bsp::time::Time;
use volunteer::engine::CpuEngine;

/// Runs the ML module until it is told to stop, on a thread of its own. `on_death` is called there if it panics
/// instead.
pub(crate) fn start(
    number: usize,
    mut ml_module: Box<MlModule<CpuEngine>>,
    clock: impl Fn() -> Time + Send + 'static,
    on_death: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let body = move || {
        // What a panic leaves behind in the shared memory stays unread: that is what its lease is for.
        if catch_unwind(AssertUnwindSafe(|| ml_module.run(clock))).is_err() {
            on_death();
        }
    };
    thread::Builder::new().name(format!("ml-module-{number}")).spawn(body)?;
    Ok(())
}
