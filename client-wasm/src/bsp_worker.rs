//! The BSP worker: the driver around a tab's local BSP module (103).

use bsp::local::{Action, End, LinkState, Local};
use bsp::message::Refusal;
use bytes::Bytes;
use serde::Serialize;
use volunteer::membership::Membership;
use wasm_bindgen::prelude::*;

use crate::clock;
use crate::ml_worker::Passage;

#[wasm_bindgen]
extern "C" {
    /// What `web/bsp-worker.js` does for the local BSP module.
    pub type Host;

    /// Open the socket.
    #[wasm_bindgen(method)]
    fn connect(this: &Host);

    /// Send the bytes at this address of the shared memory.
    #[wasm_bindgen(method)]
    fn send(this: &Host, address: *const u8, length: usize);

    /// Close the socket, once what was given to `send` has left.
    #[wasm_bindgen(method)]
    fn disconnect(this: &Host);

    /// Start ML modules.
    #[wasm_bindgen(method, js_name = sessionOpened)]
    fn session_opened(this: &Host);

    /// Fetch this shard, then call `storeShard`.
    #[wasm_bindgen(method, js_name = fetchShard)]
    fn fetch_shard(this: &Host, index: usize, name: &str);

    /// It is over. `how` is `afresh`, `refused`, `finished` or `left`.
    #[wasm_bindgen(method)]
    fn ended(this: &Host, how: &str, why: &str);

    #[wasm_bindgen(js_namespace = console, js_name = warn)]
    fn console_warn(text: &str);
}

/// A tab's local BSP module and its driver.
#[wasm_bindgen]
pub struct BspWorker {
    host: Host,
    membership: Membership,
    local: Local,
    actions: Vec<Action>,
    samples_before: (f64, u64),
    samples_per_second: f64,
}

/// What the page shows of this tab; `Progress` in `web/types.d.ts`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Progress {
    session: String,
    samples: u64,
    accepted: u64,
    samples_per_second: f64,
    version: u64,
    ml_modules: Vec<MlModuleProgress>,
}

#[derive(Serialize)]
struct MlModuleProgress {
    samples: u64,
    steps: u64,
    time: Shares,
}

/// Shares of an ML module's time, from 0 to 1.
#[derive(Serialize)]
struct Shares {
    gradient: f64,
    add: f64,
    read: f64,
    wait: f64,
}

#[wasm_bindgen]
impl BspWorker {
    /// The parts of a volunteer with `ml_modules` ML modules, made of the server's description of the run.
    ///
    /// # Errors
    /// What is wrong with the description, in words.
    #[wasm_bindgen(constructor)]
    pub fn new(host: Host, description: &str, ml_modules: usize, jitter_seed: f64) -> Result<BspWorker, String> {
        let (membership, local) = Membership::new(clock::now(), description, ml_modules, jitter_seed.to_bits())
            .map_err(|error| error.to_string())?;
        Ok(BspWorker {
            host,
            membership,
            local,
            // More than any event causes, so that nothing is allocated where that must not be.
            actions: Vec::with_capacity(32),
            samples_before: (0.0, 0),
            samples_per_second: 0.0,
        })
    }

    /// The socket is open.
    #[wasm_bindgen(js_name = onOpen)]
    pub fn on_open(&mut self) {
        self.local.on_open(clock::now(), &mut self.actions);
        self.act();
    }

    /// The socket could not be opened, or has closed.
    #[wasm_bindgen(js_name = onClosed)]
    pub fn on_closed(&mut self) {
        self.local.on_closed(clock::now(), &mut self.actions);
        self.act();
    }

    /// A frame has arrived.
    #[wasm_bindgen(js_name = onFrame)]
    pub fn on_frame(&mut self, frame: Vec<u8>) {
        if let Err(error) = self
            .local
            .on_frame(clock::now(), &Bytes::from(frame), &mut self.actions)
        {
            console_warn(&format!("superstep: a frame of the server can't be used: {error}"));
        }
        self.act();
    }

    /// The time that `next_timeout_ms` named has passed.
    #[wasm_bindgen(js_name = onTimeout)]
    pub fn on_timeout(&mut self) {
        self.local.on_timeout(clock::now(), &mut self.actions);
        self.act();
    }

    /// In how many milliseconds `onTimeout` wants to be called.
    #[wasm_bindgen(js_name = nextTimeoutMs)]
    pub fn next_timeout_ms(&mut self) -> f64 {
        let now = clock::now();
        self.local.next_timeout(now).since(now).as_secs_f64() * 1000.0
    }

    /// The volunteer pauses.
    pub fn pause(&mut self) {
        self.local.pause(clock::now(), &mut self.actions);
        self.act();
    }

    /// The volunteer goes on.
    pub fn resume(&mut self) {
        self.local.resume(clock::now(), &mut self.actions);
        self.act();
    }

    /// The volunteer lets this many ML modules compute.
    #[wasm_bindgen(js_name = setWorkers)]
    pub fn set_workers(&mut self, workers: usize) {
        self.local
            .set_active_ml_modules(clock::now(), workers, &mut self.actions);
        self.act();
    }

    /// The volunteer lets each ML module compute for so many percent of its time, from 1 to 100.
    #[wasm_bindgen(js_name = setDuty)]
    pub fn set_duty(&mut self, percent: u8) {
        self.local.set_duty(clock::now(), percent, &mut self.actions);
        self.act();
    }

    /// The volunteer leaves.
    pub fn leave(&mut self) {
        self.local.leave(clock::now(), &mut self.actions);
        self.act();
    }

    /// The ML worker of this ML module has raised an error event, and was terminated.
    #[wasm_bindgen(js_name = onMlModuleDied)]
    pub fn on_ml_module_died(&mut self, ml_module: usize) {
        self.local.on_ml_module_died(clock::now(), ml_module, &mut self.actions);
        self.act();
    }

    /// Whether a session is open, so that ML modules can be made.
    #[wasm_bindgen(js_name = hasSession)]
    pub fn has_session(&self) -> bool {
        self.local.session().is_some()
    }

    /// A shard has arrived.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    #[wasm_bindgen(js_name = storeShard)]
    pub fn store_shard(&mut self, index: usize, bytes: &[u8]) -> Result<(), String> {
        let outcome = self.membership.store_shard(index, bytes);
        self.act();
        outcome.map_err(|error| error.to_string())
    }

    /// Makes an ML module and says where it lies in the shared memory, for an ML worker to run; once for each.
    #[wasm_bindgen(js_name = makeMlModule)]
    pub fn make_ml_module(&mut self, ml_module: usize) -> Option<usize> {
        self.membership.ml_module(ml_module).map(Passage::leave)
    }

    /// What it does, in one word: `connecting`, `training`, `paused` or `reconnecting`.
    pub fn state(&self) -> String {
        let word = match (self.local.link_state(), self.local.session()) {
            (LinkState::Welcomed, _) if self.local.is_paused() => "paused",
            (LinkState::Welcomed, _) => "training",
            (_, None) => "connecting",
            (_, Some(_)) => "reconnecting",
        };
        word.to_owned()
    }

    /// How much this tab has done, as JSON.
    pub fn progress(&mut self) -> String {
        let memory = self.local.memory();
        let progress: Vec<_> = (0..memory.ml_modules())
            .map(|ml_module| memory.progress(ml_module))
            .collect();
        let samples = progress.iter().map(|of| of.samples).sum();
        self.measure(samples);
        let ml_modules = progress.iter().map(|of| {
            let time = of.time_us;
            let total = (time.gradient + time.add + time.read + time.wait).max(1) as f64;
            MlModuleProgress {
                samples: of.samples,
                steps: of.steps,
                time: Shares {
                    gradient: time.gradient as f64 / total,
                    add: time.add as f64 / total,
                    read: time.read as f64 / total,
                    wait: time.wait as f64 / total,
                },
            }
        });
        let progress = Progress {
            session: self
                .local
                .session()
                .map_or_else(String::new, |session| session.0.to_string()),
            samples,
            accepted: self.local.accepted_samples(),
            samples_per_second: self.samples_per_second,
            version: self.local.memory().published().map_or(0, |stamp| stamp.version),
            ml_modules: ml_modules.collect(),
        };
        serde_json::to_string(&progress).unwrap_or_default()
    }

    fn measure(&mut self, samples: u64) {
        /// Long enough to be steady to the eye, short enough to follow a pause.
        const MEMORY_SECONDS: f64 = 2.0;
        let now = clock::now().as_micros() as f64 / 1e6;
        let (then, samples_then) = self.samples_before;
        let elapsed = (now - then).max(1e-3);
        let share = elapsed / (elapsed + MEMORY_SECONDS);
        self.samples_per_second += share * ((samples - samples_then) as f64 / elapsed - self.samples_per_second);
        self.samples_before = (now, samples);
    }

    fn act(&mut self) {
        for action in self.actions.drain(..) {
            match action {
                Action::Connect => self.host.connect(),
                Action::Send(frame) => self.host.send(frame.as_ptr(), frame.len()),
                Action::SendContribution { sequence } => {
                    if let Some(frame) = self.local.contribution_frame(sequence) {
                        self.host.send(frame.as_ptr(), frame.len());
                    }
                }
                Action::Disconnect => self.host.disconnect(),
                Action::SessionOpened(session) => {
                    self.membership.on_session_opened(session);
                    self.host.session_opened();
                }
                Action::Ended(End::StartAfresh(refusal)) => self.host.ended("afresh", &refusal.to_string()),
                Action::Ended(End::MlModuleDied) => self.host.ended("afresh", "an ML worker died"),
                Action::Ended(End::Refused(Refusal::Finished)) => self.host.ended("finished", ""),
                Action::Ended(End::Refused(refusal)) => self.host.ended("refused", &refusal.to_string()),
                Action::Ended(End::Left) => self.host.ended("left", ""),
            }
        }
        if let Some(index) = self.membership.shard_to_fetch() {
            self.host
                .fetch_shard(index, self.membership.shard_name(index).unwrap_or_default());
        }
    }
}
