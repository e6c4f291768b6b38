import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { installDom } from './dom.js';
import { MyNumbers, showRun, showStatus } from '../numbers.js';

let find;

beforeEach(() => {
  find = installDom();
});

const RUN = {
  run: '00ff',
  name: 'digits',
  description: 'Handwritten digits.',
  mode: 'decoupled',
  parameters: 12_345,
  minibatch: 32,
  superstep_samples: 256,
  model: { loss: 'softmax_cross_entropy' },
  dataset: { kind: 'bytes', samples: 1_500, test_samples: 297, shape: [1, 8, 8] },
};

const STATUS = {
  state: 'training',
  mode: 'decoupled',
  version: 7,
  samples: 2_000,
  samples_per_second: 123.4,
  loss: 0.51234,
  eval: { version: 6, accuracy: 0.9, loss: 0.6 },
  volunteers: 2,
  ml_modules: 3,
  target_accuracy: 0.95,
  target_loss: null,
  period_seconds: 0.25,
  grace_seconds: 0.0625,
  local_steps: false,
  contribution_codec: 'f32',
  model_codec: 'int8',
  bytes_up: 1_000_000,
  bytes_down: 1_000_000,
};

const time = { gradient: 0.5, add: 0.25, read: 0.125, wait: 0.125 };
const progress = (session, samples, steps = [1]) => ({
  session,
  samples,
  accepted: 0,
  samplesPerSecond: 10,
  version: 1,
  mlModules: steps.map((count) => ({ samples, steps: count, time })),
});

const value = (id) => find(id).dataset.value;

test('the run is described in words', () => {
  showRun(RUN, STATUS);
  const facts = find('run-facts').text;
  for (const words of ['1,500', '1 × 8 × 8', '12,345', '32 samples', 'nobody waits', 'int8, a quarter of f32']) {
    assert.ok(facts.includes(words), `${words} is not in: ${facts}`);
  }
  assert.equal(find('accuracy-card').hidden, false);
  assert.equal(find('local-steps').hidden, true);
});

test('numbers without right answers have no accuracy to show', () => {
  showRun({ ...RUN, model: { loss: 'mean_squared_error' } }, STATUS);
  assert.equal(find('accuracy-card').hidden, true);
});

test('the status is shown with units, and as it came for scripts', () => {
  showStatus(STATUS);
  assert.equal(find('period').textContent, '250 ms');
  assert.equal(find('bytes-per-sample').textContent, '1.0 kB');
  assert.equal(find('loss').textContent, '0.5123');
  assert.equal(find('accuracy').textContent, '90.0 %');
  assert.equal(value('samples'), '2000');
  assert.equal(find('target-text').textContent, 'Target 95.0 %: 94.7 % of the way');
});

test('what is not known is a dash, not a zero', () => {
  showStatus({ ...STATUS, samples: 0, loss: null, eval: null });
  for (const id of ['loss', 'accuracy', 'bytes-per-sample']) {
    assert.equal(find(id).textContent, '–', id);
    assert.equal(value(id), '', id);
  }
});

test('a target that is reached is said to be', () => {
  showStatus({ ...STATUS, eval: { version: 6, accuracy: 0.96, loss: 0.1 }, target_loss: 0.2 });
  assert.match(find('target-text').textContent, /is reached/);
  assert.match(find('target-loss-text').textContent, /is reached/);
});

test('a run in which cores wait for models has no period to show', () => {
  showStatus({ ...STATUS, mode: 'lockstep' });
  assert.deepEqual(['period-figure', 'grace-figure', 'my-link'].map((id) => find(id).hidden), [true, true, true]);
});

test('a tab’s samples add up over the starts of its workers, also where one is leaving and the next has begun', () => {
  const mine = new MyNumbers();
  mine.show({ ...progress('1', 100), accepted: 90 }, 1);
  mine.show({ ...progress('1', 150), accepted: 120 }, 1);
  // The same session number: another run at this address.
  mine.show({ ...progress('1', 20), accepted: 10 }, 2);
  mine.show({ ...progress('1', 160, [1, 1]), accepted: 160 }, 1);
  assert.equal(value('my-samples'), '180');
  assert.equal(value('my-accepted'), '170');
  assert.equal(value('my-modules'), '1', 'those of the present start');
  mine.showAccepted(20, 2);
  assert.equal(value('my-accepted'), '180');
});

test('only ML modules that were started are listed, with shares of their time', () => {
  new MyNumbers().show(progress('1', 100, [5, 0, 0]), 1);
  assert.equal(value('my-modules'), '1');
  assert.equal(find('modules').children.length, 1);
  assert.equal(find('modules').text, '1 100 50.0 25.0 12.5 12.5');
});

test('a tab that has stopped keeps what it has done', () => {
  const mine = new MyNumbers();
  mine.showNobodyAtWork();
  assert.equal(value('my-samples'), undefined, 'it never began');
  mine.show(progress('1', 100), 1);
  mine.showReport({ period_seconds: 0.5, link_share: 1.7 });
  assert.equal(find('my-link-share').textContent, '100.0 %');
  mine.showNobodyAtWork();
  assert.equal(value('my-samples'), '100');
  assert.deepEqual([value('my-rate'), value('my-modules'), value('my-period')], ['0', '0', '']);
});
