//! The virtual links between tabs and the server: WebSockets, each with a wire in either direction.

use std::time::Duration;

use bsp::central::ConnectionId;
use bsp::time::Time;
use bytes::Bytes;

/// All connections that were ever opened, and the bytes that they have carried.
#[derive(Default)]
pub(crate) struct Network {
    /// Connections are numbered from 1 in their order.
    connections: Vec<Connection>,
    /// Bytes from the tabs to the server.
    pub(crate) bytes_up: u64,
    /// Bytes from the server to the tabs.
    pub(crate) bytes_down: u64,
}

impl Network {
    /// A new connection of a tab.
    pub(crate) fn open(&mut self, now: Time, tab: usize) -> ConnectionId {
        self.connections.push(Connection::new(now, tab));
        ConnectionId(self.connections.len() as u64)
    }

    /// A connection; `None` for a number that no tab's connection has.
    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        self.connections.get(index(id)?)
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(index(id)?)
    }

    /// The server's ends of all connections are gone. Returns those whose tabs will hear of it, with their tabs.
    pub(crate) fn close_all_at_central(&mut self) -> Vec<(ConnectionId, usize)> {
        let mut closed = Vec::new();
        for (connection, number) in self.connections.iter_mut().zip(1..) {
            if connection.is_open_at_central && connection.is_open_at_tab {
                closed.push((ConnectionId(number), connection.tab));
            }
            connection.is_open_at_central = false;
        }
        closed
    }

    /// Sends a frame of this length from a tab now. Returns the time at which all of it is on its way.
    pub(crate) fn send_up(
        &mut self,
        now: Time,
        id: ConnectionId,
        frame_bytes: usize,
        bytes_per_second: f64,
    ) -> Option<Time> {
        let bytes = websocket_bytes(frame_bytes, true);
        let sent = self.get_mut(id)?.up.send(now, bytes, bytes_per_second);
        self.bytes_up += bytes;
        Some(sent)
    }

    /// Sends a frame of this length to a tab now. Returns the time at which all of it is on its way, if the server's
    /// end is open.
    pub(crate) fn send_down(
        &mut self,
        now: Time,
        id: ConnectionId,
        frame_bytes: usize,
        bytes_per_second: f64,
    ) -> Option<Time> {
        let bytes = websocket_bytes(frame_bytes, false);
        let connection = self.get_mut(id).filter(|connection| connection.is_open_at_central)?;
        let sent = connection.down.send(now, bytes, bytes_per_second);
        self.bytes_down += bytes;
        Some(sent)
    }
}

fn index(id: ConnectionId) -> Option<usize> {
    usize::try_from(id.0).ok()?.checked_sub(1)
}

/// One connection of a tab, from the moment at which it begins to open.
pub(crate) struct Connection {
    pub(crate) tab: usize,
    /// Whether each end still takes frames.
    pub(crate) is_open_at_central: bool,
    pub(crate) is_open_at_tab: bool,
    pub(crate) up: Wire,
    pub(crate) down: Wire,
    /// All frames that its tab has sent, if they are recorded.
    pub(crate) sent_up: Vec<Bytes>,
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
            sent_up: Vec::new(),
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
fn websocket_bytes(payload: usize, is_masked: bool) -> u64 {
    let length = match payload {
        0..=125 => 0,
        126..=0xffff => 2,
        _ => 8,
    };
    (2 + length + if is_masked { 4 } else { 0 } + payload) as u64
}
