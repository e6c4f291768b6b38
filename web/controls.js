// Runs on the page: the state in words, the buttons, the slider and the choice beside it. It shows the state and passes
// on the visitor's wishes.

import { byId, setShown, setText } from './dom.js';

/** @import { TabState } from './types' */

/**
 * The word for each state, and a sentence that is shown where the reporter of the state gives none.
 * @type {Record<TabState, [word: string, detail: string]>}
 */
const WORDS = {
  unsupported: ['Cannot contribute here', 'The reason, and what to do about it, stands above.'],
  'not-contributing': ['Not contributing', 'Nothing is computed on your machine until you press the button.'],
  connecting: ['Connecting', 'Fetching the model and the first training data.'],
  training: ['Training', 'Your cores compute gradients. Close the tab or press Pause to stop.'],
  paused: ['Paused', 'Your cores rest. Press Resume to go on.'],
  reconnecting: [
    'Reconnecting',
    'The server is away: your cores compute on. What they finish is kept, and sent when it is back.',
  ],
  'back-soon': [
    'Reconnecting',
    'The server said that it will be back: your cores compute on. What they finish is kept, and sent then.',
  ],
  'no-room': [
    'Waiting for a place',
    'The server has as many volunteers as it takes at present. Your cores compute on. What they finish is kept, and ' +
      'sent when there is a place.',
  ],
  waiting: [
    'Waiting',
    'The server is away, and the memory for finished work is full. Your cores rest until it is back; ' +
      'what they finished is kept, and sent then.',
  ],
  'not-stored': [
    'Waiting',
    'The server has not stored what it got, so that must be kept, and the memory for it is full. ' +
      'Your cores rest until the server has.',
  ],
  restarting: ['Waiting to start afresh', 'An ML module has stopped; the tab begins again with new memory.'],
  refused: ['Refused', 'The server does not accept contributions from this tab.'],
  failed: ['Stopped by an error', 'Nothing is computed any more.'],
  finished: ['Finished', 'The run has reached its end; there is nothing left to compute. Thank you!'],
  // The page says this as 'not-contributing'.
  left: ['Not contributing', 'Nothing is computed on your machine until you press the button.'],
};

const RECONNECTING_AT_REST = 'The server is away. Your cores rest; press Resume to go on.';
/** The server is away in these. @type {ReadonlySet<TabState>} */
const AWAY = new Set(['reconnecting', 'back-soon']);

/** In these states the tab has workers, or is about to have them again. @type {ReadonlySet<TabState>} */
const AT_WORK = new Set([
  'connecting', 'training', 'paused', 'reconnecting', 'back-soon', 'no-room', 'waiting', 'not-stored', 'restarting',
]);

/** @param {TabState} state */
export const isAtWork = (state) => AT_WORK.has(state);

/** The same, but for those in which its cores rest by themselves. @param {TabState} state */
export const isComputingIn = (state) => isAtWork(state) && state !== 'waiting' && state !== 'not-stored';

/** The card with which a volunteer steers this tab. */
export class Controls {
  #start = byId('start', HTMLButtonElement);
  #pause = byId('pause', HTMLButtonElement);
  #stop = byId('stop', HTMLButtonElement);
  #cores = byId('cores', HTMLInputElement);
  #cpuPercent = byId('cpu-percent', HTMLSelectElement);

  /**
   * @param {object} options
   * @param {number} options.cores how many cores there are
   * @param {number} options.chosen how many of them to lend at first
   * @param {number} options.cpuPercent how much of each at first
   * @param {() => void} options.onStart
   * @param {() => void} options.onPauseOrResume
   * @param {() => void} options.onStop
   * @param {(workers: number) => void} options.onCores
   * @param {(cpuPercent: number) => void} options.onCpuPercent
   */
  constructor({ cores, chosen, cpuPercent, onStart, onPauseOrResume, onStop, onCores, onCpuPercent }) {
    this.#cores.max = String(cores);
    this.#cores.value = String(chosen);
    this.#showCores();
    this.#chooseCpuPercent(cpuPercent);
    this.#start.addEventListener('click', () => {
      onStart();
      // The pressed button is hidden now; the keyboard's place is the button that took its place.
      if (!this.#pause.hidden) this.#pause.focus();
    });
    this.#pause.addEventListener('click', onPauseOrResume);
    this.#stop.addEventListener('click', () => {
      onStop();
      this.#start.focus();
    });
    this.#cores.addEventListener('input', () => this.#showCores());
    // On release only: each step on the way would start another ML module.
    this.#cores.addEventListener('change', () => onCores(this.workers));
    this.#cpuPercent.addEventListener('change', () => onCpuPercent(this.cpuPercent));
  }

  /** How many cores the slider says. */
  get workers() {
    return this.#cores.valueAsNumber;
  }

  /** For how much of its time each of them is to compute. */
  get cpuPercent() {
    return Number(this.#cpuPercent.value);
  }

  /**
   * @param {TabState} state
   * @param {string} detail in the reporter's words; may be empty
   * @param {boolean} isPauseWanted
   */
  show(state, detail, isPauseWanted) {
    const [word, usual] = WORDS[state];
    const ordinary = AWAY.has(state) && isPauseWanted ? RECONNECTING_AT_REST : usual;
    document.body.dataset.state = state;
    document.title = state === 'not-contributing' ? 'Superstep' : `${word} – Superstep`;
    setText('state', state === 'refused' && detail !== '' ? `Refused: ${detail}` : word);
    setText('state-detail', state === 'refused' || detail === '' ? ordinary : detail);
    const isJoined = isAtWork(state);
    setShown('start', !isJoined);
    setShown('pause', isJoined);
    setShown('stop', isJoined);
    this.#start.disabled = state === 'unsupported' || state === 'finished';
    this.#cores.disabled = this.#start.disabled;
    this.#cpuPercent.disabled = this.#start.disabled;
    setText('pause', isPauseWanted ? 'Resume' : 'Pause');
  }

  /** A link may ask for one that is not among those to choose from. @param {number} percent */
  #chooseCpuPercent(percent) {
    const options = [...this.#cpuPercent.options];
    if (options.every(({ value }) => Number(value) !== percent)) {
      const place = options.find(({ value }) => Number(value) < percent) ?? null;
      this.#cpuPercent.add(new Option(`${percent} %`, String(percent)), place);
    }
    this.#cpuPercent.value = String(percent);
  }

  #showCores() {
    const text = `${this.#cores.value} of ${this.#cores.max}`;
    setText('cores-value', text);
    this.#cores.ariaValueText = text;
  }
}
