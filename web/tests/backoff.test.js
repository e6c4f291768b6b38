import assert from 'node:assert/strict';
import { test } from 'node:test';

import { waitMs } from '../backoff.js';

const BOUNDS = { firstMs: 500, longestMs: 30_000 };

test('waits double up to a bound and never repeat exactly', () => {
  for (let failures = 1; failures <= 2_000; failures++) {
    const longest = Math.min(500 * 2 ** (failures - 1), 30_000);
    const wait = waitMs(failures, BOUNDS);
    assert.ok(wait >= longest / 2 && wait <= longest, `${wait} ms after ${failures} failures`);
  }
  assert.notEqual(waitMs(100, BOUNDS), waitMs(100, BOUNDS));
});
