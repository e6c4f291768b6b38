// Runs on the page: finds elements, and writes numbers into them with their unit.

const WHOLE = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const TENTHS = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const COMPACT = new Intl.NumberFormat('en', { notation: 'compact', maximumSignificantDigits: 3 });

/** @param {number} value */
export const whole = (value) => WHOLE.format(value);

/** @param {number} value */
export const tenths = (value) => TENTHS.format(value);

/** Short form for axes: 1.2M. @param {number} value */
export const compact = (value) => COMPACT.format(value);

/** A loss on an axis; a run that diverges has some that no axis has room for in full. @param {number} value */
export const lossTick = (value) => (value >= 1e5 ? value.toExponential() : String(value));

/** @param {number} share from 0 to 1 */
export const percent = (share) => `${TENTHS.format(share * 100)} %`;

/** A rate is small on a slow machine; a whole number would then say nothing. @param {number} value */
export const rate = (value) => (value > 0 && value < 10 ? TENTHS : WHOLE).format(value);

/** @param {number} seconds */
export const duration = (seconds) => (seconds < 1 ? `${rate(seconds * 1000)} ms` : `${TENTHS.format(seconds)} s`);

/** @param {number} value */
export function bytes(value) {
  if (value < 1e3) return `${rate(value)} bytes`;
  return value < 1e6 ? `${TENTHS.format(value / 1e3)} kB` : `${TENTHS.format(value / 1e6)} MB`;
}

/** Four significant digits show a loss that still falls late in a run. @param {number} value */
export const loss = (value) => value.toPrecision(4);

/**
 * The element with this id. The page is served with its modules, so an absent element is a mistake in them.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} kind
 * @returns {T}
 */
export function byId(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${kind.name} with the id "${id}"`);
  return element;
}

/** @param {string} id @param {string} text */
export function setText(id, text) {
  const element = byId(id, HTMLElement);
  // Equal text is not written again: that would make screen readers repeat a live region.
  if (element.textContent !== text) element.textContent = text;
}

/** @param {string} id @param {boolean} isShown */
export function setShown(id, isShown) {
  byId(id, HTMLElement).hidden = !isShown;
}

/**
 * Writes a number for people, and as it came into `data-value`; without a number both say so.
 * @param {string} id
 * @param {number | null | undefined} value
 * @param {(value: number) => string} format
 */
export function setNumber(id, value, format = whole) {
  const element = byId(id, HTMLElement);
  const isKnown = typeof value === 'number' && Number.isFinite(value);
  element.dataset.value = isKnown ? String(value) : '';
  setText(id, isKnown ? format(value) : '–');
}
