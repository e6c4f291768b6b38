// Runs on the page and in the BSP worker: how long to wait before something that has failed is tried again.

/**
 * Doubles with each failure in a row, between bounds, and is shortened at random by up to a half, so that many tabs do
 * not return in the same moment. The same law as `Backoff` in the crate `bsp`.
 * @param {number} failures in a row, this one counted
 * @param {{ firstMs: number, longestMs: number }} bounds
 */
export function waitMs(failures, { firstMs, longestMs }) {
  const wait = Math.min(firstMs * 2 ** Math.max(failures - 1, 0), longestMs);
  return wait * (0.5 + Math.random() / 2);
}
