import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Playback } from '../playback.js';
import { FIRST_SEED, linkTo, nextSeed, parseSeed, seedOfAddress } from '../seed.js';
import { bookRows, verdict } from '../simulator-books.js';
import { pictureText } from '../simulator-picture.js';
import { placeOf, timelineText } from '../simulator-timeline.js';
import { isGone, lostText, stateDetail, stateWord } from '../simulator-words.js';

const BOOKS = {
  ever_accepted: 1_250,
  accepted: 1_000,
  to_come_again: 200,
  lost: 50,
  missing_as_said: 250,
  told: 1_100,
  contributions: 40,
  refused: 2,
  duplicates: 3,
  resent: 4,
  has_disk_lied: false,
};

const RUN = {
  seconds: 3,
  phase: 'faults',
  settings: { mode: 'decoupled', has_local_steps: true, checkpoint_seconds: 1.25, faults_end_seconds: 12 },
  server: { state: 'down', incarnation: 3, version: 41, crashes: 1, checkpoints: 7 },
  volunteers: [],
  books: BOOKS,
  invariants: [],
  violation: '',
  digest: '',
};

test('a seed is a whole number of 64 bits, and nothing else', () => {
  assert.equal(parseSeed('0'), 0n);
  assert.equal(parseSeed(' 18446744073709551615 '), 2n ** 64n - 1n);
  for (const text of ['', '-1', '1.5', '0x10', '1e3', 'many', '18446744073709551616', '9'.repeat(30)]) {
    assert.equal(parseSeed(text), null, text);
  }
});

test('the address is the link to a run: each seed has one, and none is skipped', () => {
  assert.equal(seedOfAddress(''), FIRST_SEED);
  assert.equal(seedOfAddress('?seed=123'), 123n);
  assert.equal(seedOfAddress('?seed=many'), null);
  assert.equal(nextSeed(6n), 7n);
  assert.equal(nextSeed(2n ** 64n - 1n), 0n);
  assert.equal(seedOfAddress(new URL(linkTo(8n), 'http://localhost/').search), 8n);
});

test('virtual time passes with the frames, at the speed that was chosen, and faster when all is quiet', () => {
  const playback = new Playback();
  assert.equal(playback.target(0, 2, false), 2, 'nothing passes before it plays');
  playback.play();
  assert.equal(playback.target(1_000, 2, false), 2, 'the first frame only says when playing began');
  assert.equal(playback.target(1_100, 2, false), 2.1);
  assert.equal(playback.target(1_200, 2, true), 2.8);
  playback.speed = 0.1;
  assert.ok(Math.abs(playback.target(1_300, 2, false) - 2.01) < 1e-9);
  playback.pause();
  assert.equal(playback.target(2_000, 2, false), 2);
});

test('a page that was hidden for an hour does not make up for it', () => {
  const playback = new Playback();
  playback.play();
  playback.target(0, 0, false);
  assert.ok(playback.target(3_600_000, 0, false) < 1);
});

test('the state says what happens, and a violation is not to be overlooked', () => {
  assert.equal(stateWord(RUN, true), 'Playing: everything may break');
  assert.equal(stateWord({ ...RUN, phase: 'calm' }, false), 'Paused: all comes to rest');
  assert.equal(stateWord({ ...RUN, phase: 'closed' }, false), 'The books are closed: everything held');
  assert.match(stateDetail({ ...RUN, phase: 'closed' }), /^1 crash, 7 checkpoints\. 1,000 samples .* 50 samples went/);
  const violated = { ...RUN, phase: 'violated', violation: 'Once does not hold: a gradient is in two contributions' };
  assert.equal(stateWord(violated, false), 'An invariant does not hold');
  assert.match(stateDetail(violated), /in two contributions.*report the seed/);
  assert.equal(
    stateDetail(RUN),
    'Until second 12. The mode is decoupled with local steps; a checkpoint every 1.3 s.',
  );
});

test('what was lost has its cause', () => {
  assert.equal(lostText({ ...BOOKS, lost: 0 }), 'Nothing was lost.');
  assert.match(lostText(BOOKS), /^50 samples went with volunteers that were closed/);
  assert.match(lostText({ ...BOOKS, has_disk_lied: true }), /or with a disk that lost/);
});

test('the parts of the books are those of their sum', () => {
  const [ever, ...rows] = bookRows(BOOKS);
  const parts = rows.filter(([, , isPart]) => isPart).map(([, value]) => value);
  assert.equal(ever[1], parts.reduce((sum, value) => sum + value));
});

test('an invariant has a word, not only a colour', () => {
  assert.equal(verdict({ checks: 0, holds: true }), '–');
  assert.equal(verdict({ checks: 9, holds: true }), 'Holds');
  assert.equal(verdict({ checks: 9, holds: false }), 'Violated');
});

test('picture and timeline say in words what they show', () => {
  const present = [{ volunteer: { state: 'frozen' }, number: 2 }];
  assert.equal(pictureText(RUN, present), 'The server is down: incarnation 3, version 41; Volunteer 3 frozen.');
  const events = ['crash', 'link', 'link'].map((subject) => ({ seconds: 1, subject, volunteer: null, text: '' }));
  assert.match(timelineText(events), /^Timeline: 1 crash, 0 checkpoints, .* 2 faults of links/);
  assert.deepEqual(['left', 'closed', 'connected'].map(isGone), [true, true, false]);
});

test('the timeline has most of its room for the time of faults, and an end', () => {
  assert.equal(placeOf(0, 12), 0);
  assert.ok(placeOf(6, 12) > 0.4 && placeOf(12, 12) < 0.9);
  assert.equal(placeOf(84, 12), 1);
  assert.equal(placeOf(500, 12), 1);
});
