//! What waits to be sent on one volunteer's socket, between the controller, which never waits, and the network.
//!
//! One model at a time is on its way to a volunteer, so that little waits. But the volunteer says that a model has
//! come: one that says so and reads nothing would make a server keep a copy of every version. So the bytes are
//! bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// What a socket has to do.
pub(crate) enum Outgoing {
    /// Send this. The model's bytes are shared by all sockets.
    Frame(Bytes),
    /// Close, after what was to be sent.
    Close,
}

/// The controller's end.
pub(crate) struct Outbox {
    outgoing: mpsc::UnboundedSender<Outgoing>,
    shared: Arc<Shared>,
}

/// The socket's end.
pub(crate) struct Outgoings {
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
    shared: Arc<Shared>,
}

struct Shared {
    waiting_bytes: AtomicUsize,
    most_bytes: usize,
    is_given_up: AtomicBool,
    gives_up: Notify,
}

/// More waits than may; the link is given up.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{waiting_bytes} bytes wait to be sent to it, and it does not read: the link is given up")]
pub(crate) struct TooMuchWaits {
    waiting_bytes: usize,
}

/// The two ends for one socket, on which this many bytes may wait.
pub(crate) fn outbox(most_bytes: usize) -> (Outbox, Outgoings) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        waiting_bytes: AtomicUsize::new(0),
        most_bytes,
        is_given_up: AtomicBool::new(false),
        gives_up: Notify::new(),
    });
    let outbox = Outbox {
        outgoing: sender,
        shared: Arc::clone(&shared),
    };
    let outgoings = Outgoings {
        outgoing: receiver,
        shared,
    };
    (outbox, outgoings)
}

impl Outbox {
    /// Hands over one more. What is for a socket that has closed, or was given up, is dropped.
    ///
    /// # Errors
    /// The first time that too much waits.
    pub(crate) fn send(&self, outgoing: Outgoing) -> Result<(), TooMuchWaits> {
        let Shared {
            waiting_bytes,
            most_bytes,
            is_given_up,
            gives_up,
        } = &*self.shared;
        if is_given_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Outgoing::Frame(frame) = &outgoing {
            let waiting_bytes = waiting_bytes.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
            if waiting_bytes > *most_bytes {
                is_given_up.store(true, Ordering::Relaxed);
                gives_up.notify_one();
                return Err(TooMuchWaits { waiting_bytes });
            }
        }
        // A socket that is gone has told so, or will.
        let _ = self.outgoing.send(outgoing);
        Ok(())
    }
}

impl Outgoings {
    /// The next; `None` when there will be none.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        self.outgoing.recv().await
    }

    /// A frame was handed to the network.
    pub(crate) fn on_sent(&self, bytes: usize) {
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// What ends when the controller gives the link up.
    pub(crate) fn given_up(&self) -> impl Future<Output = ()> + use<> {
        let shared = Arc::clone(&self.shared);
        async move { shared.gives_up.notified().await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Outgoing {
        Outgoing::Frame(vec![0; bytes].into())
    }

    #[tokio::test]
    async fn a_link_is_given_up_when_more_waits_than_may_and_not_before() {
        let (outbox, mut outgoings) = outbox(100);
        let given_up = outgoings.given_up();
        for _ in 0..10 {
            assert_eq!((outbox.send(frame(40)), outbox.send(frame(60))), (Ok(()), Ok(())));
            for bytes in [40, 60] {
                assert!(matches!(outgoings.next().await, Some(Outgoing::Frame(frame)) if frame.len() == bytes));
                outgoings.on_sent(bytes);
            }
        }
        assert_eq!(outbox.send(frame(60)), Ok(()));
        assert_eq!(outbox.send(frame(41)), Err(TooMuchWaits { waiting_bytes: 101 }));
        given_up.await;
        assert_eq!(outbox.send(frame(41)), Ok(()), "said once");
        assert!(matches!(outgoings.next().await, Some(Outgoing::Frame(frame)) if frame.len() == 60));
        drop(outbox);
        assert!(outgoings.next().await.is_none(), "nothing was kept after that");
    }
}
