import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { Clock } from './clock.js';
import { ServerWatch } from '../status.js';

/** @type {Clock} */
let clock;
let run = 'first';
let isAway = false;
let session = '';
let asked = [];
let heard = [];

beforeEach(() => {
  clock = new Clock();
  globalThis.document = { hidden: false };
  [run, isAway, session, asked, heard] = ['first', false, '', [], []];
  let version = 0;
  globalThis.fetch = async (path) => {
    const name = path.replace('./api/v1/', '');
    asked.push(name);
    if (isAway) throw new TypeError('refused');
    const bodies = {
      status: { run, version: (version += 1), samples: version, eval: null },
      run: { run, name: 'digits' },
      history: { loss: [], eval: [], events: [] },
    };
    return { ok: true, json: async () => bodies[name] ?? [{ id: Number(session) }] };
  };
});

function watch() {
  const server = new ServerWatch({
    onStatus: (status, described) => heard.push(['status', described?.run]),
    onHistory: () => heard.push(['history']),
    session: () => session,
    onReport: (report) => heard.push(['report', report?.id]),
    onReachable: (isReachable) => heard.push(['reachable', isReachable]),
  });
  void server.watch();
  return server;
}

const count = (name) => asked.filter((other) => other.startsWith(name)).length;

test('the run is fetched once, its status every second, its curves every few', async () => {
  watch();
  await clock.pass(9_500);
  assert.deepEqual([count('run'), count('status'), count('history')], [1, 10, 4]);
  assert.deepEqual(heard.filter(([what, described]) => what === 'status' && described === 'first').length, 1);
});

test('another run at the same address is noticed and described', async () => {
  watch();
  await clock.pass(2_500);
  run = 'second';
  await clock.pass(2_000);
  assert.deepEqual([count('run')], [2]);
  assert.ok(heard.some(([what, described]) => what === 'status' && described === 'second'));
});

test('a server that does not answer is said to be out of reach, and is asked less and less often', async () => {
  watch();
  await clock.pass(1_500);
  isAway = true;
  await clock.pass(1_000);
  assert.deepEqual(heard.at(-1), ['reachable', false]);
  asked = [];
  await clock.pass(60_000);
  assert.ok(asked.length <= 20, `${asked.length} times in a minute`);
  isAway = false;
  await clock.pass(8_000);
  assert.ok(heard.slice(-4).some(([what, is]) => what === 'reachable' && is === true));
});

test('a server that is known to be there again is asked at once', async () => {
  const server = watch();
  isAway = true;
  await clock.pass(60_000);
  isAway = false;
  asked = [];
  server.askNow();
  await clock.pass(0);
  assert.deepEqual([count('status'), heard.some(([what, is]) => what === 'reachable' && is === true)], [1, true]);
});

test('a tab in the background fetches no curves and no report', async () => {
  document.hidden = true;
  session = '5';
  watch();
  await clock.pass(10_000);
  assert.deepEqual([count('history'), count('volunteers')], [0, 0]);
});

test('a report is of the session that the tab has', async () => {
  session = '5';
  watch();
  await clock.pass(500);
  assert.deepEqual(asked.filter((name) => name.startsWith('volunteers')), ['volunteers?id=5']);
  assert.ok(heard.some(([what, id]) => what === 'report' && id === 5));
});
