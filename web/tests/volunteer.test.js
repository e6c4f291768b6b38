import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { Clock } from './clock.js';
import { Volunteer } from '../volunteer.js';

/** @type {Clock} */
let clock;
/** All workers that were created, in order. */
let workers = [];
let states = [];
let progress = [];
/** What was accepted of a start at its end, and its number. */
let accepted = [];

class FakeWorker {
  posted = [];
  isTerminated = false;
  #listeners = new Map();

  constructor(url, { name }) {
    Object.assign(this, { url, name });
    workers.push(this);
  }

  addEventListener(type, listener) {
    this.#listeners.set(type, listener);
  }

  postMessage(message) {
    this.posted.push(message);
    if (message.type === 'closing') Atomics.store(message.done, 0, 1);
  }

  terminate() {
    this.isTerminated = true;
  }

  says(data) {
    this.#listeners.get('message')({ data });
  }

  fails(message) {
    this.#listeners.get('error')({ message });
  }
}

beforeEach(() => {
  clock = new Clock();
  [workers, states, progress, accepted] = [[], [], [], []];
  globalThis.Worker = FakeWorker;
});

function volunteer() {
  return new Volunteer({
    capacity: 4,
    onState: (state, detail) => states.push([state, detail]),
    onProgress: (shown, start) => progress.push({ ...shown, start }),
    onAccepted: (...end) => accepted.push(end),
  });
}

const told = (state, more = {}) => ({ type: 'state', state, detail: '', delayMs: 0, vainStarts: 0, ...more });
const words = () => states.map(([state]) => state);

/** A tab that trains with one ML worker. */
function training() {
  const tab = volunteer();
  tab.join(2, 50);
  const bsp = workers[0];
  bsp.says({ type: 'module', module: 'module', memory: 'memory' });
  bsp.says({ type: 'spawn', mlModule: 0, address: 64 });
  bsp.says(told('training'));
  return { tab, bsp, ml: workers[1] };
}

test('no worker is created before the volunteer joins', () => {
  volunteer();
  assert.equal(workers.length, 0);
});

test('a BSP worker is told with what to start, and an ML worker where its module lies', () => {
  const { bsp, ml } = training();
  assert.deepEqual(bsp.posted, [
    { type: 'join', workers: 2, capacity: 4, cpuPercent: 50, isPaused: false, vainStarts: 0 },
  ]);
  assert.deepEqual(ml.posted, [{ module: 'module', memory: 'memory', address: 64 }]);
  assert.deepEqual(words(), ['connecting', 'training']);
});

test('an ML worker that raises an error is ended before its death is told', () => {
  const { bsp, ml } = training();
  ml.fails('unreachable');
  assert.ok(ml.isTerminated);
  assert.deepEqual(bsp.posted.at(-1), { type: 'died', mlModule: 0, message: 'unreachable' });
});

test('a BSP worker that raises an error ends the tab’s work with its words', () => {
  const { bsp, ml } = training();
  bsp.fails('out of memory');
  assert.ok(bsp.isTerminated && ml.isTerminated);
  assert.deepEqual(states.at(-1), ['failed', 'out of memory']);
});

test('there can be no module: the reason is shown', () => {
  const { bsp } = training();
  bsp.says({ type: 'failed', detail: 'this browser has no 900 MiB of memory to spare' });
  assert.deepEqual(states.at(-1), ['failed', 'this browser has no 900 MiB of memory to spare']);
});

test('a fresh start comes with new workers after the wait that was told', async () => {
  const { bsp, ml } = training();
  bsp.says(told('restarting', { detail: 'an ML module died', delayMs: 3_000, vainStarts: 2 }));
  assert.ok(bsp.isTerminated && ml.isTerminated);
  await clock.pass(2_900);
  assert.equal(workers.length, 2);
  await clock.pass(200);
  assert.equal(workers.length, 3);
  assert.equal(workers[2].posted[0].vainStarts, 2);
  bsp.says(told('training'));
  assert.deepEqual(words(), ['connecting', 'training', 'restarting', 'connecting']);
});

test('a volunteer that stops in the meantime is not started again', async () => {
  const { tab, bsp } = training();
  bsp.says(told('restarting', { delayMs: 3_000, vainStarts: 1 }));
  tab.leave();
  await clock.pass(60_000);
  assert.equal(workers.length, 2);
  assert.equal(words().at(-1), 'not-contributing');
});

test('a BSP worker that says nothing for ten seconds is replaced', async () => {
  const { bsp } = training();
  for (let second = 0; second < 30; second++) {
    await clock.pass(1_000);
    bsp.says({ type: 'alive' });
  }
  assert.equal(workers.length, 2);
  await clock.pass(10_000);
  assert.ok(bsp.isTerminated);
  assert.match(states.at(-1)[1], /said nothing for 10 seconds/);
  await clock.pass(2_000);
  assert.equal(workers.length, 3);
  assert.equal(workers[2].posted[0].vainStarts, 1);
});

test('silent workers are replaced less and less often', async () => {
  training();
  await clock.pass(120_000);
  const bspWorkers = workers.filter(({ name }) => name === 'bsp-worker');
  assert.ok(bspWorkers.length >= 4 && bspWorkers.length <= 6, `${bspWorkers.length} workers`);
  assert.deepEqual(bspWorkers.map(({ posted }) => posted[0].vainStarts), [...bspWorkers.keys()]);
});

test('a silent worker that had contributed is replaced as soon as a first one', async () => {
  /** Lets time pass until there are this many workers, a minute at the most. */
  const waitForWorkers = async (count) => {
    for (let second = 0; second < 60 && workers.length < count; second++) await clock.pass(1_000);
    assert.equal(workers.length, count);
  };
  training();
  await waitForWorkers(4);
  workers.at(-1).says({ type: 'progress', accepted: 10, mlModules: [] });
  await waitForWorkers(5);
  assert.deepEqual(workers.slice(2).map(({ posted }) => posted[0].vainStarts), [1, 2, 1]);
});

test('wishes are passed on and outlive a fresh start', async () => {
  const { tab, bsp } = training();
  tab.setWorkers(3);
  tab.setCpuPercent(25);
  tab.pause();
  assert.deepEqual(bsp.posted.slice(1), [
    { type: 'workers', workers: 3 },
    { type: 'cpuPercent', cpuPercent: 25 },
    { type: 'pause' },
  ]);
  bsp.says(told('restarting', { delayMs: 10 }));
  await clock.pass(20);
  const [join] = workers.at(-1).posted;
  assert.deepEqual([join.workers, join.cpuPercent, join.isPaused], [3, 25, true]);
});

test('a tab that leaves ends its workers when all is sent', () => {
  const { tab, bsp, ml } = training();
  tab.leave();
  assert.deepEqual(bsp.posted.at(-1), { type: 'leave' });
  bsp.says(told('reconnecting'));
  assert.ok(!bsp.isTerminated);
  bsp.says({ type: 'progress', samples: 512, accepted: 512, mlModules: [] });
  assert.equal(progress.at(-1).samples, 512, 'what was finished last is counted');
  bsp.says(told('left'));
  assert.ok(bsp.isTerminated && ml.isTerminated);
  assert.deepEqual(words(), ['connecting', 'training', 'not-contributing', 'not-contributing']);
});

test('what a crew that is leaving has finished is counted even where the next has begun', () => {
  const { tab, bsp } = training();
  tab.leave();
  tab.join(1, 100);
  workers.at(-1).says({ type: 'progress', samples: 16, accepted: 0, mlModules: [] });
  bsp.says({ type: 'progress', samples: 512, accepted: 512, mlModules: [] });
  assert.deepEqual(progress.map(({ start, samples }) => [start, samples]), [[2, 16], [1, 512]]);
});

test('a crew that has left says nothing of a tab that is joining again', () => {
  const { tab, bsp } = training();
  tab.leave();
  assert.match(states.at(-1)[1], /is being sent/);
  tab.join(1, 100);
  workers.at(-1).says(told('restarting', { delayMs: 3_000, vainStarts: 1 }));
  bsp.says(told('left'));
  assert.deepEqual(words().slice(2), ['not-contributing', 'connecting', 'restarting']);
});

test('what was accepted before an ML worker’s death is counted', () => {
  const { bsp } = training();
  bsp.says(told('restarting', { delayMs: 10, accepted: 640 }));
  assert.deepEqual(accepted, [[640, 1]]);
});

test('a tab that may end at any moment says so to its BSP worker, and goes on if it does not', async () => {
  const { tab, bsp, ml } = training();
  tab.closing();
  assert.equal(bsp.posted.at(-1).type, 'closing');
  await clock.pass(8_000);
  assert.ok(!bsp.isTerminated && !ml.isTerminated);
});

test('a tab that was away says for how long, and what became of the work that it had kept', () => {
  const { bsp } = training();
  const said = (more) => {
    bsp.says(told('training', { awaySeconds: 180, keptSamples: 0, acceptedSamples: 0, areSent: true, ...more }));
    return states.at(-1)[1];
  };
  assert.equal(said({}), 'Back after 3 min.');
  assert.equal(said({ awaySeconds: 65 }), 'Back after 1 min 5 s.');
  assert.equal(said({ awaySeconds: 7_500 }), 'Back after 2 h 5 min.');
  const beingSent = 'Back after 3 min: 4,096 samples were kept, and are being sent.';
  assert.equal(said({ keptSamples: 4096, areSent: false }), beingSent);
  const sent = 'Back after 3 min: 4,096 samples were kept and sent.';
  assert.equal(said({ keptSamples: 4096, acceptedSamples: 4096 }), sent);
  assert.equal(
    said({ keptSamples: 4096, acceptedSamples: 1024 }),
    'Back after 3 min: 4,096 samples were kept and sent; the server accepted 1,024 of them.',
  );
  assert.match(said({ keptSamples: 4096 }), /accepted none of them\.$/);
  assert.equal(said({ awaySeconds: 0 }), '');
});

test('a tab that leaves and hears nothing waits for six seconds', async () => {
  const { tab, bsp, ml } = training();
  tab.leave();
  await clock.pass(5_900);
  assert.ok(!bsp.isTerminated);
  await clock.pass(200);
  assert.ok(bsp.isTerminated && ml.isTerminated);
  await clock.pass(60_000);
  assert.deepEqual(words(), ['connecting', 'training', 'not-contributing', 'not-contributing']);
});
