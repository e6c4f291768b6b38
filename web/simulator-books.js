// Runs on the simulator's page: the books, the invariants and the volunteers, as tables and a list.

/** @import { SimulatedBooks, SimulatedInvariant, SimulatedRun, SimulatedVolunteer } from './types' */

import { setText, whole } from './dom.js';
import { VOLUNTEER_STATES, many } from './simulator-words.js';

/** Rows that are parts of the one above. */
const PART = true;

/** The rows of the books. @param {SimulatedBooks} books @returns {[string, number, boolean?][]} */
export const bookRows = (books) => [
  ['Samples that were accepted at some time', books.ever_accepted],
  ['counted by the server now', books.accepted, PART],
  ['accepted before a crash, to come again', books.to_come_again, PART],
  ['gone with a closed volunteer', books.lost, PART],
  ['Missing, as the server itself says', books.missing_as_said],
  ['Told to the volunteers that can be asked', books.told],
  ['Contributions accepted', books.contributions],
  ['Contributions refused, as too old', books.refused],
  ['Contributions that came twice, counted once', books.duplicates],
  ['Contributions that came again after a restart', books.resent],
];

/** @param {HTMLElement} place @param {SimulatedRun} run */
export function showBooks(place, { books, phase }) {
  const rows = bookRows(books).map(([name, value, isPart]) => row(name, [whole(value)], isPart === PART));
  place.replaceChildren(...rows);
  const sum = books.accepted + books.to_come_again + books.lost;
  const isEven = sum === books.ever_accepted;
  setText(
    'books-note',
    `${whole(books.accepted)} + ${whole(books.to_come_again)} + ${whole(books.lost)} = ${whole(sum)}: ` +
      (isEven ? 'the books agree. ' : 'the books do not agree! ') +
      (books.has_disk_lied ? 'In this run the disk lies: it loses what it has said to hold for good.' : '') +
      (phase === 'faults' && books.missing_as_said !== books.to_come_again + books.lost
        ? 'A server that is down, or whose ledger was torn, knows less than this page.'
        : ''),
  );
}

/** @param {HTMLElement} place @param {SimulatedRun} run */
export function showInvariants(place, { invariants, phase }) {
  place.replaceChildren(...invariants.map((which) => invariant(which, phase === 'closed')));
  const checks = invariants.reduce((sum, { checks }) => sum + checks, 0);
  const broken = invariants.filter(({ holds }) => !holds).length;
  setText('checks', `${many(checks, 'check')} so far, ${many(broken, 'violation')}.`);
}

/** In a word whether it holds. @param {SimulatedInvariant} invariant */
export const verdict = ({ checks, holds }) => (!holds ? 'Violated' : checks === 0 ? '–' : 'Holds');

/** @param {SimulatedInvariant} which @param {boolean} isOver */
function invariant(which, isOver) {
  const { checks, holds, promise } = which;
  const item = document.createElement('li');
  const word = document.createElement('span');
  word.className = 'verdict';
  word.dataset.holds = checks === 0 ? '' : String(holds);
  word.textContent = verdict(which);
  const text = document.createElement('span');
  const count = document.createElement('span');
  count.className = 'quiet';
  const unchecked = isOver ? ' Nothing to check.' : ' Not checked yet.';
  count.textContent = checks === 0 ? unchecked : ` Checked ${many(checks, 'time')}.`;
  text.append(promise, count);
  item.append(word, text);
  return item;
}

/** @param {HTMLElement} place @param {SimulatedRun} run */
export function showVolunteers(place, { volunteers }) {
  place.replaceChildren(...volunteers.map((volunteer, number) => volunteerRow(volunteer, number)));
}

/** @param {SimulatedVolunteer} volunteer @param {number} number */
function volunteerRow(volunteer, number) {
  const { state, computed, told, accepted, lost, kept } = volunteer;
  const counts = [computed, told, accepted, volunteer.to_come_again, lost, kept];
  const cells = counts.map((count) => (count === null ? '–' : whole(count)));
  return row(String(number + 1), [VOLUNTEER_STATES[state], ...cells]);
}

/** @param {string} name @param {string[]} cells @param {boolean} [isPart] */
function row(name, cells, isPart = false) {
  const element = document.createElement('tr');
  element.dataset.part = String(isPart);
  const head = document.createElement('th');
  head.scope = 'row';
  head.textContent = name;
  element.append(head);
  for (const text of cells) {
    const cell = document.createElement('td');
    cell.textContent = text;
    element.append(cell);
  }
  return element;
}
