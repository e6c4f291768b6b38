// Runs in the BSP worker: the one way into its wasm module, which can be closed.

/**
 * Every call into the module passes here: those of this worker's script, and the module's own callbacks from its
 * socket, its timers and its fetches. An ML module that has died may hold the allocator's lock, which spins. So after a
 * death the gate lets in only calls that take no memory and give none back. The others do nothing.
 */
export class Gate {
  #isClosed = false;
  #allowed;

  /** @param {readonly string[]} allowed the module's functions that may be called after a death */
  constructor(allowed) {
    this.#allowed = new Set(allowed);
  }

  /** An ML module has died. */
  close() {
    this.#isClosed = true;
  }

  /**
   * The module's exports, to be used in their place.
   * @param {Record<string, unknown>} exports
   */
  guard(exports) {
    const guarded = Object.entries(exports).map(([name, value]) => {
      if (typeof value !== 'function' || this.#allowed.has(name)) return [name, value];
      const call = /** @type {(...values: unknown[]) => unknown} */ (value);
      // A caller that asks for memory can't go on without it. After a death there is no such call, or this finds it.
      const isAllocating = /malloc|realloc/.test(name);
      const pass = (/** @type {unknown[]} */ ...values) => {
        if (!this.#isClosed) return call(...values);
        if (isAllocating) throw new Error(`${name} was called after an ML module had died`);
        // Nothing, wherever wasm-bindgen looks into what came back.
        return 0;
      };
      return [name, pass];
    });
    return Object.fromEntries(guarded);
  }

  /**
   * Instantiates a module so that what `init` makes of it calls the guarded exports.
   * @param {(module: WebAssembly.Module) => Promise<unknown>} init wasm-bindgen's
   * @param {WebAssembly.Module} module
   */
  async instantiate(init, module) {
    const { instantiate } = WebAssembly;
    // `init` keeps what this gives it, and has no other way to be given something else.
    Object.assign(WebAssembly, {
      instantiate: async (/** @type {WebAssembly.Module} */ compiled, /** @type {WebAssembly.Imports} */ imports) => {
        const { exports } = await instantiate(compiled, imports);
        for (const name of this.#allowed) {
          if (!(name in exports)) throw new Error(`the module has no function ${name}`);
        }
        return { module: compiled, instance: { exports: this.guard(exports) } };
      },
    });
    try {
      await init(module);
    } finally {
      Object.assign(WebAssembly, { instantiate });
    }
  }
}
