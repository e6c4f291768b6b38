// Runs on the page: what this browser, or the way in which the page was opened, lacks for contributing, in words.

/**
 * @typedef {object} Missing
 * @property {string} what what is missing, as a sentence
 * @property {string} hint what the reader can do about it
 */

/** The smallest module with a vector instruction (i8x16.splat, i8x16.popcnt): valid only where wasm has SIMD. */
const SIMD_PROBE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

const NEWER_BROWSER =
  'Update this browser, or use a current Chrome, Edge or Firefox, or Safari 16.4 or newer.';

/**
 * Everything that stands in the way, the cause before its consequences; empty if nothing does.
 * @returns {Missing[]}
 */
export function findMissing() {
  /** @type {Missing[]} */
  const missing = [];
  if (!window.isSecureContext) {
    missing.push(insecureAddress());
  } else if (!window.crossOriginIsolated) {
    missing.push(notIsolated());
  } else if (!hasSharedMemory()) {
    missing.push({
      what:
        'This browser has no shared memory for WebAssembly (SharedArrayBuffer), in which the cores add up their work.',
      hint: NEWER_BROWSER,
    });
  }
  if (!hasModuleWorkers()) {
    missing.push({ what: 'This browser cannot run modules in background workers.', hint: NEWER_BROWSER });
  }
  if (!hasSimd()) {
    missing.push({ what: 'This browser has no vector instructions in WebAssembly (SIMD).', hint: NEWER_BROWSER });
  }
  return missing;
}

/** Browsers share memory only in a secure context, and plain http on a LAN address is none. @returns {Missing} */
function insecureAddress() {
  const port = location.port === '' ? '' : `:${location.port}`;
  return {
    what:
      `The address ${location.origin} is not secure: ` +
      'browsers let a page share memory between cores only over https, or on localhost.',
    hint:
      'Open the page with https:// if the server offers it. ' +
      `On the server's own machine, open http://localhost${port}/ instead. ` +
      'Otherwise ask the operator to put TLS in front of the server: a reverse proxy with a certificate does it.',
  };
}

/** @returns {Missing} */
function notIsolated() {
  if (window.top !== window) {
    return {
      what: 'The page is shown inside another page, which keeps it from sharing memory between cores.',
      hint: `Open ${location.origin}/ in a tab of its own.`,
    };
  }
  if (!('crossOriginIsolated' in window)) {
    return { what: 'This browser is too old to share memory between cores safely.', hint: NEWER_BROWSER };
  }
  return {
    what: 'The page is not cross-origin isolated, so the browser withholds shared memory (SharedArrayBuffer).',
    hint:
      'Reload the page once. If this stays, something between you and the server drops the headers ' +
      'Cross-Origin-Opener-Policy and Cross-Origin-Embedder-Policy: ' +
      'tell the operator, or try without extensions and proxies, or another browser.',
  };
}

function hasSharedMemory() {
  try {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    return typeof SharedArrayBuffer === 'function' && memory.buffer instanceof SharedArrayBuffer;
  } catch {
    return false;
  }
}

function hasSimd() {
  return typeof WebAssembly === 'object' && WebAssembly.validate(SIMD_PROBE);
}

/** A browser that knows module workers asks for the type; throwing then keeps it from starting one. */
function hasModuleWorkers() {
  let isTypeRead = false;
  const options = {
    /** @returns {WorkerType} */
    get type() {
      isTypeRead = true;
      throw new Error('this was only a question');
    },
  };
  try {
    new Worker('data:text/javascript,', options).terminate();
  } catch {
    // Expected where module workers exist.
  }
  return isTypeRead;
}
