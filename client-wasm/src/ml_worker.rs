//! An ML worker: one ML module (105), on one core, for as long as its tab contributes.
//!
//! The BSP worker makes the ML module, and the ML worker runs it. On its way from one to the other it is an address
//! in their shared memory.

use bsp::ml_module::MlModule;
use volunteer::engine::CpuEngine;
use wasm_bindgen::prelude::*;

use crate::clock;

/// Leaves the ML module in the shared memory. Without an [`ml_worker`] that takes it, it stays there.
pub(crate) fn into_shared(ml_module: Box<MlModule<CpuEngine>>) -> usize {
    Box::into_raw(ml_module) as usize
}

/// Runs the ML module at `address` until it is told to stop. It does not return to the worker's event loop before that.
#[wasm_bindgen]
pub fn ml_worker(address: usize) {
    // SAFETY: the address is one that `into_shared` gave the BSP worker of this memory, which hands it to one ML
    // worker, once: the box has one owner. The message that carries it orders what was written before it was sent.
    let mut ml_module = unsafe { Box::from_raw(address as *mut MlModule<CpuEngine>) };
    ml_module.run(clock::now);
}
