//! How others reach the controller.

use std::sync::Arc;

use bsp::time::Time;
use tokio::sync::{mpsc, oneshot};

use super::{Controller, Event};
use crate::traffic::Traffic;

/// How others reach the controller.
#[derive(Clone)]
pub(crate) struct ControllerHandle {
    events: mpsc::Sender<Event>,
    traffic: Arc<Traffic>,
}

/// The controller has ended.
#[derive(Debug, thiserror::Error)]
#[error("the run has ended")]
pub(crate) struct HasEnded;

impl ControllerHandle {
    /// A handle that hands events over through this channel.
    pub(super) fn new(events: mpsc::Sender<Event>, traffic: Arc<Traffic>) -> ControllerHandle {
        ControllerHandle { events, traffic }
    }

    /// Where sockets count what they send and receive.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Hands over an event; waits while [`super::QUEUE`] events are waiting.
    pub(crate) async fn tell(&self, event: Event) -> Result<(), HasEnded> {
        self.events.send(event).await.map_err(|_| HasEnded)
    }

    /// The same, from a thread.
    pub(crate) fn tell_blocking(&self, event: Event) -> Result<(), HasEnded> {
        self.events.blocking_send(event).map_err(|_| HasEnded)
    }

    /// Looks at the controller, between two events.
    pub(crate) async fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Controller, Time) -> T + Send + 'static,
    ) -> Result<T, HasEnded> {
        let (answer, answered) = oneshot::channel();
        let look = Box::new(move |controller: &Controller, now| {
            // The one that asked may be gone by now.
            let _ = answer.send(look(controller, now));
        });
        self.tell(Event::Inspect(look)).await?;
        answered.await.map_err(|_| HasEnded)
    }

    /// The same, from a thread; `None` when the run has ended.
    pub(crate) fn inspect_blocking<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Controller, Time) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let look = Box::new(move |controller: &Controller, now| {
            let _ = answer.send(look(controller, now));
        });
        self.tell_blocking(Event::Inspect(look)).ok()?;
        answered.blocking_recv().ok()
    }
}
