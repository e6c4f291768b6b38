//! A peer on a bare WebSocket. It speaks the protocol where a test wants it to, and anything else where not.

use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, bail, ensure};
use bsp::protocol::codec::Codec;
use bsp::protocol::frame::{ContributionFrame, Received, max_frame_bytes};
use bsp::protocol::message::{
    Contribution, FromCentral, FromVolunteer, Hello, PROTOCOL, Report, RunId, SessionId, Welcome,
};
use bsp::shared_memory::ModelStamp;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::server::{Server, whole};
use crate::wait::PATIENCE;

/// An open socket.
pub struct Peer {
    socket: WebSocket<TcpStream>,
    /// What the run's description says of it.
    run: Described,
}

#[derive(Clone, Copy)]
struct Described {
    run: RunId,
    spec_hash: u64,
    parameters: usize,
}

/// A peer that was welcomed and has a model.
pub struct Member {
    /// Its socket.
    pub peer: Peer,
    /// What it was told.
    pub welcome: Welcome,
    /// The model that it was sent.
    pub stamp: ModelStamp,
}

impl Peer {
    /// Opens a socket to the server.
    ///
    /// # Errors
    /// A server that does not accept it.
    pub fn connect(server: &Server) -> Result<Peer> {
        let description = server.ask("run")?;
        let hexadecimal = |key: &str| -> Result<u64> {
            let digits = description[key]
                .as_str()
                .with_context(|| format!("{key} is not in {description}"))?;
            Ok(u64::from_str_radix(digits, 16)?)
        };
        let parameters = usize::try_from(whole(&description, "parameters")?)?;
        let run = Described {
            run: RunId(hexadecimal("run")?),
            spec_hash: hexadecimal("spec_hash")?,
            parameters,
        };
        let stream = TcpStream::connect(server.address())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // It may send what the server does not take, but takes all that the server sends.
        let limit = 4 * max_frame_bytes(parameters);
        let config = WebSocketConfig::default()
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        let url = format!("ws://{}/ws", server.address());
        let (socket, response) =
            client::client_with_config(url, stream, Some(config)).map_err(|error| anyhow::anyhow!("{error}"))?;
        for (name, value) in crate::server::ISOLATION {
            ensure!(
                response.headers().get(name).is_some_and(|is| is == value),
                "the socket's answer has no {name}"
            );
        }
        Ok(Peer { socket, run })
    }

    /// Its own address, by which the server's log calls it.
    ///
    /// # Errors
    /// A socket that is gone.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.socket.get_ref().local_addr()?)
    }

    /// The length of this run's longest frame.
    pub fn max_frame_bytes(&self) -> usize {
        max_frame_bytes(self.run.parameters)
    }

    /// How many values a gradient has.
    pub fn parameters(&self) -> usize {
        self.run.parameters
    }

    /// An honest hello.
    pub fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            run: self.run.run,
            spec_hash: self.run.spec_hash,
            incarnation: None,
            session: None,
            durable: 0,
            codecs: Codec::ALL.to_vec(),
            report: Report {
                ml_modules: 1,
                ..Report::default()
            },
        }
    }

    /// An honest read-out's header: the first of the session `session`, computed on the model `stamp`.
    pub fn read_out(&self, session: SessionId, stamp: ModelStamp) -> Contribution {
        const SAMPLES: u64 = 16;
        Contribution {
            run: self.run.run,
            spec_hash: self.run.spec_hash,
            incarnation: stamp.incarnation,
            session,
            sequence: 1,
            samples: SAMPLES,
            gradients: 1,
            loss_sum: 1.0,
            version_sum: u128::from(SAMPLES * stamp.version),
            step_sum: 0,
            codec: Codec::F32,
            step_runs: Vec::new(),
            step_runs_not_listed: 0,
            report: self.hello().report,
        }
    }

    /// Sends this message of the protocol.
    ///
    /// # Errors
    /// A socket that is closed.
    pub fn say(&mut self, message: &FromVolunteer) -> Result<()> {
        self.send(Message::Binary(message.encode()))
    }

    /// Sends a read-out.
    ///
    /// # Errors
    /// A socket that is closed.
    pub fn say_contribution(&mut self, header: &Contribution, gradient: &[f32]) -> Result<()> {
        let mut frame = ContributionFrame::new(gradient.len());
        let bytes = Codec::F32.encoded_bytes(gradient.len());
        Codec::F32.encode(gradient, frame.payload_mut(bytes));
        frame.seal(header)?;
        self.send(Message::Binary(Bytes::copy_from_slice(frame.as_bytes())))
    }

    /// Sends this, whatever it is.
    ///
    /// # Errors
    /// A socket that is closed.
    pub fn send(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message)?)
    }

    /// The next message of the server; `None` when it has closed the socket.
    ///
    /// # Errors
    /// A frame that isn't one of the protocol, or silence.
    pub fn hear(&mut self) -> Result<Option<FromCentral>> {
        use tokio_tungstenite::tungstenite::Error;
        loop {
            match self.socket.read() {
                Ok(Message::Binary(frame)) => {
                    let Received { message, .. } = FromCentral::decode(&frame)?;
                    return Ok(Some(message));
                }
                Ok(Message::Close(_) | Message::Ping(_) | Message::Pong(_)) => {}
                Ok(other) => bail!("the server sent {other:?}"),
                Err(Error::Io(error)) if is_silence(&error) => bail!("the server neither answers nor closes"),
                // However it ended: a server that has closed does not wait for what is still on its way to it.
                Err(_) => return Ok(None),
            }
        }
    }

    /// Joins the run, honestly.
    ///
    /// # Errors
    /// A server that does not welcome it.
    pub fn join(mut self) -> Result<Member> {
        self.say(&FromVolunteer::Hello(self.hello()))?;
        let mut welcome = None;
        loop {
            match (self.hear()?, &welcome) {
                (Some(FromCentral::Welcome(said)), _) => welcome = Some(said),
                (Some(FromCentral::StoreModel(model)), Some(welcome)) => {
                    let welcome = welcome.clone();
                    return Ok(Member {
                        peer: self,
                        welcome,
                        stamp: model.stamp,
                    });
                }
                (Some(FromCentral::ReadOutEvery { .. }), _) => {}
                (other, _) => bail!("not welcomed, but {other:?}"),
            }
        }
    }
}

fn is_silence(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
    )
}
