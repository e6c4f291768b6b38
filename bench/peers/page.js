// Measures what the driver asks for, and posts what came of it.

/** @import { GradientRequest, Outcome, Request, WasmRequest } from './types' */

import { expectGradients, unitsPerSecond } from './measure.js';

/** @param {GradientRequest} request */
async function prepare(request) {
  // Only the library that is asked for is loaded.
  if (request.engine === 'jax') return (await import('./jax.js')).jax(request);
  const { tfjs } = await import('./tfjs.js');
  return tfjs(request, request.engine === 'tfjs-wasm' ? 'wasm' : 'cpu');
}

/** @param {GradientRequest} request @returns {Promise<Outcome>} */
async function measureHere(request) {
  const work = await prepare(request);
  await expectGradients(work, request.parameters);
  return { unitsPerSecond: await unitsPerSecond(work, request.seconds), threads: work.threads };
}

/** @param {WasmRequest} request @returns {Promise<Outcome>} */
async function measureInWorkers(request) {
  const outcomes = await Promise.all(Array.from({ length: request.workers }, () => measureInWorker(request)));
  return {
    unitsPerSecond: outcomes.reduce((sum, outcome) => sum + outcome.unitsPerSecond, 0),
    threads: request.workers,
  };
}

/** @param {WasmRequest} request @returns {Promise<Outcome>} */
function measureInWorker(request) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./wasm-worker.js', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(request);
  });
}

/** @param {Request} request */
async function answer(request) {
  try {
    return await (request.engine === 'wasm' ? measureInWorkers(request) : measureHere(request));
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

/** The driver's way in; its way out is the posted answer, so that nobody asks while time is taken. */
Object.assign(globalThis, {
  /** @param {Request} request */
  begin(request) {
    void answer(request).then((answered) => fetch('outcome', { method: 'POST', body: JSON.stringify(answered) }));
  },
});
