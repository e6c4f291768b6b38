// Runs on the simulator's page: the seed in the address, which is the link to a run.

/** Seeds have 64 bits. */
const LAST_SEED = 2n ** 64n - 1n;

/**
 * The seed that a reader wrote, or null where it is none.
 * @param {string} text
 * @returns {bigint | null}
 */
export function parseSeed(text) {
  const digits = text.trim();
  // Twenty digits are the most that 64 bits have.
  if (!/^[0-9]{1,20}$/.test(digits)) return null;
  const seed = BigInt(digits);
  return seed <= LAST_SEED ? seed : null;
}

/**
 * The seed that an address names: `?seed=123`. Null where it names one that can't be; the first where it names none.
 * @param {string} search
 * @returns {bigint | null}
 */
export function seedOfAddress(search) {
  const named = new URLSearchParams(search).get('seed');
  return named === null ? FIRST_SEED : parseSeed(named);
}

/** What an address without a seed shows: many crashes, some of them while a checkpoint is written. */
export const FIRST_SEED = 210n;

/** @param {bigint} seed */
export const nextSeed = (seed) => (seed === LAST_SEED ? 0n : seed + 1n);

/** @param {bigint} seed */
export const linkTo = (seed) => `./simulator?seed=${seed}`;
