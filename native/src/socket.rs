//! The WebSocket to the server: one at a time.

use anyhow::{Result, anyhow};
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

type Stream = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The half of an open socket that sends.
pub(crate) struct Sender(SplitSink<Stream, Message>);

/// The half that receives.
pub(crate) struct Receiver(SplitStream<Stream>);

/// Opens a socket. No frame may be longer than `max_frame_bytes`.
pub(crate) async fn connect(url: &str, max_frame_bytes: usize) -> Result<(Sender, Receiver)> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(max_frame_bytes))
        .max_frame_size(Some(max_frame_bytes));
    // Small frames leave at once: they would wait for the acknowledgement of the one before.
    let disable_nagle = true;
    let opened = connect_async_with_config(url, Some(config), disable_nagle).await;
    let (stream, _) = opened.map_err(|error| anyhow!("{url}: {error}"))?;
    let (sink, stream) = stream.split();
    Ok((Sender(sink), Receiver(stream)))
}

impl Sender {
    /// Sends a frame. If that fails the link is at its end, which the other half reports.
    pub(crate) async fn send(&mut self, frame: Bytes) {
        if let Err(error) = self.0.send(Message::Binary(frame)).await {
            tracing::debug!("{error}");
        }
    }

    /// Closes the socket, once what was sent has left.
    pub(crate) async fn close(mut self) {
        let _ = self.0.close().await;
    }
}

impl Receiver {
    /// The next frame; `None` at the link's end. A text is none of our messages, and gets the answer of any other frame
    /// that can't be read.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.0.next().await? {
                Ok(Message::Binary(frame)) => return Some(frame),
                Ok(Message::Text(text)) => return Some(text.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_async;

    use super::*;

    #[tokio::test]
    async fn a_small_frame_waits_for_no_acknowledgement_of_the_one_before() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { accept_async(listener.accept().await.unwrap().0).await.unwrap() });
        let (sender, receiver) = connect(&url, 100).await.unwrap();
        let socket = sender.0.reunite(receiver.0).unwrap();
        let MaybeTlsStream::Plain(stream) = socket.get_ref() else {
            panic!("a socket without TLS");
        };
        assert!(stream.nodelay().unwrap());
        server.await.unwrap();
    }

    #[tokio::test]
    async fn every_message_reaches_the_loop_in_order_a_text_too() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/ws", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut socket = accept_async(stream).await.unwrap();
            for message in [
                Message::text("text"),
                Message::Ping(Bytes::new()),
                Message::binary(&b"frame"[..]),
            ] {
                socket.send(message).await.unwrap();
            }
            socket.close(None).await.unwrap();
        });
        let (_sender, mut receiver) = connect(&url, 100).await.unwrap();
        assert_eq!(receiver.next().await.unwrap(), "text");
        assert_eq!(receiver.next().await.unwrap(), "frame");
        assert_eq!(receiver.next().await, None);
        server.await.unwrap();
    }
}
