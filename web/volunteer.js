// Runs on the page: this tab as a volunteer. It starts workers, passes the visitor's wishes on to them, and starts
// others where they have come to an end that is not for good. It computes nothing and holds no model.

/** @import { BspState, Progress, Told, ToBspWorker } from './types' */

import { waitMs } from './backoff.js';
import { sayReturn } from './absence.js';
import { Crew, SILENCE_MS } from './crew.js';

/** Before a fresh start in place of workers that can't say themselves how long to wait. */
const RESTART_WAITS = { firstMs: 2_000, longestMs: 60_000 };

/**
 * States after which a crew is of no more use.
 * @type {BspState[]}
 */
const ENDS = ['failed', 'refused', 'finished'];

const LEAVING = 'Your cores have stopped. What they have finished is being sent.';

/** This tab as a volunteer: at most one crew at a time. */
export class Volunteer {
  #onState;
  #onProgress;
  #onAccepted;
  #capacity;
  /** @type {Crew | null} */
  #crew = null;
  #workers = 1;
  #cpuPercent = 100;
  #isPauseWanted = false;
  /** How many starts in a row have contributed nothing. */
  #vainStarts = 0;
  #hasContributed = false;
  #starts = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #restart;

  /**
   * @param {object} options
   * @param {number} options.capacity how many ML modules there can be
   * @param {(state: BspState | 'not-contributing', detail: string) => void} options.onState
   * @param {(progress: Progress, start: number) => void} options.onProgress of the start with this number; one that
   *   is leaving still tells when the next has begun
   * @param {(accepted: number, start: number) => void} options.onAccepted what was accepted of a start, at its end
   */
  constructor({ capacity, onState, onProgress, onAccepted }) {
    this.#capacity = capacity;
    this.#onState = onState;
    this.#onProgress = onProgress;
    this.#onAccepted = onAccepted;
  }

  /** Whether the volunteer has asked for a pause; the state says when it has come. */
  get isPauseWanted() {
    return this.#isPauseWanted;
  }

  /** @param {number} workers how many ML modules compute @param {number} cpuPercent of its time, each of them */
  join(workers, cpuPercent) {
    if (this.#crew !== null) return;
    clearTimeout(this.#restart);
    this.#workers = workers;
    this.#cpuPercent = cpuPercent;
    this.#isPauseWanted = false;
    this.#vainStarts = 0;
    this.#startWorkers();
  }

  /** @param {number} workers */
  setWorkers(workers) {
    this.#workers = workers;
    this.#tell({ type: 'workers', workers });
  }

  /** @param {number} cpuPercent */
  setCpuPercent(cpuPercent) {
    this.#cpuPercent = cpuPercent;
    this.#tell({ type: 'cpuPercent', cpuPercent });
  }

  pause() {
    this.#isPauseWanted = true;
    this.#tell({ type: 'pause' });
  }

  resume() {
    this.#isPauseWanted = false;
    this.#tell({ type: 'resume' });
  }

  /** The tab may end at any moment: what is computed is sent. */
  closing() {
    this.#crew?.closing();
  }

  /** The browser lets the frozen tab go on. */
  thawed() {
    this.#tell({ type: 'thawed' });
  }

  /** Stops contributing: what is computed is sent, then the workers end and their memory is free again. */
  leave() {
    clearTimeout(this.#restart);
    const isAtWork = this.#crew !== null;
    this.#crew?.leave();
    this.#crew = null;
    this.#onState('not-contributing', isAtWork ? LEAVING : '');
  }

  #startWorkers() {
    this.#hasContributed = false;
    this.#starts += 1;
    const start = this.#starts;
    this.#onState('connecting', '');
    const join = {
      workers: this.#workers,
      capacity: this.#capacity,
      cpuPercent: this.#cpuPercent,
      isPaused: this.#isPauseWanted,
      vainStarts: this.#vainStarts,
    };
    const crew = new Crew(join, {
      onTold: (told) => {
        if (told.state === 'restarting') this.#onAccepted(told.accepted, start);
        this.#onTold(told);
      },
      onProgress: (progress) => {
        if (this.#crew === crew) this.#hasContributed ||= progress.accepted > 0;
        this.#onProgress(progress, start);
      },
      onFailed: (detail) => this.#dismiss('failed', detail),
      onLeft: () => {
        // The next start may have begun, or wait to begin.
        if (this.#starts === start) this.#onState('not-contributing', '');
      },
      onSilence: () => this.#onSilence(),
    });
    this.#crew = crew;
  }

  /** @param {Told} told */
  #onTold(told) {
    const { state, detail, delayMs, vainStarts } = told;
    if (state === 'restarting') this.#startAfresh(detail, delayMs, vainStarts);
    else if (ENDS.includes(state)) this.#dismiss(state, detail);
    else this.#onState(state, detail === '' ? sayReturn(told) : detail);
  }

  #onSilence() {
    const vainStarts = this.#hasContributed ? 1 : this.#vainStarts + 1;
    const seconds = SILENCE_MS / 1000;
    const detail = `The tab’s workers have said nothing for ${seconds} seconds; it begins again with new ones.`;
    this.#startAfresh(detail, waitMs(vainStarts, RESTART_WAITS), vainStarts);
  }

  /**
   * New workers, new memory and a new session, after a wait.
   * @param {string} detail @param {number} delayMs @param {number} vainStarts
   */
  #startAfresh(detail, delayMs, vainStarts) {
    this.#vainStarts = vainStarts;
    this.#dismiss('restarting', detail);
    this.#restart = setTimeout(() => this.#startWorkers(), delayMs);
  }

  /** @param {BspState} state @param {string} detail */
  #dismiss(state, detail) {
    this.#crew?.end();
    this.#crew = null;
    this.#onState(state, detail);
  }

  /** @param {ToBspWorker} message */
  #tell(message) {
    this.#crew?.tell(message);
  }
}
