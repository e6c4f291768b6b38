//! Messages to the page and from it, and lines for the console.

use js_sys::{JSON, Object};
use serde::Serialize;
use serde::de::DeserializeOwned;
use volunteer::action::Level;
use volunteer::messages::{FromBspWorker, Told};
use wasm_bindgen::prelude::*;
use web_sys::DedicatedWorkerGlobalScope;

/// The most values of JavaScript that are held at once after an ML module's death.
const SPARE_VALUES: u32 = 8;

#[wasm_bindgen]
extern "C" {
    /// [`FromBspWorker::State`], as an object whose properties are written one by one: that takes no memory here.
    type StateMessage;

    #[wasm_bindgen(method, setter = type)]
    fn set_type(this: &StateMessage, kind: &str);
    #[wasm_bindgen(method, setter)]
    fn set_state(this: &StateMessage, state: &str);
    #[wasm_bindgen(method, setter)]
    fn set_detail(this: &StateMessage, detail: &str);
    #[wasm_bindgen(method, setter = delayMs)]
    fn set_delay_ms(this: &StateMessage, delay_ms: u32);
    #[wasm_bindgen(method, setter = vainStarts)]
    fn set_vain_starts(this: &StateMessage, vain_starts: u32);
    #[wasm_bindgen(method, setter = awaySeconds)]
    fn set_away_seconds(this: &StateMessage, away_seconds: u32);
    #[wasm_bindgen(method, setter = keptSamples)]
    fn set_kept_samples(this: &StateMessage, kept_samples: u32);
    #[wasm_bindgen(method, setter = acceptedSamples)]
    fn set_accepted_samples(this: &StateMessage, accepted_samples: u32);
    #[wasm_bindgen(method, setter = areSent)]
    fn set_are_sent(this: &StateMessage, are_sent: bool);
    #[wasm_bindgen(method, setter)]
    fn set_accepted(this: &StateMessage, accepted: f64);

    #[wasm_bindgen(js_namespace = console, js_name = info)]
    fn console_info(line: &str);
    #[wasm_bindgen(js_namespace = console, js_name = warn)]
    fn console_warn(line: &str);
}

/// The page that started this worker.
pub(crate) struct Page {
    scope: DedicatedWorkerGlobalScope,
    state: StateMessage,
    /// Places for values of JavaScript in the table that this module has of them. The table grows by allocating.
    spare: Vec<JsValue>,
}

impl Page {
    /// The page at the other end of this worker's messages.
    pub(crate) fn new(scope: &DedicatedWorkerGlobalScope) -> Page {
        let state: StateMessage = JsValue::from(Object::new()).unchecked_into();
        state.set_type("state");
        Page {
            scope: scope.clone(),
            state,
            spare: (0..SPARE_VALUES).map(JsValue::from).collect(),
        }
    }

    /// Says what this tab is doing. Takes no memory.
    pub(crate) fn tell(&self, told: &Told) {
        self.state.set_state(told.state.word());
        self.state.set_detail(&told.detail);
        self.state.set_delay_ms(told.delay_ms);
        self.state.set_vain_starts(told.vain_starts);
        self.state.set_away_seconds(told.away_seconds);
        self.state.set_kept_samples(told.kept_samples);
        self.state.set_accepted_samples(told.accepted_samples);
        self.state.set_are_sent(told.are_sent);
        self.state.set_accepted(told.accepted as f64);
        // The message is a copy. It fails only for what can't be copied.
        drop(self.scope.post_message(&self.state));
    }

    /// Says anything else.
    pub(crate) fn post(&self, message: &FromBspWorker) {
        // Neither writing our own types nor reading what was written fails.
        if let Some(message) = json(message) {
            drop(self.scope.post_message(&message));
        }
    }

    /// From here on values of JavaScript find their places in the table without its growing.
    pub(crate) fn take_no_more_memory(&mut self) {
        self.spare.clear();
    }
}

fn json(message: &impl Serialize) -> Option<JsValue> {
    JSON::parse(&serde_json::to_string(message).ok()?).ok()
}

/// Reads a message of the page.
pub(crate) fn read<T: DeserializeOwned>(message: &JsValue) -> Result<T, JsError> {
    let text = JSON::stringify(message).map_or_else(|_| String::new(), String::from);
    serde_json::from_slice(text.as_bytes()).map_err(|error| JsError::new(&format!("{text}: {error}")))
}

/// Writes a line to the console. Takes no memory.
pub(crate) fn log(level: Level, line: &str) {
    match level {
        Level::Info => console_info(line),
        Level::Warning => console_warn(line),
    }
}
