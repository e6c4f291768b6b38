//! What a volunteer is made of, wherever it runs: a tab (`client-wasm`) and the native volunteer (`server`) are drivers
//! of the same parts, so that they compute the same.
//!
//! - [`description`]: the run, as the server describes it to volunteers.
//! - [`membership`]: the parts of one volunteer, made of that description.
//! - [`fetching`]: which shard is fetched next, and when.
//! - [`engine`]: the gradient of a step, computed by `nn` on the CPU.
//! - [`local_steps`]: how an ML module moves along its own gradients.

pub mod description;
pub mod engine;
pub mod fetching;
pub mod local_steps;
pub mod membership;
