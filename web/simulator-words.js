// Runs on the simulator's page: the words for what the simulator reports.

/** @import { SimulatedRun, SimulatedServerState, SimulatedSubject, SimulatedVolunteerState } from './types' */

import { tenths, whole } from './dom.js';

/** @type {Record<SimulatedServerState, string>} */
export const SERVER_STATES = {
  up: 'is up',
  stopping: 'stops',
  frozen: 'is frozen',
  down: 'is down',
};

/** @type {Record<SimulatedVolunteerState, string>} */
export const VOLUNTEER_STATES = {
  connected: 'connected',
  paused: 'paused',
  'cut-off': 'cut off, unaware',
  connecting: 'connecting',
  offline: 'offline',
  frozen: 'frozen',
  left: 'has left',
  restarts: 'restarts',
  closed: 'closed',
  refused: 'refused',
};

/** @type {Record<SimulatedSubject, string>} */
export const SUBJECTS = {
  crash: 'Crash',
  server: 'Server',
  checkpoint: 'Checkpoint',
  disk: 'Disk',
  link: 'Link',
  volunteer: 'Volunteer',
};

/** What readers count from one. @param {number} number */
export const volunteerName = (number) => `Volunteer ${number + 1}`;

/** Volunteers that have no link any more, and never will. @param {SimulatedVolunteerState} state */
export const isGone = (state) => ['left', 'closed', 'restarts', 'refused'].includes(state);

/** What the seed has drawn. @param {SimulatedRun} run */
function settingsText({ settings }) {
  const steps = settings.has_local_steps ? ' with local steps' : '';
  return `The mode is ${settings.mode}${steps}; a checkpoint every ${tenths(settings.checkpoint_seconds)} s.`;
}

/** What the page does, or what the run came to. @param {SimulatedRun} run @param {boolean} isPlaying */
export function stateWord({ phase }, isPlaying) {
  if (phase === 'violated') return 'An invariant does not hold';
  if (phase === 'closed') return 'The books are closed: everything held';
  const doing = { faults: 'everything may break', calm: 'all comes to rest', farewell: 'the volunteers leave' }[phase];
  return isPlaying ? `Playing: ${doing}` : `Paused: ${doing}`;
}

/** The same as a sentence or two. @param {SimulatedRun} run */
export function stateDetail(run) {
  const { phase, violation, books, server, settings } = run;
  switch (phase) {
    case 'violated':
      return `${violation}. This is a mistake in Superstep: please report the seed.`;
    case 'closed':
      return (
        `${many(server.crashes, 'crash', 'crashes')}, ${many(server.checkpoints, 'checkpoint')}. ` +
        `${whole(books.accepted)} samples are counted, each once. ${lostText(books)}`
      );
    case 'faults':
      return `Until second ${whole(settings.faults_end_seconds)}. ${settingsText(run)}`;
    default:
      return 'The faults are over, and little happens: time passes eight times as fast.';
  }
}

/** What was lost, and with whom. @param {SimulatedRun['books']} books */
export function lostText({ lost, has_disk_lied: hasDiskLied }) {
  if (lost === 0) return 'Nothing was lost.';
  const disk = hasDiskLied ? ', or with a disk that lost what it had said to hold for good' : '';
  return `${whole(lost)} samples went with volunteers that were closed before a restart${disk}.`;
}

/** A number with its noun. @param {number} count @param {string} one @param {string} [several] */
export const many = (count, one, several = `${one}s`) => `${whole(count)} ${count === 1 ? one : several}`;
