//! One volunteer's WebSocket, between the network and the controller.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use bsp::central::ConnectionId;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};

use crate::controller::{ControllerHandle, Event};
use crate::outbox::{OutboxReceiver, Outgoing, outbox};
use crate::traffic::Traffic;

/// A frame that could not be handed to the network for this long is on a dead link.
const SEND_WITHIN: Duration = Duration::from_secs(120);

/// How long a peer may take to close after the server has closed.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves a socket until it closes. At most `max_waiting_bytes` wait to be sent on it.
pub(crate) async fn serve(socket: WebSocket, peer: SocketAddr, controller: ControllerHandle, max_waiting_bytes: usize) {
    static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
    let connection = ConnectionId(CONNECTIONS.fetch_add(1, Ordering::Relaxed));
    let (outbox, receiver) = outbox(max_waiting_bytes);
    let given_up = receiver.given_up();
    if controller
        .tell(Event::Connected {
            connection,
            peer,
            outbox,
        })
        .await
        .is_err()
    {
        return;
    }
    let (sink, mut stream) = socket.split();
    tokio::select! {
        () = send_all(sink, receiver, peer, controller.traffic()) => {}
        () = given_up => {}
        () = receive_all(&mut stream, connection, peer, &controller) => {}
    }
    let _ = controller.tell(Event::Disconnected { connection }).await;
    // Reads on until the peer has closed too: a socket that closes on unread bytes is reset, and the last frames to
    // the peer may be lost with it.
    let farewell = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

async fn send_all(
    mut sink: SplitSink<WebSocket, Message>,
    mut receiver: OutboxReceiver,
    peer: SocketAddr,
    traffic: &Traffic,
) {
    while let Some(Outgoing::Frame(frame)) = receiver.next().await {
        let bytes = frame.len();
        match tokio::time::timeout(SEND_WITHIN, sink.send(Message::Binary(frame))).await {
            Ok(Ok(())) => {
                receiver.on_sent(bytes);
                traffic.on_sent(bytes);
            }
            Ok(Err(error)) => return tracing::debug!("{peer}: {error}"),
            Err(_) => return tracing::info!("{peer}: took nothing for {SEND_WITHIN:?}; the link is given up"),
        }
    }
    let _ = tokio::time::timeout(SEND_WITHIN, sink.close()).await;
}

async fn receive_all(
    stream: &mut SplitStream<WebSocket>,
    connection: ConnectionId,
    peer: SocketAddr,
    controller: &ControllerHandle,
) {
    while let Some(message) = stream.next().await {
        let frame = match message {
            Ok(Message::Binary(frame)) => frame,
            // No volunteer sends text; the central module refuses it, and tells the peer.
            Ok(Message::Text(text)) => Bytes::from(text),
            Ok(Message::Ping(_) | Message::Pong(_)) => continue,
            Ok(Message::Close(_)) => return,
            // One of these errors is a frame beyond the limit; its text says so.
            Err(error) => return tracing::warn!("{peer}: the connection broke: {error}"),
        };
        controller.traffic().on_received(frame.len());
        // A controller that has ended may have left frames for this peer: when they are sent, the socket closes.
        let _ = controller.tell(Event::Frame { connection, frame }).await;
    }
}
