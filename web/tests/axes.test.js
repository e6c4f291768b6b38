// Ticks of the charts' axes.

import assert from 'node:assert/strict';
import test from 'node:test';

import { lossTick } from '../dom.js';

test('a loss that no axis has room for is written with an exponent', () => {
  assert.deepEqual([0, 0.25, 2.5, 90000, 2e14].map(lossTick), ['0', '0.25', '2.5', '90000', '2e+14']);
});
