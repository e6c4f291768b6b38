//! The data: what a sample is, how samples travel, and which of them a step takes.
//!
//! - [`sample_format`]: what a sample's numbers mean, the same for a whole run.
//! - [`shard`]: an immutable block of samples, as it travels from the server to a tab.
//! - [`draw`]: which samples a step draws.
//! - [`samples`]: the shards that a tab has, from which its ML modules draw.
//! - [`minibatch`]: samples put together, for a gradient or an evaluation.

pub mod draw;
pub mod minibatch;
pub mod sample_format;
pub mod samples;
pub mod shard;
