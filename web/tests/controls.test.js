import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { installDom } from './dom.js';
import { Controls, isAtWork } from '../controls.js';

let find;
let heard = [];

beforeEach(() => {
  find = installDom();
  heard = [];
});

function controls(options = {}) {
  const hear = (name) => (value) => heard.push([name, value].filter((part) => part !== undefined));
  return new Controls({
    cores: 8,
    chosen: 7,
    cpuPercent: 100,
    onStart: hear('start'),
    onPauseOrResume: () => heard.push(['pause']),
    onStop: hear('stop'),
    onCores: hear('cores'),
    onCpuPercent: hear('cpuPercent'),
    ...options,
  });
}

test('nothing runs before the button is pressed, and the slider leaves a core', () => {
  controls().show('not-contributing', '', false);
  assert.deepEqual(heard, []);
  assert.equal(find('cores-value').textContent, '7 of 8');
  assert.deepEqual([find('start').hidden, find('pause').hidden, find('stop').hidden], [false, true, true]);
  find('start').fire('click');
  assert.deepEqual(heard, [['start']]);
});

test('each state has a word, and the buttons that fit it', () => {
  const shown = controls();
  for (const state of ['connecting', 'training', 'paused', 'reconnecting', 'back-soon', 'waiting', 'restarting']) {
    shown.show(state, '', state === 'paused');
    assert.ok(isAtWork(state));
    assert.ok(find('state').textContent.length > 3, state);
    assert.equal(document.body.dataset.state, state);
    assert.deepEqual([find('start').hidden, find('stop').hidden], [true, false], state);
    assert.equal(find('pause').textContent, state === 'paused' ? 'Resume' : 'Pause');
  }
  for (const state of ['not-contributing', 'refused', 'failed', 'finished', 'left', 'unsupported']) {
    shown.show(state, '', false);
    assert.ok(!isAtWork(state));
    assert.deepEqual([find('start').hidden, find('stop').hidden], [false, true], state);
  }
});

test('what a reporter says of a state is shown in place of the usual sentence', () => {
  const shown = controls();
  shown.show('restarting', 'session 7 is over; join again', false);
  assert.equal(find('state-detail').textContent, 'session 7 is over; join again');
  shown.show('refused', 'the server is full', false);
  assert.equal(find('state').textContent, 'Refused: the server is full');
});

test('a tab that lost its link is not said to compute while the visitor has paused', () => {
  const shown = controls();
  shown.show('reconnecting', '', false);
  assert.match(find('state-detail').textContent, /compute on/);
  shown.show('reconnecting', '', true);
  assert.match(find('state-detail').textContent, /Your cores rest/);
});

test('a finished run and a browser that can’t contribute have nothing to press', () => {
  const shown = controls();
  for (const state of ['unsupported', 'finished']) {
    shown.show(state, '', false);
    assert.ok(['start', 'cores', 'cpu-percent'].every((id) => find(id).disabled));
  }
  shown.show('not-contributing', '', false);
  assert.equal(find('start').disabled, false);
});

test('the slider is passed on when it is let go, not on its way', () => {
  controls();
  find('cores').value = '3';
  find('cores').fire('input');
  assert.deepEqual(heard, []);
  assert.equal(find('cores-value').textContent, '3 of 8');
  find('cores').fire('change');
  assert.deepEqual(heard, [['cores', 3]]);
});

test('a share of a core that only a link asks for has its place among the others', () => {
  const shown = controls({ cpuPercent: 30 });
  assert.deepEqual(find('cpu-percent').options.map(({ value }) => value), ['100', '75', '50', '30', '25', '10']);
  assert.equal(shown.cpuPercent, 30);
});

test('a server that is away: the page says whether the cores compute on, and what becomes of their work', () => {
  const shown = controls();
  const said = (state, isPauseWanted = false) => {
    shown.show(state, '', isPauseWanted);
    return find('state-detail').textContent;
  };
  assert.match(said('reconnecting'), /^The server is away: your cores compute on\. What they finish is kept/);
  assert.match(said('back-soon'), /^The server said that it will be back: your cores compute on\./);
  assert.match(said('waiting'), /^The server is away, and the memory for finished work is full\. Your cores rest/);
  for (const state of ['reconnecting', 'back-soon']) assert.match(said(state, true), /Your cores rest; press Resume/);
});
