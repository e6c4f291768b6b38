//! The browser's drivers. All workers of a tab run this one module in one shared `WebAssembly.Memory`.
//!
//! - [`bsp_worker`]: around the local BSP module (103). `web/bsp-worker.js` has its sockets, timers and fetches, because
//!   the browser hands those out in JavaScript; it decides nothing either.
//! - [`ml_worker`]: around an ML module (105). `web/ml-worker.js` only starts it.
//! - [`clock`]: the browser's clock.

#![cfg(target_arch = "wasm32")]

mod bsp_worker;
mod clock;
mod ml_worker;
