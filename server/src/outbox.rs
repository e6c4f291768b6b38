//! What waits to be sent on one volunteer's socket, between the controller, which never waits, and the network.
//!
//! One model at a time is on its way to a volunteer, so little waits. But the volunteer itself says that a model has
//! come. A peer that says so and reads nothing would make the server keep a copy of every version. So the bytes are
//! bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

/// What a socket has to do.
pub(crate) enum Outgoing {
    /// Send this frame. A model's bytes are shared by all sockets.
    Frame(Bytes),
    /// Close, after everything before it is sent.
    Close,
}

/// The controller's end.
pub(crate) struct Outbox {
    sender: mpsc::UnboundedSender<Outgoing>,
    shared: Arc<Shared>,
}

/// The socket's end.
pub(crate) struct OutboxReceiver {
    receiver: mpsc::UnboundedReceiver<Outgoing>,
    shared: Arc<Shared>,
}

struct Shared {
    waiting_bytes: AtomicUsize,
    max_bytes: usize,
    is_given_up: AtomicBool,
    gives_up: Notify,
}

/// More bytes wait than may. The link is given up.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{waiting_bytes} bytes wait to be sent to it, and it does not read: the link is given up")]
pub(crate) struct OutboxFull {
    waiting_bytes: usize,
}

/// The two ends for one socket, on which this many bytes may wait.
pub(crate) fn outbox(max_bytes: usize) -> (Outbox, OutboxReceiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared {
        waiting_bytes: AtomicUsize::new(0),
        max_bytes,
        is_given_up: AtomicBool::new(false),
        gives_up: Notify::new(),
    });
    let outbox = Outbox {
        sender,
        shared: Arc::clone(&shared),
    };
    (outbox, OutboxReceiver { receiver, shared })
}

impl Outbox {
    /// Hands over one more thing to do. Anything for a socket that has closed, or was given up, is dropped.
    ///
    /// # Errors
    /// The first time that more bytes wait than may.
    pub(crate) fn send(&self, outgoing: Outgoing) -> Result<(), OutboxFull> {
        let Shared {
            waiting_bytes,
            max_bytes,
            is_given_up,
            gives_up,
        } = &*self.shared;
        if is_given_up.load(Ordering::Relaxed) {
            return Ok(());
        }
        if let Outgoing::Frame(frame) = &outgoing {
            let waiting_bytes = waiting_bytes.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
            if waiting_bytes > *max_bytes {
                is_given_up.store(true, Ordering::Relaxed);
                gives_up.notify_one();
                return Err(OutboxFull { waiting_bytes });
            }
        }
        // A socket that is gone has told the controller, or will.
        let _ = self.sender.send(outgoing);
        Ok(())
    }
}

impl OutboxReceiver {
    /// The next thing to do; `None` when there will be none.
    pub(crate) async fn next(&mut self) -> Option<Outgoing> {
        self.receiver.recv().await
    }

    /// A frame of this many bytes was handed to the network.
    pub(crate) fn on_sent(&self, bytes: usize) {
        self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A future that is ready when the controller gives the link up.
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
        let (outbox, mut receiver) = outbox(100);
        let given_up = receiver.given_up();
        for _ in 0..10 {
            assert_eq!((outbox.send(frame(40)), outbox.send(frame(60))), (Ok(()), Ok(())));
            for bytes in [40, 60] {
                assert!(matches!(receiver.next().await, Some(Outgoing::Frame(frame)) if frame.len() == bytes));
                receiver.on_sent(bytes);
            }
        }
        assert_eq!(outbox.send(frame(60)), Ok(()));
        assert_eq!(outbox.send(frame(41)), Err(OutboxFull { waiting_bytes: 101 }));
        given_up.await;
        assert_eq!(outbox.send(frame(41)), Ok(()), "said once");
        assert!(matches!(receiver.next().await, Some(Outgoing::Frame(frame)) if frame.len() == 60));
        drop(outbox);
        assert!(receiver.next().await.is_none(), "nothing was kept after that");
    }
}
