// Runs on the page: the workers of one start, from their creation to their end. It relays between them and computes
// nothing.

/** @import { BspState, FromBspScript, FromBspWorker, Join, Progress, Told, ToBspWorker } from './types' */

import { Silence } from './silence.js';

/**
 * After `leave`, the BSP worker says when all that the tab has computed is acknowledged, or that it waits no longer: it
 * waits for 5 s. One that does not say so has this long.
 */
const FAREWELL_MS = 6_000;
/** States after which a crew has nothing more to send. @type {ReadonlySet<BspState>} */
const ENDS = new Set(['left', 'finished', 'refused', 'failed', 'restarting']);
/** Longer than anything that a BSP worker does in one go; it says every second that it is there. */
export const SILENCE_MS = 10_000;
const LOOK_EVERY_MS = 1_000;

/** A BSP worker and its ML workers. None of them outlives its crew, and a crew that has ended says nothing. */
export class Crew {
  #listeners;
  #bspWorker;
  /** By the number of their ML module. @type {Map<number, Worker>} */
  #mlWorkers = new Map();
  /** The compiled module and the memory that all workers share, once they are there. */
  #shared = {};
  #silence;
  #hasEnded = false;
  #isLeaving = false;

  /**
   * Starts a BSP worker, which asks for the others.
   * @param {Join} join with what to start
   * @param {object} listeners
   * @param {(told: Told) => void} listeners.onTold what it is doing
   * @param {(progress: Progress) => void} listeners.onProgress
   * @param {(detail: string) => void} listeners.onFailed it can't go on
   * @param {() => void} listeners.onLeft it was to leave, and has
   * @param {() => void} listeners.onSilence the BSP worker says nothing any more
   */
  constructor(join, listeners) {
    this.#listeners = listeners;
    this.#bspWorker = new Worker('./bsp-worker.js', { type: 'module', name: 'bsp-worker' });
    this.#silence = new Silence({ limitMs: SILENCE_MS, everyMs: LOOK_EVERY_MS, onSilence: listeners.onSilence });
    this.#bspWorker.addEventListener('message', ({ data }) => {
      this.#silence.heard();
      if (!this.#hasEnded) this.#onMessage(data);
      else if (this.#isLeaving) this.#onLastMessage(data);
    });
    const onError = (/** @type {Event} */ event) => {
      if (!this.#hasEnded) listeners.onFailed(messageOf(event, 'the BSP worker could not be started'));
    };
    this.#bspWorker.addEventListener('error', onError);
    this.#bspWorker.addEventListener('messageerror', onError);
    this.tell({ type: 'join', ...join });
  }

  /** @param {ToBspWorker} message */
  tell(message) {
    this.#bspWorker.postMessage(message);
  }

  /** The tab may end at any moment: what is computed is sent. */
  closing() {
    this.tell({ type: 'closing' });
  }

  /** What is computed is sent, then the workers end. */
  leave() {
    this.#hasEnded = true;
    this.#isLeaving = true;
    this.#silence.end();
    this.tell({ type: 'leave' });
    setTimeout(() => this.#onLastMessage({ type: 'failed', detail: '' }), FAREWELL_MS);
  }

  /** After `leave`: how much was done is still told. @param {FromBspWorker | FromBspScript} message */
  #onLastMessage(message) {
    if (!this.#isLeaving) return;
    if (message.type === 'progress') this.#listeners.onProgress(message);
    const isOver = message.type === 'failed' || (message.type === 'state' && ENDS.has(message.state));
    if (!isOver) return;
    this.end();
    this.#listeners.onLeft();
  }

  /** Ends all workers at once; their memory is free again. */
  end() {
    this.#hasEnded = true;
    this.#isLeaving = false;
    this.#silence.end();
    this.#bspWorker.terminate();
    for (const mlWorker of this.#mlWorkers.values()) mlWorker.terminate();
  }

  /** @param {FromBspWorker | FromBspScript} message */
  #onMessage(message) {
    switch (message.type) {
      case 'alive':
        break;
      case 'module':
        this.#shared = { module: message.module, memory: message.memory };
        break;
      case 'spawn':
        this.#spawn(message.mlModule, message.address);
        break;
      case 'progress':
        this.#listeners.onProgress(message);
        break;
      case 'state':
        this.#listeners.onTold(message);
        break;
      case 'failed':
        this.#listeners.onFailed(message.detail);
        break;
    }
  }

  /** @param {number} mlModule @param {number} address where it lies in the shared memory */
  #spawn(mlModule, address) {
    const mlWorker = new Worker('./ml-worker.js', { type: 'module', name: `ml-worker-${mlModule}` });
    this.#mlWorkers.set(mlModule, mlWorker);
    const onDeath = (/** @type {string} */ message) => {
      if (this.#hasEnded || this.#mlWorkers.get(mlModule) !== mlWorker) return;
      // Only a terminated worker is certainly dead; the BSP worker may then touch what it held.
      mlWorker.terminate();
      this.#mlWorkers.delete(mlModule);
      this.tell({ type: 'died', mlModule, message });
    };
    const unnamed = `ML worker ${mlModule} could not be started`;
    mlWorker.addEventListener('error', (event) => onDeath(messageOf(event, unnamed)));
    mlWorker.addEventListener('messageerror', (event) => onDeath(messageOf(event, unnamed)));
    mlWorker.postMessage({ ...this.#shared, address });
  }
}

/** A script that does not load raises an error without a message. @param {Event} event @param {string} otherwise */
function messageOf(event, otherwise) {
  const message = 'message' in event ? String(event.message) : '';
  return message !== '' ? message : otherwise;
}
