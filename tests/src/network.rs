//! The network between a tab and its server, which can be gone for a while: what was on its way waits, and nothing new
//! gets through.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::Result;

/// Passes everything on, both ways, while it is there. A connection's threads end with it; that which accepts them ends
/// with the test program.
pub struct Network {
    address: SocketAddr,
    gate: Arc<Gate>,
}

/// Whether the network is there.
#[derive(Default)]
struct Gate {
    is_gone: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn is_gone(&self) -> bool {
        *self.is_gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_there(&self) {
        let is_gone = self.is_gone.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(is_gone, |is_gone| *is_gone));
    }
}

impl Network {
    /// A network through which the server at `to` is reached.
    ///
    /// # Errors
    /// No free port.
    pub fn start(to: SocketAddr) -> Result<Network> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, gate) = (listener.local_addr()?, Arc::<Gate>::default());
        let theirs = Arc::clone(&gate);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Without a network nothing is reached. A connection that can't be passed on is closed, which says so.
                if !theirs.is_gone() {
                    let _ = pass_on(client, to, &theirs);
                }
            }
        });
        Ok(Network { address, gate })
    }

    /// Where clients find the server through it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The network goes, or comes back.
    pub fn set_gone(&self, is_gone: bool) {
        *self.gate.is_gone.lock().unwrap_or_else(PoisonError::into_inner) = is_gone;
        self.gate.changed.notify_all();
    }
}

fn pass_on(client: TcpStream, to: SocketAddr, gate: &Arc<Gate>) -> Result<()> {
    let server = TcpStream::connect(to)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let ways = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (from, to) in ways {
        let gate = Arc::clone(gate);
        thread::spawn(move || copy(from, to, &gate));
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        gate.wait_until_there();
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    gate.wait_until_there();
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
