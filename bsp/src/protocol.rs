//! The messages between the central and the local BSP modules; `docs/protocol.md` describes them byte by byte.
//!
//! - [`message`]: the messages.
//! - [`frame`]: how a message lies in a frame.
//! - [`codec`]: how the values of a payload are encoded.

pub mod codec;
pub mod frame;
pub mod message;
