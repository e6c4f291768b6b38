// Runs on the simulator's page: the timeline of faults, and the log in words.

/** @import { SimulatedEvent, SimulatedRun, SimulatedSubject } from './types' */

import { SUBJECTS, many, volunteerName } from './simulator-words.js';
import { svg } from './svg.js';

const LABELS_WIDTH = 78;
const ROW_HEIGHT = 24;
const NARROWEST = 280;
/** The share of the width for the time in which faults happen. */
const FAULTS_SHARE = 0.86;
/** After the faults come 60 quiet seconds and 12 of farewell. */
const QUIET_SECONDS = 72;

/** @type {{ label: string, subjects: SimulatedSubject[] }[]} */
const ROWS = [
  { label: 'Server', subjects: ['crash', 'server'] },
  { label: 'Disk', subjects: ['checkpoint', 'disk'] },
  { label: 'Links', subjects: ['link'] },
  { label: 'Volunteers', subjects: ['volunteer'] },
];

/** Shapes differ, so that colour is not needed to tell them apart. @type {Record<SimulatedSubject, string>} */
const SHAPES = {
  crash: 'M -5 -5 L 5 5 M 5 -5 L -5 5',
  server: 'M 0 -6 L 6 5 L -6 5 Z',
  checkpoint: 'M -1 -5 H 1 V 5 H -1 Z',
  disk: 'M 0 -6 L 6 0 L 0 6 L -6 0 Z',
  link: 'M -4 0 a 4 4 0 1 0 8 0 a 4 4 0 1 0 -8 0 Z',
  volunteer: 'M -4 -4 H 4 V 4 H -4 Z',
};

/**
 * Where a moment lies, from 0 to 1.
 * @param {number} seconds
 * @param {number} faultsEnd
 */
export function placeOf(seconds, faultsEnd) {
  if (seconds <= faultsEnd) return (seconds / faultsEnd) * FAULTS_SHARE;
  return FAULTS_SHARE + Math.min((seconds - faultsEnd) / QUIET_SECONDS, 1) * (1 - FAULTS_SHARE);
}

/**
 * @param {HTMLElement} place
 * @param {SimulatedRun} run
 * @param {SimulatedEvent[]} events
 */
export function drawTimeline(place, run, events) {
  const width = Math.max(place.clientWidth, NARROWEST);
  const height = ROWS.length * ROW_HEIGHT + 16;
  const end = run.settings.faults_end_seconds;
  const at = (/** @type {number} */ seconds) => LABELS_WIDTH + placeOf(seconds, end) * (width - LABELS_WIDTH - 8);
  const line = (/** @type {string} */ kind, /** @type {number} */ seconds) =>
    svg('line', { class: kind, x1: at(seconds), x2: at(seconds), y1: 0, y2: height - 16 });
  const rows = ROWS.map(({ label }, row) => {
    const y = (row + 0.5) * ROW_HEIGHT;
    return svg('g', {}, [
      svg('text', { class: 'quiet', x: 0, y: y + 4 }, [label]),
      svg('line', { class: 'row', x1: LABELS_WIDTH, x2: width - 8, y1: y, y2: y }),
    ]);
  });
  const marks = events.map(({ seconds, subject }) => {
    const row = ROWS.findIndex(({ subjects }) => subjects.includes(subject));
    return mark(subject, `translate(${at(seconds)} ${(row + 0.5) * ROW_HEIGHT})`);
  });
  const label = svg('text', { class: 'quiet', x: at(end), y: height, 'text-anchor': 'end' }, ['12 s: faults end']);
  const drawn = [...rows, line('end', end), label, ...marks, line('cursor', run.seconds)];
  place.replaceChildren(svg('svg', { viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' }, drawn));
  place.setAttribute('aria-label', timelineText(events));
}

/** How often what happened. @param {SimulatedEvent[]} events */
export function timelineText(events) {
  const count = (/** @type {SimulatedSubject} */ subject) => events.filter((event) => event.subject === subject).length;
  const parts = [
    many(count('crash'), 'crash', 'crashes'),
    many(count('checkpoint'), 'checkpoint'),
    many(count('disk'), 'fault of the disk', 'faults of the disk'),
    many(count('link'), 'fault of links', 'faults of links'),
    many(count('volunteer'), 'event of volunteers', 'events of volunteers'),
  ];
  return `Timeline: ${parts.join(', ')}.`;
}

/** @param {SimulatedSubject} subject @param {string} transform */
const mark = (subject, transform) =>
  svg('path', { class: 'mark', 'data-subject': subject, d: SHAPES[subject], transform });

/** What the shapes mean. @param {HTMLElement} place */
export function drawLegend(place) {
  const subjects = /** @type {SimulatedSubject[]} */ (Object.keys(SHAPES));
  place.replaceChildren(
    ...subjects.map((subject) => {
      const entry = document.createElement('span');
      const symbol = svg('svg', { viewBox: '-7 -7 14 14', 'aria-hidden': 'true' }, [mark(subject, '')]);
      entry.append(symbol, SUBJECTS[subject]);
      return entry;
    }),
  );
}

/**
 * Puts further entries on top of the log.
 * @param {HTMLElement} place
 * @param {SimulatedEvent[]} events
 */
export function addToLog(place, events) {
  for (const { seconds, subject, volunteer, text } of events) {
    const entry = document.createElement('li');
    entry.dataset.subject = subject;
    const time = document.createElement('time');
    time.textContent = `${seconds.toFixed(2)} s`;
    const what = document.createElement('span');
    const who = document.createElement('strong');
    who.textContent = volunteer === null ? `${SUBJECTS[subject]}: ` : `${volunteerName(volunteer)}: `;
    what.append(who, text);
    entry.append(time, what);
    place.prepend(entry);
  }
}
