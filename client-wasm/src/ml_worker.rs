//! An ML worker: one ML module (105), on one core, for as long as its tab contributes.

use bsp::ml_module::MlModule;
use volunteer::engine::CpuEngine;
use wasm_bindgen::prelude::*;

use crate::clock;

/// An ML module on its way from the BSP worker, which makes it, to the ML worker, which runs it: an address in their shared
/// memory.
pub(crate) struct Passage;

impl Passage {
    /// Leaves the ML module in the shared memory. Without an [`ml_worker`] that fetches it, it stays there.
    pub(crate) fn leave(ml_module: MlModule<CpuEngine>) -> usize {
        Box::into_raw(Box::new(ml_module)) as usize
    }
}

/// Runs the ML module at `address` until it is told to stop. It does not return to the worker's event loop before that.
#[wasm_bindgen]
pub fn ml_worker(address: usize) {
    // SAFETY: the address is one that `Passage::leave` gave the BSP worker of this memory, which hands it to one ML worker,
    // once: the box has one owner. The message that carries it orders what was written before it was sent.
    let mut ml_module = unsafe { Box::from_raw(address as *mut MlModule<CpuEngine>) };
    ml_module.run(clock::now);
}
