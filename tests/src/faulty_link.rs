//! A link between volunteers and a server, or between a server and its store, that fails when a test says so.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use socket2::SockRef;

use crate::wait::wait_until;

mod frames;

use frames::Frames;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Up,
    /// From the server.
    Down,
}

/// How a connection ends, at both of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Both ends hear that nothing more comes (FIN), as when a proxy is stopped.
    Closed,
    /// Both ends hear that it is no more (RST), as when a machine on the way forgets it.
    Reset,
}

/// A TCP proxy. Without a fault it passes everything on. Its threads end with their connections; that which accepts
/// them ends with the test program.
pub struct FaultyLink {
    address: SocketAddr,
    to: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    faults: Mutex<Faults>,
    changed: Condvar,
}

#[derive(Default)]
struct Faults {
    is_up_stalled: bool,
    is_down_stalled: bool,
    /// The next connection that is in the middle of a long frame in this direction is cut there.
    cut_within: Option<(Direction, Cut)>,
    open: Vec<Arc<Connection>>,
}

/// A connection that is passed on.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// What its client has sent.
    sent: Mutex<Vec<u8>>,
    /// It was cut.
    is_over: AtomicBool,
}

impl FaultyLink {
    /// A link to the server at `to`.
    ///
    /// # Errors
    /// No free port.
    pub fn start(to: SocketAddr) -> Result<FaultyLink> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that can't be passed on is closed, which says so.
                let _ = accepting.pass_on(client, to);
            }
        });
        Ok(FaultyLink { address, to, shared })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients find the server through it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends all connections that there are. What was on its way in them is lost.
    pub fn cut_all(&self, cut: Cut) {
        for connection in self.shared.faults().open.drain(..) {
            connection.end(cut);
        }
        self.shared.changed.notify_all();
    }

    /// Waits until a long frame (a contribution, a model) is on its way in this direction, and cuts its connection in
    /// the middle of it: the first half arrives.
    ///
    /// # Errors
    /// No such frame comes.
    pub fn cut_within_a_frame(&self, direction: Direction, cut: Cut) -> Result<()> {
        self.shared.faults().cut_within = Some((direction, cut));
        wait_until("a frame to cut", || Ok(self.shared.faults().cut_within.is_none()))
    }

    /// From now on it takes bytes, and new connections, and passes nothing on in these directions: its clients and the
    /// server see links that are open and silent.
    pub fn stall(&self, directions: &[Direction]) {
        let mut faults = self.shared.faults();
        faults.is_up_stalled = directions.contains(&Direction::Up);
        faults.is_down_stalled = directions.contains(&Direction::Down);
        drop(faults);
        self.shared.changed.notify_all();
    }

    /// Passes on what has stalled, late as it is, and all that comes.
    pub fn go_on(&self) {
        self.stall(&[]);
    }

    /// Opens a second connection to the server for each WebSocket that there is, and sends there again what its client
    /// has sent until now, from its first byte on. Returns how many there were. The server must close them: nobody is
    /// behind them.
    ///
    /// # Errors
    /// A server that does not take them, or does not close them.
    pub fn replay_all(&self) -> Result<usize> {
        let open = self.shared.faults().open.clone();
        let sent: Vec<Vec<u8>> = open
            .iter()
            .map(|connection| lock(&connection.sent).clone())
            .filter(|sent| sent.starts_with(b"GET /ws "))
            .collect();
        for sent in &sent {
            let mut again = TcpStream::connect(self.to)?;
            let mut answers = again.try_clone()?;
            // It answers while it reads, and closes while the rest is on its way.
            let reader = thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
            let _ = again.write_all(sent);
            let _ = again.shutdown(Shutdown::Write);
            ensure!(reader.join().is_ok(), "the reader of answers has died");
        }
        Ok(sent.len())
    }
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    fn pass_on(self: &Arc<Shared>, client: TcpStream, to: SocketAddr) -> Result<()> {
        let server = TcpStream::connect(to)?;
        for stream in [&client, &server] {
            stream.set_nodelay(true)?;
        }
        let connection = Arc::new(Connection {
            client,
            server,
            sent: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        self.faults().open.push(Arc::clone(&connection));
        let shared = Arc::clone(self);
        thread::spawn(move || {
            thread::scope(|both| {
                both.spawn(|| shared.copy(&connection, Direction::Up));
                shared.copy(&connection, Direction::Down);
            });
            shared.faults().open.retain(|open| !Arc::ptr_eq(open, &connection));
        });
        Ok(())
    }

    /// Passes the bytes of one direction on, until one of the two ends.
    fn copy(&self, connection: &Connection, direction: Direction) {
        let (mut from, mut to) = match direction {
            Direction::Up => (&connection.client, &connection.server),
            Direction::Down => (&connection.server, &connection.client),
        };
        let mut frames = Frames::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let length = from.read(&mut buffer).unwrap_or(0);
            let bytes = &buffer[..length];
            self.wait_while_stalled(connection, direction);
            if connection.is_over() {
                return;
            }
            if length == 0 {
                break;
            }
            if direction == Direction::Up {
                lock(&connection.sent).extend_from_slice(bytes);
            }
            if let Some(middle) = frames.middle_of_a_long_one(bytes)
                && let Some(cut) = self.take_cut(direction)
            {
                let _ = to.write_all(&bytes[..middle]);
                return connection.end(cut);
            }
            if to.write_all(bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
        let _ = from.shutdown(Shutdown::Read);
    }

    fn wait_while_stalled(&self, connection: &Connection, direction: Direction) {
        let is_stalled = |faults: &mut Faults| match direction {
            Direction::Up => faults.is_up_stalled,
            Direction::Down => faults.is_down_stalled,
        };
        let waits = |faults: &mut Faults| is_stalled(faults) && !connection.is_over();
        let waited = self.changed.wait_while(self.faults(), waits);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    fn take_cut(&self, direction: Direction) -> Option<Cut> {
        let mut faults = self.faults();
        let (_, cut) = faults.cut_within.take_if(|(wanted, _)| *wanted == direction)?;
        Some(cut)
    }
}

impl Connection {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Its threads then end, and with the last of them its sockets.
    fn end(&self, cut: Cut) {
        self.is_over.store(true, Ordering::Relaxed);
        for stream in [&self.client, &self.server] {
            let _ = match cut {
                Cut::Closed => stream.shutdown(Shutdown::Both),
                Cut::Reset => {
                    // A socket that does not linger is reset when it is dropped.
                    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                    stream.shutdown(Shutdown::Read)
                }
            };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
