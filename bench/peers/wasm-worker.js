// Runs in a worker of its own: measures work of one of this repository's wasm packages, on one core.

/** @import { Outcome, WasmRequest, Work } from './types' */

import { expectGradients, unitsPerSecond } from './measure.js';

/** More than the modules ask for at first, and well over what the work needs; the memory is shared, as a tab's is. */
const PAGES = { initial: 80, maximum: 16_384 };

/** @param {WasmRequest} request @returns {Promise<Outcome>} */
async function measure({ module, work: name, arguments: given, parameters, seconds }) {
  const { href } = new URL(module, location.href);
  const { default: init, ...exports } = await import(href);
  const memory = new WebAssembly.Memory({ ...PAGES, shared: true });
  await init({ module_or_path: href.replace(/\.js$/, '_bg.wasm'), memory });
  const doing = new exports[name](...given);
  const gradient = new Float32Array(parameters ?? 0);
  /** @type {Work} */
  const work = {
    step() {
      doing.step();
      if (parameters === null) return [];
      // Read back, out of the module's memory.
      gradient.set(new Float32Array(memory.buffer, doing.address(), doing.length()));
      return [gradient.subarray(0, doing.length())];
    },
    units: doing.units(),
    threads: 1,
  };
  if (parameters !== null) await expectGradients(work, parameters);
  return { unitsPerSecond: await unitsPerSecond(work, seconds), threads: 1 };
}

/** @param {MessageEvent<WasmRequest>} event */
onmessage = async ({ data }) => {
  try {
    postMessage(await measure(data));
  } catch (error) {
    // As an error event, which the page waits for too.
    reportError(error);
  }
};
