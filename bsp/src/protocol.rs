//! What travels between the central and the local BSP modules; `docs/protocol.md` describes it byte by byte.
//!
//! - [`message`]: the messages, and how they lie in a frame.
//! - [`codec`]: how the values of a payload are encoded.

pub mod codec;
pub mod message;
