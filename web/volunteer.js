// Runs on the page: creates this tab's workers and relays between them. It computes nothing and holds no model.

/** @import { BspState, FromBspWorker, FromMlWorker, Progress, ToBspWorker } from './types' */

/** After `leave`, the BSP worker has this long to send what the tab has computed before its workers are ended. */
const FAREWELL_MS = 1_000;

/**
 * States after which a crew is of no more use.
 * @type {BspState[]}
 */
const ENDS = ['failed', 'refused', 'finished'];

/**
 * The workers of one join; none of them outlives it.
 * @typedef {object} Crew
 * @property {Worker} bspWorker
 * @property {Map<number, Worker>} mlWorkers by the number of their ML module
 */

/** This tab as a volunteer: at most one crew at a time. */
export class Volunteer {
  #onState;
  #onProgress;
  #capacity;
  /** @type {Crew | null} */
  #crew = null;
  #workers = 1;
  #dutyPercent = 100;
  #isPauseWanted = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #restart;

  /**
   * @param {object} options
   * @param {number} options.capacity how many ML modules there can be
   * @param {(state: BspState | 'not-contributing', detail: string) => void} options.onState
   * @param {(progress: Progress) => void} options.onProgress
   */
  constructor({ capacity, onState, onProgress }) {
    this.#capacity = capacity;
    this.#onState = onState;
    this.#onProgress = onProgress;
  }

  /** Whether the volunteer has asked for a pause; the state says when it has come. */
  get isPauseWanted() {
    return this.#isPauseWanted;
  }

  /** @param {number} workers how many ML modules compute @param {number} dutyPercent of its time, each of them */
  join(workers, dutyPercent) {
    if (this.#crew !== null) return;
    clearTimeout(this.#restart);
    this.#workers = workers;
    this.#dutyPercent = dutyPercent;
    this.#isPauseWanted = false;
    this.#muster();
  }

  /** @param {number} workers */
  setWorkers(workers) {
    this.#workers = workers;
    this.#tell({ type: 'workers', workers });
  }

  /** @param {number} dutyPercent */
  setDuty(dutyPercent) {
    this.#dutyPercent = dutyPercent;
    this.#tell({ type: 'duty', dutyPercent });
  }

  pause() {
    this.#isPauseWanted = true;
    this.#tell({ type: 'pause' });
  }

  resume() {
    this.#isPauseWanted = false;
    this.#tell({ type: 'resume' });
  }

  /** Stops contributing: what is computed is sent, then the workers end and their memory is free again. */
  leave() {
    clearTimeout(this.#restart);
    const crew = this.#crew;
    this.#crew = null;
    if (crew !== null) {
      crew.bspWorker.postMessage(/** @type {ToBspWorker} */ ({ type: 'leave' }));
      setTimeout(() => endWorkers(crew), FAREWELL_MS);
    }
    this.#onState('not-contributing', '');
  }

  #muster() {
    /** @type {Crew} */
    const crew = {
      bspWorker: new Worker('./bsp-worker.js', { type: 'module', name: 'bsp-worker' }),
      mlWorkers: new Map(),
    };
    this.#crew = crew;
    this.#onState('connecting', '');
    crew.bspWorker.addEventListener('message', (event) => {
      // What a dismissed crew still says is about nothing that is shown.
      if (this.#crew === crew) this.#onMessage(crew, event.data);
    });
    const onBspError = (/** @type {Event} */ event) => {
      if (this.#crew === crew) this.#dismiss('failed', messageOf(event, 'the BSP worker could not be started'));
    };
    crew.bspWorker.addEventListener('error', onBspError);
    crew.bspWorker.addEventListener('messageerror', onBspError);
    this.#tell({ type: 'join', workers: this.#workers, capacity: this.#capacity, dutyPercent: this.#dutyPercent });
    if (this.#isPauseWanted) this.#tell({ type: 'pause' });
  }

  /** @param {Crew} crew @param {FromBspWorker} message */
  #onMessage(crew, message) {
    switch (message.type) {
      case 'spawn':
        this.#spawn(crew, message.mlModule, message.start);
        break;
      case 'progress':
        this.#onProgress(message);
        break;
      case 'state':
        if (message.state === 'restarting') this.#startAfresh(message.detail ?? '', message.delayMs ?? 0);
        else if (ENDS.includes(message.state)) this.#dismiss(message.state, message.detail ?? '');
        else this.#onState(message.state, message.detail ?? '');
        break;
    }
  }

  /** @param {Crew} crew @param {number} mlModule @param {unknown} start */
  #spawn(crew, mlModule, start) {
    crew.mlWorkers.get(mlModule)?.terminate();
    const mlWorker = new Worker('./ml-worker.js', { type: 'module', name: `ml-worker-${mlModule}` });
    crew.mlWorkers.set(mlModule, mlWorker);
    const onDeath = (/** @type {string} */ message) => {
      if (this.#crew !== crew || crew.mlWorkers.get(mlModule) !== mlWorker) return;
      // Only a terminated worker is certainly dead; the BSP worker may then touch what it held.
      mlWorker.terminate();
      crew.mlWorkers.delete(mlModule);
      this.#tell({ type: 'died', mlModule, message });
    };
    const unnamed = `ML worker ${mlModule} could not be started`;
    mlWorker.addEventListener('error', (event) => onDeath(messageOf(event, unnamed)));
    mlWorker.addEventListener('messageerror', (event) => onDeath(messageOf(event, unnamed)));
    mlWorker.addEventListener('message', ({ data }) => {
      const said = /** @type {FromMlWorker} */ (data);
      if (said?.type === 'error') onDeath(said.message);
    });
    mlWorker.postMessage(start);
  }

  /** New memory and a new session, after an ML module has died. @param {string} detail @param {number} delayMs */
  #startAfresh(detail, delayMs) {
    this.#dismiss('restarting', detail);
    this.#restart = setTimeout(() => this.#muster(), delayMs);
  }

  /** @param {BspState} state @param {string} detail */
  #dismiss(state, detail) {
    if (this.#crew !== null) endWorkers(this.#crew);
    this.#crew = null;
    this.#onState(state, detail);
  }

  /** @param {ToBspWorker} message */
  #tell(message) {
    this.#crew?.bspWorker.postMessage(message);
  }
}

/** @param {Crew} crew */
function endWorkers(crew) {
  crew.bspWorker.terminate();
  for (const mlWorker of crew.mlWorkers.values()) mlWorker.terminate();
}

/** A script that does not load raises an error without a message. @param {Event} event @param {string} otherwise */
function messageOf(event, otherwise) {
  const message = event instanceof ErrorEvent ? event.message : '';
  return message !== '' ? message : otherwise;
}
