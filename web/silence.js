// Runs on the page: notices a worker that says nothing any more.

/**
 * Counts how long nothing was heard, in time in which this page ran itself. A tab that was frozen, or throttled in the
 * background, looks late and finds its worker's words only afterwards. So each look counts for one interval at most.
 */
export class Silence {
  #looksLeft = 0;
  #looks;
  #timer;

  /**
   * @param {object} options
   * @param {number} options.limitMs for how long nothing may be heard
   * @param {number} options.everyMs how often to look
   * @param {() => void} options.onSilence called once, when it was too long
   */
  constructor({ limitMs, everyMs, onSilence }) {
    this.#looks = Math.ceil(limitMs / everyMs);
    this.heard();
    this.#timer = setInterval(() => {
      this.#looksLeft -= 1;
      if (this.#looksLeft > 0) return;
      this.end();
      onSilence();
    }, everyMs);
  }

  /** The worker has said something. */
  heard() {
    this.#looksLeft = this.#looks;
  }

  /** Nothing is listened for any more. */
  end() {
    clearInterval(this.#timer);
  }
}
