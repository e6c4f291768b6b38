//! The driver around a volunteer's loop: events in, actions done.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bsp::time::Time;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use volunteer::action::{Action, Ending, Level};
use volunteer::fetch::{FetchError, Resource};
use volunteer::settings::Settings;
use volunteer::sleep_clock::SleepClock;
use volunteer::volunteer_loop::VolunteerLoop;

use crate::address::Address;
use crate::fetch::fetch;
use crate::ml_module;
use crate::socket::{Receiver, Sender, connect};
use crate::states::States;
use crate::{GaveUp, Report};

/// What happens to the loop.
enum Event {
    Opened(u64, Sender),
    Closed(u64),
    Frame(u64, Bytes),
    Fetched(Resource, Result<Vec<u8>, FetchError>),
    MlModuleDied { number: usize },
    Stopped,
}

pub(crate) struct Driver {
    address: Address,
    volunteer: VolunteerLoop,
    states: States,
    report: Report,
    began: Instant,
    clock: SleepClock,
    sender: Option<Sender>,
    /// Which socket events are about: those of one that was closed here come too late.
    socket: u64,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
}

impl Driver {
    pub(crate) fn new(address: Address, settings: Settings, states: States, report: Report) -> Driver {
        let (events, inbox) = mpsc::unbounded_channel();
        Driver {
            address,
            volunteer: VolunteerLoop::new(settings),
            states,
            report,
            began: Instant::now(),
            clock: SleepClock::default(),
            sender: None,
            socket: 0,
            events,
            inbox,
        }
    }

    /// Drives the loop to its end. It leaves when `stopped` says so.
    pub(crate) async fn run(mut self, stopped: oneshot::Receiver<()>) -> Result<Ending> {
        let events = self.events.clone();
        tokio::spawn(async move {
            // Without a watch for the operator's wishes there are none.
            if stopped.await.is_ok() {
                let _ = events.send(Event::Stopped);
            }
        });
        let mut actions = Vec::new();
        self.volunteer.start(&mut actions);
        loop {
            for action in actions.drain(..) {
                if let Some(ending) = self.act(action).await? {
                    return Ok(ending);
                }
            }
            let event = self.next_event().await;
            let now = self.now();
            self.note_failure(event.as_ref());
            if self.states.gives_up_at().is_some_and(|at| at <= now) {
                return Err(GaveUp.into());
            }
            match event {
                Some(event) => self.on_event(now, event, &mut actions),
                None => self.volunteer.on_timeout(now, &mut actions),
            }
        }
    }

    /// What happens next; `None` for the loop's time-out.
    async fn next_event(&mut self) -> Option<Event> {
        let now = self.now();
        let due = self.volunteer.next_timeout(now);
        match due.into_iter().chain(self.states.gives_up_at()).min() {
            Some(due) => tokio::time::timeout(due.since(now), self.inbox.recv()).await.ok()?,
            None => self.inbox.recv().await,
        }
    }

    /// Sees whether this event is a try to reach the server that has failed.
    fn note_failure(&mut self, event: Option<&Event>) {
        let has_failed = match event {
            Some(Event::Closed(socket)) => *socket == self.socket,
            Some(Event::Fetched(_, Err(error))) => error.is_passing(),
            _ => false,
        };
        if has_failed && let Some(line) = self.states.on_failure() {
            (self.report)(&line);
        }
    }

    fn on_event(&mut self, now: Time, event: Event, actions: &mut Vec<Action>) {
        let volunteer = &mut self.volunteer;
        match event {
            Event::Opened(socket, sender) if socket == self.socket => {
                self.sender = Some(sender);
                volunteer.on_open(now, actions);
            }
            Event::Closed(socket) if socket == self.socket => {
                self.sender = None;
                volunteer.on_closed(now, actions);
            }
            Event::Frame(socket, frame) if socket == self.socket => volunteer.on_frame(now, &frame, actions),
            Event::Opened(..) | Event::Closed(_) | Event::Frame(..) => {}
            Event::Fetched(resource, outcome) => {
                let outcome = outcome.as_deref().map_err(Clone::clone);
                volunteer.on_fetched(now, &resource, outcome, actions);
            }
            Event::MlModuleDied { number } => volunteer.on_ml_module_died(now, number, actions),
            Event::Stopped => volunteer.leave(now, actions),
        }
    }

    async fn act(&mut self, action: Action) -> Result<Option<Ending>> {
        match action {
            Action::Fetch(resource) => self.fetch(resource),
            Action::Connect { max_frame_bytes } => self.connect(max_frame_bytes),
            Action::Send(frame) => self.send(frame).await,
            Action::SendContribution { sequence } => {
                if let Some(frame) = self.volunteer.contribution_frame(sequence).map(Bytes::copy_from_slice) {
                    self.send(frame).await;
                }
            }
            Action::Disconnect => self.disconnect().await,
            Action::StartMlModule { number, ml_module } => {
                let (began, events) = (self.began, self.events.clone());
                let clock = move || Time::ZERO + began.elapsed();
                let on_death = move || drop(events.send(Event::MlModuleDied { number }));
                ml_module::start(number, ml_module, clock, on_death)?;
            }
            Action::Tell(told) => {
                let now = self.now();
                if let Some(line) = self.states.on_told(now, &told) {
                    (self.report)(&line);
                }
            }
            Action::Log(Level::Info, line) => tracing::info!("{line}"),
            Action::Log(Level::Warning, line) => tracing::warn!("{line}"),
            Action::End(ending) => {
                let now = self.now();
                if let Some(progress) = self.volunteer.measure_progress(now) {
                    let (session, accepted) = (progress.session, self.volunteer.accepted_samples());
                    tracing::info!("the last session was {session}; in all {accepted} samples were accepted");
                }
                return Ok(Some(ending));
            }
        }
        Ok(None)
    }

    fn fetch(&self, resource: Resource) {
        let (url, events) = (self.address.of(&resource.path()), self.events.clone());
        tokio::spawn(async move {
            let outcome = fetch(url).await;
            // The driver may have ended.
            let _ = events.send(Event::Fetched(resource, outcome));
        });
    }

    fn connect(&mut self, max_frame_bytes: usize) {
        self.socket += 1;
        let (socket, url, events) = (self.socket, self.address.socket().to_owned(), self.events.clone());
        // The driver may end before any of these events.
        tokio::spawn(async move {
            match connect(&url, max_frame_bytes).await {
                Ok((sender, receiver)) => {
                    let _ = events.send(Event::Opened(socket, sender));
                    receive_all(socket, receiver, &events).await;
                }
                Err(error) => tracing::warn!("{error:#}"),
            }
            let _ = events.send(Event::Closed(socket));
        });
    }

    async fn send(&mut self, frame: Bytes) {
        if let Some(sender) = &mut self.sender {
            sender.send(frame).await;
        }
    }

    async fn disconnect(&mut self) {
        self.socket += 1;
        if let Some(sender) = self.sender.take() {
            sender.close().await;
        }
    }

    fn now(&mut self) -> Time {
        // A clock before 1970 is set wrong, and goes on all the same.
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.clock.now(self.began.elapsed(), day)
    }
}

async fn receive_all(socket: u64, mut receiver: Receiver, events: &mpsc::UnboundedSender<Event>) {
    while let Some(frame) = receiver.next().await {
        if events.send(Event::Frame(socket, frame)).is_err() {
            return;
        }
    }
}
