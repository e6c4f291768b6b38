import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { Clock } from './clock.js';
import { Silence } from '../silence.js';

/** @type {Clock} */
let clock;
let silences = 0;
/** @type {Silence} */
let silence;

beforeEach(() => {
  clock = new Clock();
  silences = 0;
  silence = new Silence({ limitMs: 10_000, everyMs: 1_000, onSilence: () => (silences += 1) });
});

test('a worker that says nothing for ten seconds is noticed, once', async () => {
  await clock.pass(9_900);
  assert.equal(silences, 0);
  await clock.pass(200);
  assert.equal(silences, 1);
  await clock.pass(60_000);
  assert.equal(silences, 1);
  assert.equal(clock.timers, 0);
});

test('a worker that says something now and then is left alone', async () => {
  for (let second = 0; second < 100; second += 9) {
    await clock.pass(9_000);
    silence.heard();
  }
  assert.equal(silences, 0);
});

test('a tab that was frozen as a whole is not taken for a silent worker', async () => {
  await clock.pass(5_000);
  clock.freeze(3_600_000);
  // The page's timer comes before the worker's words.
  await clock.pass(1_000);
  assert.equal(silences, 0);
  silence.heard();
  await clock.pass(9_000);
  assert.equal(silences, 0);
});

test('after its end nothing is noticed', async () => {
  silence.end();
  await clock.pass(60_000);
  assert.equal(silences, 0);
});
