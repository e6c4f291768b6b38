//! The simulator for a page: `web/simulation.js` lets a run with faults pass, and shows it.
//!
//! What it gives are the structs of [`simulator::fault_run::view`] and [`simulator::fault_run::Entry`] as JSON; their
//! types are in `web/types.d.ts`. A run that meets an assertion of the code traps, since panics of this package do.

use bsp::time::Time;
use simulator::fault_run::FaultRun;
use simulator::fault_run::view::View;
use wasm_bindgen::prelude::wasm_bindgen;

/// A run with faults.
#[wasm_bindgen]
pub struct Simulation {
    run: FaultRun,
}

#[wasm_bindgen]
impl Simulation {
    /// The run of this seed, at its beginning.
    #[wasm_bindgen(constructor)]
    pub fn new(seed: u64) -> Simulation {
        Simulation {
            run: FaultRun::new(seed),
        }
    }

    /// Lets virtual time pass until `seconds` after the beginning, or until the end. No time passes if that is over.
    #[wasm_bindgen(js_name = advanceTo)]
    pub fn advance_to(&mut self, seconds: f64) {
        // The cast saturates: what is no time is the beginning, and too much is the end.
        self.run.run_until(Time::from_micros((seconds * 1e6) as u64));
    }

    /// Lets the next events happen, `count` of them, or as many as there are until the end.
    #[wasm_bindgen(js_name = advanceBy)]
    pub fn advance_by(&mut self, count: u32) {
        for _ in 0..count {
            if !self.run.step(Time::from_micros(u64::MAX)) {
                return;
            }
        }
    }

    /// Lets virtual time pass until the log has an entry more, or until the end.
    #[wasm_bindgen(js_name = advanceToNextEntry)]
    pub fn advance_to_next_entry(&mut self) {
        let entries = self.entries();
        while self.entries() == entries && self.run.step(Time::from_micros(u64::MAX)) {}
    }

    /// The run as it is now: a `SimulatedRun`, as JSON.
    pub fn view(&self) -> String {
        serde_json::to_string(&View::of(&self.run)).unwrap_or_default()
    }

    /// The entries of the log behind the first `known`: a list of `SimulatedEvent`, as JSON.
    pub fn log(&self, known: usize) -> String {
        let entries = self.run.world().observer.log.entries();
        serde_json::to_string(entries.get(known..).unwrap_or_default()).unwrap_or_default()
    }

    fn entries(&self) -> usize {
        self.run.world().observer.log.entries().len()
    }
}
