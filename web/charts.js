// Runs on the page: draws the loss and the accuracy curve over the samples that everybody has seen.

import { describe, drawMarks, setMarks } from './chart-notes.js';
import { compact, loss, lossTick, percent, whole } from './dom.js';
import uPlot from './vendor/uPlot.esm.js';

/** @import { History, Run, Target } from './types' */

const HEIGHT_PX = 240;

const LOSSES = {
  softmax_cross_entropy: 'loss (cross-entropy, nats)',
  binary_cross_entropy: 'loss (binary cross-entropy, nats)',
  mean_squared_error: 'loss (mean squared error)',
};

/** @param {string} name of a CSS custom property, so that the curves follow the colour scheme */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * One curve of a chart.
 * @param {string} label
 * @param {string} colourName
 * @param {(value: number) => string} format
 * @param {Partial<uPlot.Series>} more
 * @returns {uPlot.Series}
 */
function curve(label, colourName, format, more = {}) {
  return {
    label,
    stroke: () => colour(colourName),
    width: 2,
    spanGaps: true,
    // A single value is no line yet.
    points: { show: (plot, series) => countOf(plot.data[series] ?? []) === 1 },
    value: (plot, _value, series, index) => known(plot, series, index, format),
    ...more,
  };
}

/** How many values there are; where a curve has none, there is no number. @param {ArrayLike<unknown>} values */
const countOf = (values) => Array.from(values).filter((value) => typeof value === 'number').length;

/**
 * The value that a curve had at the pointer, or the newest without one. Where a curve has no point, the last one
 * before.
 * @param {uPlot} plot
 * @param {number} series
 * @param {number | null} index
 * @param {(value: number) => string} format
 */
function known(plot, series, index, format) {
  const values = plot.data[series] ?? [];
  for (let i = index ?? values.length - 1; i >= 0; i--) {
    const value = values[i];
    if (value !== null && value !== undefined) return format(value);
  }
  return '–';
}

/**
 * @param {string} label @param {(value: number) => string} format @param {Partial<uPlot.Axis>} more
 * @returns {uPlot.Axis}
 */
function axis(label, format, more = {}) {
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  return {
    label,
    labelFont: font,
    labelSize: 22,
    font,
    stroke: () => colour('--muted'),
    grid: { stroke: () => colour('--line'), width: 1 },
    ticks: { show: false },
    values: (_chart, splits) => splits.map(format),
    ...more,
  };
}

/**
 * @param {HTMLElement} place
 * @param {string} yLabel
 * @param {(value: number) => string} yFormat
 * @param {uPlot.Range.Function} yRange
 * @param {{ curve: uPlot.Series, colourName: string }[]} curves
 */
function chart(place, yLabel, yFormat, yRange, curves) {
  const plot = new uPlot(
    {
      width: Math.max(place.clientWidth, 1),
      height: HEIGHT_PX,
      padding: [12, 12, 0, 0],
      scales: { x: { time: false }, y: { range: yRange } },
      axes: [axis('samples seen by everybody', compact, { space: 64, size: 30 }), axis(yLabel, yFormat, { size: 42 })],
      series: [
        { label: 'samples', value: (plot, _value, series, index) => known(plot, series, index, whole) },
        ...curves.map((c) => c.curve),
      ],
      // CSS resolves the property, so the legend follows the colour scheme by itself.
      legend: { markers: { width: 0, fill: (_chart, index) => `var(${curves[index - 1]?.colourName ?? '--ink'})` } },
      cursor: { y: false, drag: { x: false, y: false } },
      hooks: { drawAxes: [drawMarks] },
    },
    /** @type {uPlot.AlignedData} */ ([[], ...curves.map(() => [])]),
    place,
  );
  new ResizeObserver(() => {
    const width = place.clientWidth;
    if (width > 0 && width !== plot.width) plot.setSize({ width, height: HEIGHT_PX });
  }).observe(place);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => plot.redraw(false));
  return plot;
}

/** @param {(value: number) => string} format */
function targetCurve(format) {
  const colourName = '--series-target';
  return { curve: curve('target', colourName, format, { dash: [6, 6], width: 1.5 }), colourName };
}

/** The target is the last curve of a chart. @param {uPlot} plot @param {boolean} hasTarget */
function showTargetInLegend(plot, hasTarget) {
  const entry = plot.root.querySelector('.u-series:last-child');
  if (entry instanceof HTMLElement) entry.hidden = !hasTarget;
}

/** Both charts. */
export class Charts {
  #loss;
  #accuracy;

  /** @param {HTMLElement} lossPlace @param {HTMLElement} accuracyPlace */
  constructor(lossPlace, accuracyPlace) {
    this.#loss = chart(
      lossPlace,
      'loss',
      lossTick,
      // Zero stays in sight: a loss is read against it.
      (_chart, _min, max) => [0, max > 0 ? max * 1.05 : 1],
      [
        { curve: curve('training', '--series-training', loss), colourName: '--series-training' },
        { curve: curve('held-out', '--series-held-out', loss), colourName: '--series-held-out' },
        targetCurve(loss),
      ],
    );
    this.#accuracy = chart(
      accuracyPlace,
      'accuracy (%)',
      (value) => `${Math.round(value * 1000) / 10}`,
      // The last per cents are the interesting ones, so the scale begins a little below the lowest point.
      (_chart, min) => [Math.max(0, Math.floor((min ?? 0) * 10 - 0.5) / 10), 1],
      [
        { curve: curve('held-out', '--series-held-out', percent), colourName: '--series-held-out' },
        targetCurve(percent),
      ],
    );
  }

  /** Says what is drawn. @param {Run} run */
  showRun(run) {
    const axis = this.#loss.axes[1];
    if (axis !== undefined) axis.label = LOSSES[run.model.loss];
    this.#loss.redraw(false, true);
  }

  /** @param {History} history @param {Target} target */
  show(history, target) {
    for (const plot of [this.#loss, this.#accuracy]) setMarks(plot, history.events);
    const evalSamples = history.eval.map((point) => point.samples);
    this.#loss.setData(
      uPlot.join([
        [history.loss.map((point) => point.samples), history.loss.map((point) => point.loss)],
        [evalSamples, history.eval.map((point) => point.loss), evalSamples.map(() => target.loss)],
      ]),
    );
    const accuracies = history.eval.map((point) => point.accuracy);
    this.#accuracy.setData([evalSamples, accuracies, accuracies.map(() => target.accuracy)]);
    showTargetInLegend(this.#loss, target.loss !== null);
    showTargetInLegend(this.#accuracy, target.accuracy !== null);
    describe(this.#loss, 'Loss', history.loss.at(-1), (point) => loss(point.loss));
    describe(this.#accuracy, 'Accuracy', history.eval.at(-1), ({ accuracy }) =>
      accuracy === null ? '–' : percent(accuracy),
    );
  }
}
