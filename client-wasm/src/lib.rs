//! The browser's drivers. All workers of a tab run this one module in one shared `WebAssembly.Memory`.
//!
//! - [`bsp_worker`]: the driver around a volunteer's loop, with its [`socket`], its [`timer`]s, the [`shards`] that
//!   it fetches and the [`messages`] to its page. `web/bsp-worker.js` only does what a module can't do for itself: it
//!   reserves the memory, instantiates the module, and lets nothing but an end into it after an ML module's death.
//! - [`ml_worker`]: around an ML module (105). `web/ml-worker.js` only starts it.
//! - [`clock`]: the browser's clock.

#![cfg(target_arch = "wasm32")]

mod bsp_worker;
mod clock;
mod messages;
mod ml_worker;
mod shards;
mod socket;
mod timer;
