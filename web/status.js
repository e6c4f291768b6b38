// Runs on the page: asks the server where the run stands, again and again, and says when it does not answer.

/** @import { History, Run, Status, VolunteerReport } from './types' */

import { waitMs } from './backoff.js';

/** Twice a second would double the requests and no reader could follow. */
const PERIOD_MS = 1_000;
/** The curves have a few hundred points: far more bytes than the status. */
const HISTORY_PERIOD_MS = 3_000;
/** Links change within seconds, and every tab asks. */
const REPORT_PERIOD_MS = 3_000;
/** Longer than any healthy answer, short enough to notice a server that has gone. */
const TIMEOUT_MS = 5_000;
/** A server that comes back is noticed within this time, and is not flooded by its volunteers before. */
const LONGEST_PAUSE_MS = 8_000;

/** Polls for as long as the page lives. */
export class ServerWatch {
  #listeners;
  #isRunKnown = false;
  #runOfStatus = '';
  #drawn = '';
  #historyAt = -Infinity;
  #reportAt = -Infinity;
  /** Ends the present pause. */
  #wake = () => {};

  /**
   * @param {object} listeners
   * @param {(status: Status, run: Run | undefined) => void} listeners.onStatus with the run when it is a new one
   * @param {(history: History) => void} listeners.onHistory
   * @param {() => string} listeners.session the session of which a report is wanted; empty for none
   * @param {(report: VolunteerReport | undefined) => void} listeners.onReport its report, if it is connected
   * @param {(isReachable: boolean) => void} listeners.onReachable called after every round
   */
  constructor(listeners) {
    this.#listeners = listeners;
  }

  /** Never returns. */
  async watch() {
    let failures = 0;
    for (;;) {
      const news = await attempt(() => this.#ask());
      failures = news === null ? failures + 1 : 0;
      this.#listeners.onReachable(news !== null);
      if (news !== null) {
        // Told before the curves are asked for: a kiosk joins on it.
        this.#listeners.onStatus(news.status, news.run);
        const history = await attempt(() => this.#historyIfChanged(news.status));
        if (history) this.#listeners.onHistory(history);
        await attempt(() => this.#reportIfDue());
      }
      const waits = { firstMs: PERIOD_MS, longestMs: LONGEST_PAUSE_MS };
      await this.#pause(failures === 0 ? PERIOD_MS : waitMs(failures, waits));
    }
  }

  /** The server is there, as a socket to it has said: it is asked now, however long it has not answered. */
  askNow() {
    this.#wake();
  }

  /** @param {number} ms @returns {Promise<void>} */
  #pause(ms) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** @returns {Promise<{ status: Status, run?: Run }>} */
  async #ask() {
    /** @type {[Status, Run | undefined]} */
    let [status, run] = await Promise.all([getJson('status'), this.#isRunKnown ? undefined : getJson('run')]);
    // The operator may have started another run at the same address.
    if (this.#isRunKnown && status.run !== this.#runOfStatus) run = await getJson('run');
    if (run === undefined) return { status };
    this.#isRunKnown = true;
    this.#runOfStatus = status.run;
    this.#drawn = '';
    this.#historyAt = -Infinity;
    return { status, run };
  }

  /** @param {Status} status @returns {Promise<History | null>} */
  async #historyIfChanged(status) {
    const latest = `${status.version}/${status.samples}/${status.eval?.version}`;
    const now = performance.now();
    const isDue = now - this.#historyAt >= HISTORY_PERIOD_MS;
    // A tab in the background draws nothing that anybody sees.
    if (latest === this.#drawn || !isDue || document.hidden) return null;
    const history = await getJson('history');
    this.#drawn = latest;
    this.#historyAt = now;
    return history;
  }

  async #reportIfDue() {
    const session = this.#listeners.session();
    const now = performance.now();
    if (session === '' || document.hidden || now - this.#reportAt < REPORT_PERIOD_MS) return;
    this.#reportAt = now;
    /** @type {VolunteerReport[]} */
    const [report] = await getJson(`volunteers?id=${session}`);
    // The tab may have stopped meanwhile.
    if (this.#listeners.session() === session) this.#listeners.onReport(report);
  }
}

/**
 * Null if the server did not answer as it should. Whatever went wrong, there is one answer: say so, and try again.
 * @template T
 * @param {() => Promise<T>} ask
 * @returns {Promise<T | null>}
 */
async function attempt(ask) {
  try {
    return await ask();
  } catch {
    return null;
  }
}

/** @param {string} name */
async function getJson(name) {
  const answer = await fetch(`./api/v1/${name}`, { cache: 'no-store', signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!answer.ok) throw new Error(`${name}: the server answered ${answer.status}`);
  return answer.json();
}
