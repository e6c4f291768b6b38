//! The bulk-synchronous-parallel system of Superstep, without I/O.
//!
//! Everything that decides is here, as state machines: time and messages come in as arguments, actions come out. The
//! drivers (`server`, `client-wasm`, the native volunteer, `simulator`) receive, do the actions, and sleep until the
//! next time-out. Numerals in parentheses are those of the patent application US 2019/0244135 A1.
//!
//! - [`central`]: the central BSP control module (102): sessions, supersteps, the model.
//! - [`backoff`]: the waits before something that has failed is tried again.
//! - [`combine`]: how contributions become one gradient.
//! - [`estimators`]: filters over what was measured.
//! - [`local`]: the local BSP module (103) of a tab or a native volunteer: read-outs and publishing.
//! - [`shared_memory`]: the shared memory module (104), between a local BSP module and one ML module.
//! - [`ml_module`]: the loop of an ML module (105); its mathematics comes in as an [`ml_module::Engine`].
//! - [`protocol`]: what travels between 102 and 103, and how it is encoded.
//! - [`time`]: time as a number.

#![cfg_attr(target_arch = "wasm32", feature(stdarch_wasm_atomic_wait))]

pub mod backoff;
pub mod central;
pub mod combine;
pub(crate) mod estimators;
pub mod local;
pub mod ml_module;
pub mod protocol;
pub mod shared_memory;
pub mod time;
