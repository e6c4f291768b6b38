// Runs in the BSP worker: fetches what is needed before there is a module, from a server that may be away for a while.

import { waitMs } from './backoff.js';

const WAITS = { firstMs: 500, longestMs: 30_000 };
/** These may pass; any other answer than success stays the same. @param {number} status */
const isPassing = (status) => status === 408 || status === 429 || (status >= 500 && status <= 599);

/**
 * Fetches and reads until both succeed, with longer and longer waits. The same rule as `FetchError` in the crate
 * `volunteer`.
 * @template T
 * @param {string} path @param {(response: Response) => T | Promise<T>} read @returns {Promise<T>}
 * @throws {Error} if the server's answer is not going to change
 */
export async function fetchPatiently(path, read) {
  for (let failures = 1; ; failures++) {
    try {
      const response = await fetch(path);
      if (response.ok) return await read(response);
      if (!isPassing(response.status)) throw new FinalAnswer(`${path}: the server answered ${response.status}`);
    } catch (error) {
      if (error instanceof FinalAnswer) throw error;
      // Out of reach, or lost on the way; the page says so by itself.
    }
    await new Promise((resolve) => setTimeout(resolve, waitMs(failures, WAITS)));
  }
}

class FinalAnswer extends Error {}
