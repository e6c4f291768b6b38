//! `superstep volunteer`: a volunteer without a browser. The same local BSP module, shared memory and engine as in a tab,
//! driven by threads and a socket of this program.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bsp::local::{Action, End, Local};
use bsp::message::max_frame_bytes;
use bsp::time::Time;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use volunteer::membership::Membership;

use crate::cli::VolunteerArguments;
use crate::controller::unguessable;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How long to wait before a fresh start: a server that restarts is back by then.
const AFRESH_AFTER: Duration = Duration::from_secs(2);
/// How long the server may be out of reach before the first description has come.
const FETCH_TRIES: u32 = 5;

/// What happens to the local BSP module, from the network and from the threads of the ML modules.
enum Event {
    Connected(Box<Result<Socket>>),
    Frame(Bytes),
    Closed,
    Shard { index: usize, outcome: Result<Vec<u8>> },
    MlModuleDied { ml_module: usize },
    Interrupted,
}

/// Contributes until the run is over or the operator interrupts it.
pub(crate) fn volunteer(arguments: &VolunteerArguments) -> Result<()> {
    let server = Server::new(&arguments.url)?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = arguments.workers.unwrap_or(cores - 1).max(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        loop {
            match (Driver::start(server.clone(), workers, arguments.duty).await?)
                .run()
                .await?
            {
                End::Left => return Ok(()),
                End::Refused(bsp::message::Refusal::Finished) => {
                    tracing::info!("the run is finished; thank you");
                    return Ok(());
                }
                End::Refused(refusal) => bail!("{}: {refusal}", server.http),
                End::StartAfresh(refusal) => tracing::warn!("{refusal}"),
                End::MlModuleDied => tracing::error!("an ML module died; starting afresh"),
            }
            tokio::time::sleep(AFRESH_AFTER).await;
        }
    })
}

/// Where the server is.
#[derive(Clone)]
struct Server {
    http: String,
    socket: String,
}

impl Server {
    fn new(url: &str) -> Result<Server> {
        let http = url.trim_end_matches('/').to_owned();
        match http.strip_prefix("http://") {
            Some(rest) if !rest.is_empty() => Ok(Server {
                socket: format!("ws://{rest}/ws"),
                http,
            }),
            _ => bail!("{url}: give an address such as http://127.0.0.1:8000 (https is not supported yet)"),
        }
    }

    /// Fetches what is at this path, on a thread that may wait.
    async fn fetch(&self, path: String) -> Result<Vec<u8>> {
        let url = format!("{}{path}", self.http);
        tokio::task::spawn_blocking(move || {
            let mut response = ureq::get(&url).call().map_err(|error| anyhow!("{url}: {error}"))?;
            let body = response.body_mut().with_config().limit(1 << 30).read_to_vec();
            body.map_err(|error| anyhow!("{url}: {error}"))
        })
        .await?
    }

    /// The same, again and again while the server is out of reach.
    async fn fetch_patiently(&self, path: &str) -> Result<Vec<u8>> {
        for attempt in 1.. {
            match self.fetch(path.to_owned()).await {
                Err(error) if attempt < FETCH_TRIES => tracing::warn!("{error:#}; trying again"),
                outcome => return outcome,
            }
            tokio::time::sleep(Duration::from_millis(500) * attempt).await;
        }
        bail!("{path}: not fetched")
    }
}

/// The driver around one membership: from its start to its end.
struct Driver {
    server: Server,
    began: Instant,
    membership: Membership,
    local: Local,
    workers: usize,
    sink: Option<SplitSink<Socket, Message>>,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    actions: Vec<Action>,
}

impl Driver {
    async fn start(server: Server, workers: usize, duty_percent: u8) -> Result<Driver> {
        let description = server.fetch_patiently("/api/v1/run").await?;
        let description = String::from_utf8(description).context("the run's description is not text")?;
        let (membership, mut local) = Membership::new(Time::ZERO, &description, workers, unguessable().0)?;
        let mut actions = Vec::new();
        local.set_duty(Time::ZERO, duty_percent, &mut actions);
        let (events, inbox) = mpsc::unbounded_channel();
        let run = membership.description();
        tracing::info!(
            "run {}: {} ML modules on {} parameters",
            run.name,
            workers,
            run.parameters
        );
        let began = Instant::now();
        Ok(Driver {
            server,
            began,
            membership,
            local,
            workers,
            sink: None,
            events,
            inbox,
            actions,
        })
    }

    async fn run(mut self) -> Result<End> {
        self.watch_for_interrupts()?;
        let now = self.now();
        self.local.on_timeout(now, &mut self.actions);
        loop {
            if let Some(end) = self.act().await? {
                return Ok(end);
            }
            let now = self.now();
            let patience = self.local.next_timeout(now).since(now);
            let event = tokio::time::timeout(patience, self.inbox.recv()).await;
            let now = self.now();
            match event {
                Err(_) => self.local.on_timeout(now, &mut self.actions),
                Ok(None) => return Ok(End::Left),
                Ok(Some(event)) => self.on_event(now, event),
            }
        }
    }

    fn on_event(&mut self, now: Time, event: Event) {
        match event {
            Event::Connected(outcome) => match *outcome {
                Ok(socket) => {
                    let (sink, stream) = socket.split();
                    self.sink = Some(sink);
                    tokio::spawn(receive_all(stream, self.events.clone()));
                    self.local.on_open(now, &mut self.actions);
                }
                Err(error) => {
                    tracing::warn!("{error:#}; trying again");
                    self.local.on_closed(now, &mut self.actions);
                }
            },
            Event::Frame(frame) => {
                if let Err(error) = self.local.on_frame(now, &frame, &mut self.actions) {
                    tracing::warn!("{}: a frame can't be used: {error}", self.server.http);
                }
            }
            Event::Closed => {
                self.sink = None;
                self.local.on_closed(now, &mut self.actions);
            }
            Event::Shard { index, outcome } => match outcome {
                Ok(bytes) => {
                    if let Err(error) = self.membership.store_shard(index, &bytes) {
                        tracing::error!("{error}; going on without this shard");
                    }
                }
                Err(error) => {
                    tracing::error!("{error:#}; going on without this shard");
                    self.membership.give_up_shard();
                }
            },
            Event::MlModuleDied { ml_module } => self.local.on_ml_module_died(now, ml_module, &mut self.actions),
            Event::Interrupted => {
                tracing::info!("leaving");
                self.local.leave(now, &mut self.actions);
            }
        }
    }

    async fn act(&mut self) -> Result<Option<End>> {
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Connect => self.connect(),
                Action::Send(frame) => self.send(frame).await,
                Action::SendContribution { sequence } => {
                    if let Some(frame) = self.local.contribution_frame(sequence).map(Bytes::copy_from_slice) {
                        self.send(frame).await;
                    }
                }
                Action::Disconnect => {
                    if let Some(mut sink) = self.sink.take() {
                        let _ = sink.close().await;
                    }
                }
                Action::SessionOpened(session) => {
                    tracing::info!("session {}", session.0);
                    self.membership.on_session_opened(session);
                    for ml_module in 0..self.workers {
                        self.start_ml_module(ml_module)?;
                    }
                }
                Action::Ended(end) => return Ok(Some(end)),
            }
        }
        if let Some(index) = self.membership.shard_to_fetch() {
            self.fetch_shard(index);
        }
        Ok(None)
    }

    /// A send that fails is the link's end, which its other half reports.
    async fn send(&mut self, frame: Bytes) {
        if let Some(sink) = &mut self.sink
            && let Err(error) = sink.send(Message::Binary(frame)).await
        {
            tracing::debug!("{}: {error}", self.server.http);
        }
    }

    fn connect(&self) {
        let (url, events) = (self.server.socket.clone(), self.events.clone());
        let limit = max_frame_bytes(self.membership.description().parameters);
        let config = WebSocketConfig::default()
            .max_message_size(Some(limit))
            .max_frame_size(Some(limit));
        tokio::spawn(async move {
            let outcome = connect_async_with_config(&url, Some(config), true).await;
            let outcome = outcome
                .map(|(socket, _)| socket)
                .map_err(|error| anyhow!("{url}: {error}"));
            // Who asked may have ended.
            let _ = events.send(Event::Connected(Box::new(outcome)));
        });
    }

    fn fetch_shard(&self, index: usize) {
        let (server, events) = (self.server.clone(), self.events.clone());
        let name = self.membership.shard_name(index).unwrap_or_default();
        let path = format!("/api/v1/shards/{name}");
        tokio::spawn(async move {
            let outcome = server.fetch_patiently(&path).await;
            // Who asked may have ended.
            let _ = events.send(Event::Shard { index, outcome });
        });
    }

    fn start_ml_module(&mut self, ml_module: usize) -> Result<()> {
        let Some(mut module) = self.membership.ml_module(ml_module) else {
            return Ok(());
        };
        let (began, events) = (self.began, self.events.clone());
        thread::Builder::new()
            .name(format!("ml-module-{ml_module}"))
            .spawn(move || {
                // What a panic leaves behind in the shared memory stays unread: that is what its lease is for.
                let outcome = catch_unwind(AssertUnwindSafe(|| module.run(|| Time::ZERO + began.elapsed())));
                if outcome.is_err() {
                    let _ = events.send(Event::MlModuleDied { ml_module });
                }
            })?;
        Ok(())
    }

    fn watch_for_interrupts(&self) -> Result<()> {
        let events = self.events.clone();
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::spawn(async move {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
            let _ = events.send(Event::Interrupted);
        });
        Ok(())
    }

    fn now(&self) -> Time {
        Time::ZERO + self.began.elapsed()
    }
}

async fn receive_all(mut stream: SplitStream<Socket>, events: mpsc::UnboundedSender<Event>) {
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Binary(frame) = message
            && events.send(Event::Frame(frame)).is_err()
        {
            return;
        }
    }
    let _ = events.send(Event::Closed);
}
