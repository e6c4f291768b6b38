// Runs in the BSP worker: what its wasm module can't do for itself. It reserves the module's memory, instantiates it,
// and keeps everything but the end out of it once an ML module has died. All else is client-wasm/src/bsp_worker.rs.

/** @import { Join, Run, ToBspWorker } from './types' */

import { fetchPatiently } from './bsp-fetch.js';
import { Gate } from './bsp-gate.js';
import init, { BspWorker } from './wasm/client_wasm.js';

const PAGE_BYTES = 65_536;
/** More than the module asks for: what the build names, and a page that wasm-bindgen adds for its threads. */
const INITIAL_PAGES = 80;
/** 4 GiB, all that a 32-bit address reaches. */
const MOST_PAGES = 65_536;
/** The page starts afresh when it has heard nothing for ten times as long. */
const ALIVE_EVERY_MS = 1_000;

/** What was sent leaves the browser within this time, even if an ML module was in the middle of an add. */
const SENT_WITHIN_MS = 20;

const gate = new Gate(['bspworker_onMlModuleDied', 'bspworker_onTimeout']);

/** @type {BspWorker | undefined} */
let bsp;
/** What the page has said before there was a module. @type {ToBspWorker[]} */
const early = [];

/**
 * Reserves the shared memory for as many ML modules as the browser gives room for.
 * @param {Run['memory']} need @param {number} wanted
 */
function reserve(need, wanted) {
  for (let count = wanted; ; count--) {
    const pages = Math.ceil((need.tab_bytes + count * need.ml_module_bytes) / PAGE_BYTES);
    const maximum = Math.min(Math.max(pages, INITIAL_PAGES), MOST_PAGES);
    try {
      return { memory: new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true }), capacity: count };
    } catch (error) {
      if (count === 1) throw new Error(`this browser has no ${Math.ceil(pages / 16)} MiB of memory to spare: ${error}`);
    }
  }
}

/** @param {Join} join */
async function start(join) {
  const [module, description] = await Promise.all([
    fetchPatiently('./wasm/client_wasm_bg.wasm', (response) => response).then(WebAssembly.compileStreaming),
    fetchPatiently('./api/v1/run', (response) => response.text()),
  ]);
  const { memory, capacity } = reserve(JSON.parse(description).memory, join.capacity);
  await gate.instantiate((module_or_path) => init({ module_or_path, memory }), module);
  postMessage({ type: 'module', module, memory });
  bsp = new BspWorker({ ...join, type: 'join', capacity }, description, () => bsp?.onTimeout());
  for (const message of early) bsp.onMessage(message);
}

/** @param {unknown} error */
const fail = (error) => postMessage({ type: 'failed', detail: error instanceof Error ? error.message : String(error) });

/** @param {MessageEvent<ToBspWorker>} event */
onmessage = ({ data }) => {
  if (data.type === 'join') {
    start(data).catch(fail);
  } else if (data.type === 'died') {
    console.warn(`superstep: ML module ${data.mlModule} died: ${data.message}`);
    gate.close();
    bsp?.onMlModuleDied(data.mlModule);
  } else if (data.type === 'closing') {
    bsp?.onMessage({ type: 'closing' });
    const { done } = /** @type {{ done: Int32Array }} */ (/** @type {unknown} */ (data));
    setTimeout(() => Atomics.store(done, 0, 1), SENT_WITHIN_MS);
  } else if (bsp === undefined) {
    early.push(data);
  } else {
    bsp.onMessage(data);
  }
};

setInterval(() => postMessage({ type: 'alive' }), ALIVE_EVERY_MS);
