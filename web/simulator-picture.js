// Runs on the simulator's page: draws the server, its disk, the volunteers and their links.

/** @import { SimulatedRun, SimulatedVolunteer } from './types' */

import { bytes, whole } from './dom.js';
import { SERVER_STATES, VOLUNTEER_STATES, isGone, many, volunteerName } from './simulator-words.js';
import { svg } from './svg.js';

const BOX = { width: 104, height: 62, gap: 12 };
const SERVER = { width: 150, height: 62, gap: 24 };
const LINKS_HEIGHT = 70;
/** Below this a browser shows a strip, and nothing can be read. */
const NARROWEST = 280;

/** States in which nothing travels. */
const BROKEN = ['offline', 'cut-off'];

/** A volunteer and its number. @typedef {{ volunteer: SimulatedVolunteer, number: number }} Numbered */

/**
 * Draws into `place`, and says the same in its label.
 * @param {HTMLElement} place
 * @param {SimulatedRun} run
 */
export function drawPicture(place, run) {
  const width = Math.max(place.clientWidth, NARROWEST);
  const all = run.volunteers.map((volunteer, number) => ({ volunteer, number }));
  const present = all.filter(({ volunteer }) => !isGone(volunteer.state));
  const columns = Math.max(1, Math.floor((width + BOX.gap) / (BOX.width + BOX.gap)));
  const rows = Math.ceil(present.length / columns);
  const height = SERVER.height + (rows === 0 ? 0 : LINKS_HEIGHT + rows * (BOX.height + BOX.gap));
  const places = present.map((numbered, index) => ({ ...numbered, ...placeOf(index, present.length, columns, width) }));
  const { serverX, diskX, size } = serverPlaces(width);
  const drawn = [
    // Links first: boxes of another row cover them.
    ...places.map((at) => link(serverX + size / 2, at)),
    ...server(serverX, diskX, size, run),
    ...places.flatMap(volunteerBox),
  ];
  place.replaceChildren(svg('svg', { viewBox: `0 0 ${width} ${height}`, 'aria-hidden': 'true' }, drawn));
  place.setAttribute('aria-label', pictureText(run, present));
}

/** The picture in words. @param {SimulatedRun} run @param {Numbered[]} present */
export function pictureText({ server: { state, incarnation, version } }, present) {
  const stateOf = (/** @type {Numbered} */ { volunteer, number }) =>
    `${volunteerName(number)} ${VOLUNTEER_STATES[volunteer.state]}`;
  const volunteers = present.map(stateOf);
  const server = `The server ${SERVER_STATES[state]}: incarnation ${incarnation}, version ${version}`;
  return `${[server, ...volunteers].join('; ')}.`;
}

/**
 * The middle of a volunteer's upper edge: rows are filled from the left, and each is centred.
 * @param {number} index @param {number} count @param {number} columns @param {number} width
 */
function placeOf(index, count, columns, width) {
  const row = Math.floor(index / columns);
  const inRow = Math.min(columns, count - row * columns);
  const step = BOX.width + BOX.gap;
  const x = width / 2 + ((index % columns) - (inRow - 1) / 2) * step;
  return { x, y: SERVER.height + LINKS_HEIGHT + row * (BOX.height + BOX.gap) };
}

/**
 * The left edges of server and disk, which fit into the narrowest page, and their width. The server is in the middle
 * where there is room.
 * @param {number} width
 */
function serverPlaces(width) {
  const size = Math.min(SERVER.width, (width - SERVER.gap) / 2);
  const left = (width - size) / 2;
  const isNarrow = left < size + SERVER.gap;
  return { serverX: isNarrow ? 0 : left, diskX: isNarrow ? width - size : left + size + SERVER.gap, size };
}

/** @param {number} serverX @param {number} diskX @param {number} size @param {SimulatedRun} run */
function server(serverX, diskX, size, { server }) {
  const { state, incarnation, version, files, disk_bytes: diskBytes, step } = server;
  const model = `start ${incarnation}, version ${whole(version)}`;
  return [
    svg('line', { class: 'row', x1: serverX + size, y1: 31, x2: diskX, y2: 31, stroke: 'currentColor' }),
    ...box(serverX + size / 2, 1, size, state, ['Server', SERVER_STATES[state], model]),
    ...box(diskX + size / 2, 1, size, '', [
      'Disk',
      `${many(files.length, 'file')}, ${bytes(diskBytes)}`,
      step === '' ? 'nothing to write' : `to ${step.replace(/ to .*/, '')}`,
    ]),
  ];
}

/** @param {number} middle @param {{ volunteer: SimulatedVolunteer, x: number, y: number }} at */
function link(middle, { volunteer, x, y }) {
  const { state, frames_up: up, frames_down: down } = volunteer;
  const kind = state === 'connecting' ? 'connecting' : BROKEN.includes(state) ? 'broken' : 'open';
  const from = Math.min(middle, x + BOX.width / 2);
  const path = `M ${from} ${SERVER.height + 2} L ${x} ${y}`;
  const frames = up + down === 0 ? '' : `↑ ${up} ↓ ${down}`;
  return svg('g', {}, [
    svg('path', { class: 'link', 'data-state': kind, d: path }),
    text((from + x) / 2 + 6, (SERVER.height + y) / 2 + 4, 'quiet', frames, 'start'),
  ]);
}

/** @param {Numbered & { x: number, y: number }} at */
function volunteerBox({ volunteer, number, x, y }) {
  const { state, kept, unacknowledged } = volunteer;
  const waits = kept === 0 ? 'keeps nothing' : `keeps ${kept}, ${unacknowledged} open`;
  return box(x, y, BOX.width, state, [volunteerName(number), VOLUNTEER_STATES[state], waits]);
}

/**
 * @param {number} x its middle
 * @param {number} y
 * @param {number} width
 * @param {string} state
 * @param {string[]} lines
 */
function box(x, y, width, state, lines) {
  const shape = { class: 'box', 'data-state': state, x: x - width / 2, y, width, height: BOX.height - 2, rx: 10 };
  return [
    svg('rect', shape),
    ...lines.map((line, index) => text(x, y + 19 + index * 17, ['name', '', 'quiet'][index] ?? '', line, 'middle')),
  ];
}

/** @param {number} x @param {number} y @param {string} kind @param {string} content @param {string} anchor */
const text = (x, y, kind, content, anchor) => svg('text', { class: kind, x, y, 'text-anchor': anchor }, [content]);
