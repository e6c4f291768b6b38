// Runs in the BSP worker: fetches from a server that may be away for a while.

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;

/**
 * Fetches and reads until both succeed, with longer and longer waits.
 * @template T
 * @param {string} path @param {(response: Response) => T | Promise<T>} read @returns {Promise<T>}
 */
export async function fetchPatiently(path, read) {
  for (let wait = FIRST_WAIT_MS; ; wait = Math.min(2 * wait, LONGEST_WAIT_MS)) {
    try {
      const response = await fetch(path);
      if (response.ok) return await read(response);
    } catch {
      // Out of reach, or lost on the way; the page says so by itself.
    }
    await new Promise((resolve) => setTimeout(resolve, wait * (0.5 + Math.random() / 2)));
  }
}
