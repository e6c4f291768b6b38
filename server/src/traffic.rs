//! What travels over the volunteers' WebSockets, in bytes.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of all frames so far. A socket counts a frame when it hands it to the network or takes it from there: a frame
/// that waits for a slow link, or was meant for a link that is gone, has not travelled. Training data travels over
/// HTTP and is not counted.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    up: AtomicU64,
    down: AtomicU64,
}

impl Traffic {
    /// A frame came from a volunteer.
    pub(crate) fn on_received(&self, bytes: usize) {
        // Relaxed: each counter stands for itself.
        self.up.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A frame went to a volunteer.
    pub(crate) fn on_sent(&self, bytes: usize) {
        self.down.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes that came from volunteers.
    pub(crate) fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes that went to volunteers.
    pub(crate) fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }
}
