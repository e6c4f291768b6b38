// Runs in an ML worker: starts one ML module in the tab's shared memory. It returns to its event loop only when it is
// done.

import init, { ml_worker } from './wasm/client_wasm.js';

/** Our deepest call needs a fraction of this; a page's own stack is as large. */
const STACK_BYTES = 1 << 20;

/** @param {MessageEvent<{ module: WebAssembly.Module, memory: WebAssembly.Memory, address: number }>} event */
onmessage = async ({ data: { module, memory, address } }) => {
  try {
    await init({ module_or_path: module, memory, thread_stack_size: STACK_BYTES });
    ml_worker(address);
  } catch (error) {
    // As an error event, which is how the page learns of a death.
    reportError(error);
  }
};
