// Runs on the page: what a chart has besides its curves. Words, for readers who do not see it; marks, where the run
// went on after a restart.

import { setShown, whole } from './dom.js';

/** @import uPlot from './vendor/uPlot.esm.js' */
/** @import { HistoryEvent } from './types' */

/** The marks of each chart, in samples. @type {WeakMap<uPlot, number[]>} */
const marksOf = new WeakMap();

/**
 * Draws the marks below the curves: a hook of uPlot.
 * @param {uPlot} plot
 */
export function drawMarks(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  for (const samples of marksOf.get(plot) ?? []) {
    const x = Math.round(plot.valToPos(samples, 'x', true)) + 0.5;
    // Outside the curves there is nothing to mark.
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
  }
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
  ctx.strokeStyle = getComputedStyle(plot.root).getPropertyValue('--calm').trim();
  ctx.stroke();
  ctx.restore();
}

/**
 * The next drawing has a mark for each restart.
 * @param {uPlot} plot
 * @param {HistoryEvent[]} events
 */
export function setMarks(plot, events) {
  const restarts = events.filter((event) => event.kind === 'restart');
  marksOf.set(plot, [...new Set(restarts.map((restart) => restart.samples))]);
}

/**
 * Says in words what the curve shows, for readers who do not see it, and hides an empty chart.
 * @template {{ samples: number }} Point
 * @param {uPlot} plot
 * @param {string} name
 * @param {Point | undefined} last
 * @param {(point: Point) => string} format
 */
export function describe(plot, name, last, format) {
  const place = plot.root.parentElement;
  if (place === null) return;
  place.classList.toggle('has-points', last !== undefined);
  const said = last === undefined ? 'no points yet' : `${format(last)} after ${whole(last.samples)} samples`;
  const marks = marksOf.get(plot)?.length ?? 0;
  const marked = marks === 0 ? '' : `; ${whole(marks)} ${marks === 1 ? 'mark' : 'marks'} of a restarted server`;
  place.ariaLabel = `${name} curve: ${said}${marked}`;
  setShown(`${name.toLowerCase()}-marks`, last !== undefined && marks > 0);
}
