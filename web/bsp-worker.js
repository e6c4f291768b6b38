// Runs in the BSP worker: gives the tab's local BSP module its memory, socket, timer and fetches. It decides nothing.

/** @import { BspState, FromBspWorker, Run, ToBspWorker } from './types' */

import { fetchPatiently } from './bsp-fetch.js';
import init, { BspWorker } from './wasm/client_wasm.js';

const PAGE_BYTES = 65_536;
/** More than the module asks for: what the build names, and a page that wasm-bindgen adds for its threads. */
const INITIAL_PAGES = 80;
/** 4 GiB, all that a 32-bit address reaches. */
const MOST_PAGES = 65_536;
const PROGRESS_EVERY_MS = 250;
/** After an ML worker's death or the end of a session: a server that restarts is back by then. */
const AFRESH_AFTER_MS = 2_000;

/** @type {BspWorker | undefined} */
let bsp;
/** @type {WebAssembly.Module} */
let module;
/** @type {WebAssembly.Memory} */
let memory;
/** @type {WebSocket | undefined} */
let socket;
/** Where frames are copied before they are sent: browsers refuse to send shared memory. */
let outgoing = new Uint8Array(0);
/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let lastState = '';
let workers = 1;
let dutyPercent = 100;
let mlModules = 1;
let spawned = 0;
let isPaused = false;
/** An ML module has died and may hold the allocator's lock: nothing that allocates in the shared memory is called. */
let isDying = false;

/** @param {FromBspWorker} message */
const tellPage = (message) => postMessage(message);

/** @param {BspState} state @param {string} [detail] @param {number} [delayMs] */
function tellState(state, detail = '', delayMs = 0) {
  if (state === lastState && detail === '') return;
  lastState = state;
  tellPage({ type: 'state', state, detail, delayMs });
}

/** What the local BSP module asks of its driver. */
const host = {
  connect() {
    const opened = new WebSocket(new URL('./ws', location.href.replace(/^http/, 'ws')));
    opened.binaryType = 'arraybuffer';
    opened.onopen = () => opened === socket && call(() => bsp?.onOpen());
    opened.onmessage = ({ data }) => {
      // A text is none of our messages; its bytes get the same answer as any other frame that can't be read.
      const frame = typeof data === 'string' ? new TextEncoder().encode(data) : new Uint8Array(data);
      if (opened === socket && !isDying) call(() => bsp?.onFrame(frame));
    };
    opened.onclose = () => {
      if (opened !== socket) return;
      socket = undefined;
      call(() => bsp?.onClosed());
    };
    socket = opened;
  },
  /** @param {number} address @param {number} length */
  send(address, length) {
    if (outgoing.length < length) outgoing = new Uint8Array(length);
    outgoing.set(new Uint8Array(memory.buffer, address, length));
    if (socket?.readyState === WebSocket.OPEN) socket.send(outgoing.subarray(0, length));
  },
  disconnect() {
    const closing = socket;
    socket = undefined;
    closing?.close();
  },
  sessionOpened() {
    // Not from within this call: it is a call of its own.
    queueMicrotask(() => call(spawn));
  },
  /** @param {number} index @param {string} name */
  fetchShard(index, name) {
    void fetchShard(index, name);
  },
  /** @param {'afresh' | 'refused' | 'finished' | 'left'} how @param {string} why */
  ended(how, why) {
    clearTimeout(timer);
    bsp = undefined;
    if (how === 'afresh') tellState('restarting', why, AFRESH_AFTER_MS);
    else if (how !== 'left') tellState(how, why);
  },
};

/** Calls into the module, then sees to its timer and tells the page what changed. @param {() => void} callee */
function call(callee) {
  callee();
  clearTimeout(timer);
  if (bsp === undefined) return;
  timer = setTimeout(() => call(() => bsp?.onTimeout()), Math.ceil(bsp.nextTimeoutMs()));
  if (!isDying) tellState(/** @type {BspState} */ (bsp.state()));
}

/** Starts the ML modules that are wanted and were not started yet. */
function spawn() {
  while (bsp !== undefined && spawned < Math.min(workers, mlModules)) {
    const mlModule = spawned++;
    const address = bsp.makeMlModule(mlModule);
    if (address !== undefined) tellPage({ type: 'spawn', mlModule, start: { module, memory, address } });
  }
}

/** @param {number} index @param {string} name */
async function fetchShard(index, name) {
  const bytes = new Uint8Array(await fetchPatiently(`./api/v1/shards/${name}`, (response) => response.arrayBuffer()));
  if (isDying) return;
  try {
    call(() => bsp?.storeShard(index, bytes));
  } catch (error) {
    console.warn(`superstep: ${error}`);
  }
}

/**
 * Reserves the shared memory for as many ML modules as the browser gives room for.
 * @param {Run['memory']} need @param {number} wanted
 */
function reserve(need, wanted) {
  for (let count = wanted; ; count--) {
    const pages = Math.ceil((need.tab_bytes + count * need.ml_module_bytes) / PAGE_BYTES);
    const maximum = Math.min(Math.max(pages, INITIAL_PAGES), MOST_PAGES);
    try {
      return { memory: new WebAssembly.Memory({ initial: INITIAL_PAGES, maximum, shared: true }), mlModules: count };
    } catch (error) {
      if (count === 1) throw new Error(`this browser has no ${Math.ceil(pages / 16)} MiB of memory to spare: ${error}`);
    }
  }
}

/** @param {number} capacity */
async function join(capacity) {
  tellState('connecting');
  const wasm = fetchPatiently('./wasm/client_wasm_bg.wasm', (response) => response);
  const description = await fetchPatiently('./api/v1/run', (response) => response.text());
  ({ memory, mlModules } = reserve(JSON.parse(description).memory, capacity));
  module = await WebAssembly.compileStreaming(wasm);
  await init({ module_or_path: module, memory });
  bsp = new BspWorker(host, description, mlModules, Math.random());
  call(() => bsp?.setWorkers(workers));
  call(() => bsp?.setDuty(dutyPercent));
  if (isPaused) call(() => bsp?.pause());
  call(() => bsp?.onTimeout());
  setInterval(() => {
    if (bsp !== undefined && !isDying) tellPage({ type: 'progress', ...JSON.parse(bsp.progress()) });
  }, PROGRESS_EVERY_MS);
}

/** @param {MessageEvent<ToBspWorker>} event */
onmessage = ({ data }) => {
  switch (data.type) {
    case 'join':
      ({ workers, dutyPercent } = data);
      join(data.capacity).catch((error) => tellState('failed', error instanceof Error ? error.message : String(error)));
      break;
    case 'workers':
      workers = data.workers;
      call(() => bsp?.setWorkers(workers));
      if (bsp?.hasSession()) call(spawn);
      break;
    case 'duty':
      ({ dutyPercent } = data);
      call(() => bsp?.setDuty(dutyPercent));
      break;
    case 'pause':
      isPaused = true;
      call(() => bsp?.pause());
      break;
    case 'resume':
      isPaused = false;
      call(() => bsp?.resume());
      break;
    case 'leave':
      call(() => bsp?.leave());
      break;
    case 'died':
      console.warn(`superstep: ML module ${data.mlModule} died: ${data.message}`);
      isDying = true;
      call(() => bsp?.onMlModuleDied(data.mlModule));
      break;
  }
};
