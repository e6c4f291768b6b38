//! The wire between a tab and a server, recorded: what volunteers say, in order.

use std::io::{Cursor, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use bsp::protocol::message::FromVolunteer;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

/// What one client sent on one connection.
type Record = Arc<Mutex<Vec<u8>>>;

/// Passes everything on, both ways, and keeps what clients send. A connection's threads end with it; that which accepts
/// them ends with the test program.
pub struct Relay {
    address: SocketAddr,
    records: Arc<Mutex<Vec<Record>>>,
}

impl Relay {
    /// A relay to the server at `to`.
    ///
    /// # Errors
    /// No free port.
    pub fn start(to: SocketAddr) -> Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let records = Arc::new(Mutex::new(Vec::new()));
        let thread_records = Arc::clone(&records);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let record = Record::default();
                thread_records
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(Arc::clone(&record));
                // A connection that can't be passed on is closed, which says so.
                let _ = pass_on(client, to, record);
            }
        });
        Ok(Relay { address, records })
    }

    /// Where clients find the server through it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All messages that volunteers have sent through it, on the first socket.
    ///
    /// # Errors
    /// No socket, or a message that can't be read.
    pub fn messages(&self) -> Result<Vec<FromVolunteer>> {
        const BLANK_LINE: &[u8] = b"\r\n\r\n";
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sent = records
            .iter()
            .map(|record| record.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let sent = sent
            .into_iter()
            .find(|sent| sent.starts_with(b"GET /ws "))
            .context("no socket was opened")?;
        let head = sent.windows(BLANK_LINE.len()).position(|bytes| bytes == BLANK_LINE);
        let frames = sent[head.context("half a request")? + BLANK_LINE.len()..].to_vec();
        let config = WebSocketConfig::default();
        let mut socket = WebSocket::from_raw_socket(Cursor::new(frames), Role::Server, Some(config));
        let mut messages = Vec::new();
        // It ends with the record, perhaps in the middle of a frame.
        while let Ok(message) = socket.read() {
            if let Message::Binary(frame) = message {
                messages.push(FromVolunteer::decode(&frame)?.message);
            }
        }
        Ok(messages)
    }
}

fn pass_on(client: TcpStream, to: SocketAddr, record: Record) -> Result<()> {
    let server = TcpStream::connect(to)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let (client_too, server_too) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        copy(client, server, |bytes| {
            record
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(bytes)
        });
    });
    thread::spawn(move || copy(server_too, client_too, |_| {}));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        keep(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
