//! What a run leaves on disk so that it can go on.
//!
//! - [`checkpoint`]: a checkpoint as bytes.

pub mod checkpoint;
