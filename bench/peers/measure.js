// The stopwatch of all engines: warm-up, then windows of time, of which the median counts.

/** @import { Work } from './types' */

const LEAST_WARM_UP_STEPS = 3;
/** Browsers compile code better once it has run for a while. */
const LEAST_WARM_UP_MS = 1_000;
const MOST_WARM_UP_MS = 10_000;
/** How far the slowest of the last steps may lie above the fastest. */
const STABLE = 1.2;
/** Long enough for the clock, short enough that some windows stay undisturbed. */
const WINDOW_MS = 200;
const LEAST_WINDOWS = 3;

/**
 * Units per second.
 * @param {Work} work @param {number} seconds
 */
export async function unitsPerSecond({ step, units }, seconds) {
  await warmUp(step);
  const rates = [];
  const end = performance.now() + seconds * 1_000;
  for (let now = 0; now < end || rates.length < LEAST_WINDOWS; ) {
    const began = performance.now();
    let steps = 0;
    do {
      const gradients = step();
      // What is there already need not be waited for: that would cost small steps a turn of the event loop.
      if (gradients instanceof Promise) await gradients;
      steps++;
      now = performance.now();
    } while (now - began < WINDOW_MS);
    rates.push((steps * units * 1_000) / (now - began));
  }
  return median(rates);
}

/**
 * All parameters' gradients are there, and they are numbers.
 * @param {Work} work @param {number} parameters
 */
export async function expectGradients({ step }, parameters) {
  const gradients = await step();
  const floats = gradients.reduce((sum, gradient) => sum + gradient.length, 0);
  if (floats !== parameters) throw new Error(`${floats} floats of gradients, not ${parameters}`);
  const squares = gradients.flatMap((gradient) => gradient.reduce((sum, value) => sum + value * value, 0));
  if (!squares.every((sum) => sum > 0 && sum < Infinity)) throw new Error(`gradients of these squares: ${squares}`);
}

/** @param {Work['step']} step */
async function warmUp(step) {
  const began = performance.now();
  /** @type {number[]} */
  let last = [];
  for (;;) {
    const before = performance.now();
    await step();
    const now = performance.now();
    last = [...last, now - before].slice(-LEAST_WARM_UP_STEPS);
    const isStable = last.length === LEAST_WARM_UP_STEPS && Math.max(...last) < STABLE * Math.min(...last);
    if ((isStable && now - began > LEAST_WARM_UP_MS) || now - began > MOST_WARM_UP_MS) return;
  }
}

/** @param {number[]} values */
function median(values) {
  const sorted = values.toSorted((left, right) => left - right);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? NaN) + (sorted[Math.floor(middle)] ?? NaN)) / 2;
}
