//! The virtual links between tabs and the server: WebSockets, each with a wire in either direction.

use std::time::Duration;

use bsp::time::Time;

/// One connection of a tab, from the moment at which it begins to open.
pub(crate) struct Connection {
    pub(crate) tab: usize,
    /// Whether each end still takes frames.
    pub(crate) is_open_at_central: bool,
    pub(crate) is_open_at_tab: bool,
    pub(crate) up: Wire,
    pub(crate) down: Wire,
}

/// One direction, which carries one frame after the other.
pub(crate) struct Wire {
    free: Time,
}

impl Connection {
    pub(crate) fn new(now: Time, tab: usize) -> Connection {
        Connection {
            tab,
            is_open_at_central: true,
            is_open_at_tab: true,
            up: Wire { free: now },
            down: Wire { free: now },
        }
    }
}

impl Wire {
    /// The time from which it is free.
    pub(crate) fn free(&self, now: Time) -> Time {
        self.free.max(now)
    }

    /// Sends `bytes` bytes now. Returns the time at which the last of them is on its way.
    pub(crate) fn send(&mut self, now: Time, bytes: u64, bytes_per_second: f64) -> Time {
        let takes = Duration::try_from_secs_f64(bytes as f64 / bytes_per_second).unwrap_or(Duration::MAX);
        self.free = self.free(now) + takes;
        self.free
    }
}

/// Bytes of a binary WebSocket message with `payload` bytes of payload (RFC 6455, section 5.2). A browser's messages
/// are masked.
pub(crate) fn websocket_bytes(payload: usize, is_masked: bool) -> u64 {
    let length = match payload {
        0..=125 => 0,
        126..=0xffff => 2,
        _ => 8,
    };
    (2 + length + if is_masked { 4 } else { 0 } + payload) as u64
}
