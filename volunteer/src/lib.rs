//! What a volunteer is made of, wherever it runs: a tab (`client-wasm`) and the native volunteer (`native`) are
//! drivers of the same parts, so that they do and compute the same.
//!
//! - [`volunteer_loop`]: the loop, as a state machine without I/O. [`settings`]: what it is told from
//!   the start. [`action`]: what it asks of its driver.
//! - [`joined`]: one start of it, from the run's description on.
//! - [`fetch`]: what is fetched, and when it is tried again.
//! - [`description`]: the run, as the server describes it to volunteers.
//! - [`membership`]: the parts of one volunteer, made of that description.
//! - [`next_shard`]: which shard is fetched next, and when.
//! - [`engine`]: the gradient of a step, computed by `nn` on the CPU.
//! - [`local_steps`]: how an ML module moves along its own gradients.
//! - [`sleep_clock`]: a clock that goes on while the machine sleeps.
//! - [`messages`], [`progress`]: what a tab's page and its BSP worker tell each other.

pub mod action;
pub mod description;
pub mod engine;
pub mod fetch;
mod joined;
pub mod local_steps;
pub mod membership;
pub mod messages;
mod next_shard;
pub mod progress;
pub mod settings;
pub mod sleep_clock;
pub mod volunteer_loop;
