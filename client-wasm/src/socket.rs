//! The BSP worker's WebSocket: one at a time.

use bytes::Bytes;
use js_sys::{ArrayBuffer, JsString, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use web_sys::{BinaryType, MessageEvent, WebSocket};

/// What happens to a socket. Nothing is heard of one that was disconnected here.
pub(crate) enum SocketEvent {
    /// It is open.
    Opened,
    /// It could not be opened, or has closed.
    Closed,
    /// A frame has arrived.
    Frame(Bytes),
}

/// The WebSocket to the server: one at a time.
pub(crate) struct Socket {
    url: String,
    current: Option<WebSocket>,
    /// Where frames are copied before they are sent: browsers refuse to send shared memory. As long as the longest
    /// frame from the start, since after an ML module's death there is no making room.
    outgoing: Uint8Array,
    on_open: Closure<dyn FnMut()>,
    on_message: Closure<dyn FnMut(MessageEvent)>,
    on_close: Closure<dyn FnMut()>,
}

impl Socket {
    /// No socket yet. It will lead to the server that this worker's script, at `location`, came from.
    pub(crate) fn new(location: &str, on_event: impl Fn(SocketEvent) + Clone + 'static) -> Socket {
        let folder = location.rsplit_once('/').map_or(location, |(folder, _)| folder);
        let (on_open, on_message) = (on_event.clone(), on_event.clone());
        Socket {
            url: format!("{}/ws", folder.replacen("http", "ws", 1)),
            current: None,
            outgoing: Uint8Array::new_with_length(0),
            on_open: Closure::new(move || on_open(SocketEvent::Opened)),
            on_message: Closure::new(move |event: MessageEvent| on_message(SocketEvent::Frame(content(&event.data())))),
            on_close: Closure::new(move || on_event(SocketEvent::Closed)),
        }
    }

    /// Opens a socket. No frame that is sent on it is longer than `max_frame_bytes`.
    pub(crate) fn connect(&mut self, max_frame_bytes: usize) {
        self.disconnect();
        if (self.outgoing.length() as usize) < max_frame_bytes {
            self.outgoing = Uint8Array::new_with_length(max_frame_bytes as u32);
        }
        let Ok(socket) = WebSocket::new(&self.url) else {
            let on_close: js_sys::Function = self.on_close.as_ref().clone().unchecked_into();
            // Not from within this call.
            spawn_local(async move { drop(on_close.call0(&JsValue::UNDEFINED)) });
            return;
        };
        socket.set_binary_type(BinaryType::Arraybuffer);
        socket.set_onopen(Some(self.on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(self.on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(self.on_close.as_ref().unchecked_ref()));
        self.current = Some(socket);
    }

    /// Sends a frame, if the socket is open. One that is closing says so itself.
    pub(crate) fn send(&self, frame: &[u8]) {
        let Some(socket) = self
            .current
            .as_ref()
            .filter(|socket| socket.ready_state() == WebSocket::OPEN)
        else {
            return;
        };
        let unshared = self.outgoing.subarray(0, frame.len() as u32);
        unshared.copy_from(frame);
        // It fails only on a socket that is still connecting.
        drop(socket.send_with_js_u8_array(&unshared));
    }

    /// Closes the socket, once what was sent has left.
    pub(crate) fn disconnect(&mut self) {
        if let Some(socket) = self.current.take() {
            socket.set_onopen(None);
            socket.set_onmessage(None);
            socket.set_onclose(None);
            // It fails only with a reason that can't be one.
            drop(socket.close());
        }
    }
}

/// A text is none of our messages; its bytes get the same answer as any other frame that can't be read.
fn content(data: &JsValue) -> Bytes {
    match data.dyn_ref::<ArrayBuffer>() {
        Some(buffer) => Uint8Array::new(buffer).to_vec().into(),
        None => data.dyn_ref::<JsString>().map(String::from).unwrap_or_default().into(),
    }
}
