import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { Clock, settle } from './clock.js';
import { fetchPatiently } from '../bsp-fetch.js';

/** @type {Clock} */
let clock;
/** What the server answers, one after the other; an error for none. */
let answers = [];
let asked = 0;

beforeEach(() => {
  clock = new Clock();
  asked = 0;
  globalThis.fetch = async () => {
    asked += 1;
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer instanceof Error) throw answer;
    return { ok: answer === 200, status: answer, text: async () => 'the run' };
  };
});

const fetchText = () => fetchPatiently('./api/v1/run', (response) => response.text());

test('a server that is away for a while is asked until it answers', async () => {
  answers = [new TypeError('refused'), 503, 502, 429, 200];
  const text = fetchText();
  await clock.pass(60_000);
  assert.equal(await text, 'the run');
  assert.equal(asked, 5);
});

test('a server that never comes back is asked less and less often', async () => {
  answers = [500];
  void fetchText();
  await clock.pass(60_000);
  const first = asked;
  assert.ok(first >= 6 && first <= 12, `${first} in the first minute`);
  await clock.pass(600_000);
  assert.ok(asked - first >= 20 && asked - first <= 41, `${asked - first} in the next ten`);
});

test('whatever may pass is asked for again', async () => {
  for (const status of [408, 429, 500, 502, 503, 504, 599]) {
    answers = [status, 200];
    const text = fetchText();
    await clock.pass(1_000);
    assert.equal(await text, 'the run', String(status));
  }
});

test('an answer that is not going to change is an error at once', async () => {
  for (const status of [304, 400, 401, 403, 404, 405, 410, 418, 600]) {
    answers = [status];
    asked = 0;
    await assert.rejects(fetchText(), { message: `./api/v1/run: the server answered ${status}` });
    assert.equal(asked, 1);
  }
});

test('an answer that is lost on the way is fetched again', async () => {
  answers = [200];
  let reads = 0;
  const read = async () => {
    reads += 1;
    if (reads === 1) throw new TypeError('network error');
    return 'whole';
  };
  const whole = fetchPatiently('./x', read);
  await clock.pass(1_000);
  await settle();
  assert.equal(await whole, 'whole');
});
