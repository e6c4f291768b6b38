// For tests: a clock that moves only when it is told to, in place of the global timers.

/** Lets everything run that waits for no timer. */
export async function settle() {
  for (let turn = 0; turn < 50; turn++) await Promise.resolve();
}

/** Replaces the global timers and `performance.now`. The test's own file is the only one that sees them. */
export class Clock {
  #now = 0;
  #next = 1;
  #timers = new Map();

  constructor() {
    const set = (callback, ms, every) => {
      this.#timers.set(this.#next, { callback, due: this.#now + Math.max(ms, 0), every });
      return this.#next++;
    };
    const clear = (timer) => this.#timers.delete(timer);
    globalThis.setTimeout = (callback, ms = 0) => set(callback, ms);
    globalThis.setInterval = (callback, ms) => set(callback, ms, ms);
    globalThis.clearTimeout = clear;
    globalThis.clearInterval = clear;
    Object.defineProperty(performance, 'now', { value: () => this.#now, configurable: true });
  }

  /** How many timers are set. */
  get timers() {
    return this.#timers.size;
  }

  /** Moves on by this time, with everything that is due on the way. */
  async pass(ms) {
    const until = this.#now + ms;
    for (;;) {
      await settle();
      const due = [...this.#timers].filter(([, timer]) => timer.due <= until).sort(([, a], [, b]) => a.due - b.due)[0];
      if (due === undefined) break;
      const [id, timer] = due;
      this.#now = Math.max(this.#now, timer.due);
      if (timer.every === undefined) this.#timers.delete(id);
      else timer.due = this.#now + timer.every;
      timer.callback();
    }
    this.#now = until;
  }

  /** The whole tab is frozen for this time: what was due meanwhile comes once, late. */
  freeze(ms) {
    this.#now += ms;
  }
}
