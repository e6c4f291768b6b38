//! What is measured in the page of `bench/peers`: each time in a fresh headless browser.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::program::root;
use tests::tab::Tab;

use super::model::Model;
use super::site::Site;
use super::{Answer, Figure};

const SEED: u32 = 1;
/// `bench/engine-wasm`
const OURS: &str = "ours/engine_wasm.js";
/// `bench/peers/rust`
const RUST_PEERS: &str = "rust/rust_peers.js";
/// Beside the measurement itself: loading, compiling, a warm-up and a slow engine's last window.
const PATIENCE: Duration = Duration::from_secs(180);

/// Which engine computes the gradient.
#[derive(Clone, Copy)]
pub(crate) enum Engine {
    /// `nn`, in this many workers at once.
    Ours {
        /// Each computes on one core.
        workers: usize,
    },
    TensorFlowWasm,
    TensorFlowCpu,
    JaxJs,
    Burn,
    Candle,
}

impl Engine {
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Engine::Ours { .. })
    }

    /// What tables call it.
    pub(crate) fn name(self) -> String {
        match self {
            Engine::Ours { workers: 1 } => "ours, one worker".to_owned(),
            Engine::Ours { workers } => format!("ours, {workers} workers"),
            Engine::TensorFlowWasm => "TensorFlow.js, wasm".to_owned(),
            Engine::TensorFlowCpu => "TensorFlow.js, cpu".to_owned(),
            Engine::JaxJs => "jax-js, wasm, jit".to_owned(),
            Engine::Burn => "burn, flex, wasm".to_owned(),
            Engine::Candle => "candle, wasm".to_owned(),
        }
    }
}

/// Browsers for the page, and its server.
pub(crate) struct Page {
    site: Site,
    seconds: f64,
}

impl Page {
    /// Starts the server; each measurement takes `seconds`, and its warm-up.
    pub(crate) fn serve(seconds: f64) -> Result<Page> {
        let folder = root().join("target/engine");
        ensure!(
            folder.join("index.html").exists(),
            "{}: nothing to measure there; run `make engine` first",
            folder.display()
        );
        Ok(Page {
            site: Site::start(folder)?,
            seconds,
        })
    }

    /// Samples per second of gradient steps.
    pub(crate) fn gradient(&self, engine: Engine, model: &Model) -> Result<Figure> {
        let parameters = model.build()?.parameter_count();
        let in_wasm = |module, work, workers| {
            let arguments = [model.spec.to_string().into(), model.batch.into(), SEED.into()];
            self.wasm_request(module, work, &arguments, Some(parameters), workers)
        };
        let by_library = |engine| {
            json!({
                "engine": engine,
                "model": model.spec,
                "batch": model.batch,
                "seed": SEED,
                "parameters": parameters,
                "seconds": self.seconds,
            })
        };
        self.measure(&match engine {
            Engine::Ours { workers } => in_wasm(OURS, "GradientStep", workers),
            Engine::Burn => in_wasm(RUST_PEERS, "BurnStep", 1),
            Engine::Candle => in_wasm(RUST_PEERS, "CandleStep", 1),
            Engine::TensorFlowWasm => by_library("tfjs-wasm"),
            Engine::TensorFlowCpu => by_library("tfjs-cpu"),
            Engine::JaxJs => by_library("jax"),
        })
    }

    /// Units per second of other work of `bench/engine-wasm`, in one worker.
    pub(crate) fn work(&self, work: &str, arguments: &[Value]) -> Result<Figure> {
        self.measure(&self.wasm_request(OURS, work, arguments, None, 1))
    }

    fn wasm_request(
        &self,
        module: &str,
        work: &str,
        arguments: &[Value],
        parameters: Option<usize>,
        workers: usize,
    ) -> Value {
        json!({
            "engine": "wasm",
            "module": module,
            "work": work,
            "arguments": arguments,
            "parameters": parameters,
            "workers": workers,
            "seconds": self.seconds,
        })
    }

    fn measure(&self, request: &Value) -> Result<Figure> {
        self.site.forget_answers();
        // A fresh one: nothing of what was measured before is left, neither memory nor threads.
        let driver = Driver::start(Browser::Chromium)?;
        let tab = Tab::open(&driver, &self.site.url())?;
        tab.execute(&format!("begin({request})"))?;
        let answer = self.site.answer(PATIENCE + Duration::from_secs_f64(self.seconds))?;
        // `Outcome` in `bench/peers/types.d.ts`, or what went wrong.
        serde_json::from_str::<Answer>(&answer).context(answer)?.into_figure()
    }
}
