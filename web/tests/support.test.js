import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { findMissing } from '../support.js';

/** A browser that has everything; a test takes something away. */
function install(changes = {}) {
  const window = { isSecureContext: true, crossOriginIsolated: true, ...changes };
  window.top = changes.top ?? window;
  const location = { origin: 'http://lan.test:8000', port: '8000' };
  class Worker {
    constructor(url, { type } = {}) {
      Object.assign(this, { url, type });
    }
    terminate() {}
  }
  Object.assign(globalThis, { window, location, Worker });
}

beforeEach(() => install());

const said = () => findMissing().map(({ what, hint }) => `${what} ${hint}`);

test('nothing stands in the way in a current browser', () => {
  assert.deepEqual(said(), []);
});

test('over plain http on a network the reason is the address, and localhost and https are named', () => {
  install({ isSecureContext: false, crossOriginIsolated: false });
  const [only, ...more] = said();
  assert.deepEqual(more, []);
  for (const words of ['http://lan.test:8000 is not secure', 'https://', 'http://localhost:8000/']) {
    assert.ok(only.includes(words), only);
  }
});

test('a page inside another one is told to open in a tab of its own', () => {
  install({ crossOriginIsolated: false, top: {} });
  assert.match(said()[0], /inside another page.*in a tab of its own/);
});

test('a page that lost its headers on the way says which', () => {
  install({ crossOriginIsolated: false });
  assert.match(said()[0], /Cross-Origin-Opener-Policy/);
});

test('a browser without module workers is told so', () => {
  globalThis.Worker = class {
    terminate() {}
  };
  assert.match(said()[0], /modules in background workers/);
});

test('a browser without vector instructions is told so', (context) => {
  context.mock.method(WebAssembly, 'validate', () => false);
  assert.match(said()[0], /SIMD/);
});
