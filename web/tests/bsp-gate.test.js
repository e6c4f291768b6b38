import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Gate } from '../bsp-gate.js';

const ALLOWED = ['bspworker_onTimeout'];

/** A module's exports, which note their calls. */
function exportsOf(called) {
  const note = (name) => (...values) => {
    called.push([name, ...values]);
    return 7;
  };
  return {
    memory: { buffer: 'the memory' },
    bspworker_onTimeout: note('bspworker_onTimeout'),
    bspworker_onMessage: note('bspworker_onMessage'),
    invoke_closure: note('invoke_closure'),
    __wbindgen_destroy_closure: note('__wbindgen_destroy_closure'),
    __wbindgen_malloc: note('__wbindgen_malloc'),
  };
}

test('while every ML module lives, everything enters the module', () => {
  const called = [];
  const guarded = new Gate(ALLOWED).guard(exportsOf(called));
  assert.equal(guarded.bspworker_onMessage(1, 2), 7);
  assert.equal(guarded.__wbindgen_malloc(3), 7);
  assert.equal(guarded.bspworker_onTimeout(4), 7);
  assert.deepEqual(called, [['bspworker_onMessage', 1, 2], ['__wbindgen_malloc', 3], ['bspworker_onTimeout', 4]]);
  assert.equal(guarded.memory.buffer, 'the memory');
});

test('after a death nothing enters that could take memory or give it back', () => {
  const called = [];
  const gate = new Gate(ALLOWED);
  const guarded = gate.guard(exportsOf(called));
  gate.close();
  guarded.bspworker_onMessage(1);
  guarded.__wbindgen_destroy_closure(2);
  // wasm-bindgen looks into what some of them return.
  assert.equal(guarded.invoke_closure(3)[1], undefined);
  assert.throws(() => guarded.__wbindgen_malloc(4), /malloc was called after/);
  assert.deepEqual(called, []);
  assert.equal(guarded.bspworker_onTimeout(5), 7);
  assert.deepEqual(called, [['bspworker_onTimeout', 5]]);
});

// (module (memory (export "memory") 1) (func (export "bspworker_onTimeout")) (func (export "other")))
const MODULE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 3, 2, 0, 0, 5, 3, 1, 0, 1, 7, 40, 3, 6, ...bytes('memory'), 2, 0,
  19, ...bytes('bspworker_onTimeout'), 0, 0, 5, ...bytes('other'), 0, 1, 10, 7, 2, 2, 0, 11, 2, 0, 11,
]);

function bytes(text) {
  return [...new TextEncoder().encode(text)];
}

test('what is instantiated is guarded, and nothing else is', async () => {
  const { instantiate } = WebAssembly;
  let made;
  // As wasm-bindgen's does.
  const init = async (module) => {
    made = await WebAssembly.instantiate(module, {});
  };
  const gate = new Gate(ALLOWED);
  await gate.instantiate(init, await WebAssembly.compile(MODULE));
  assert.ok(!(made instanceof WebAssembly.Instance));
  assert.deepEqual(Object.keys(made.instance.exports).sort(), ['bspworker_onTimeout', 'memory', 'other']);
  assert.equal(WebAssembly.instantiate, instantiate);
  gate.close();
  // The module's own functions return nothing; the gate's answer for them is 0.
  assert.deepEqual([made.instance.exports.other(), made.instance.exports.bspworker_onTimeout()], [0, undefined]);
});

test('a module without a function that has to enter after a death is noticed at once', async () => {
  const init = (module) => WebAssembly.instantiate(module, {});
  const gate = new Gate(['bspworker_renamed']);
  await assert.rejects(gate.instantiate(init, await WebAssembly.compile(MODULE)), /no function bspworker_renamed/);
});
