//! `make bench`: measures real tabs in a headless browser against the built binary, and keeps the tables in
//! `docs/measurements`, a file a sitting.
//!
//! - [`fashion_mnist`]: two tabs against plain training on one thread: time and samples to an accuracy.
//! - [`time_shares`]: what an ML module spends its time with.
//! - [`scaling`]: more ML modules in one tab, and their memory.
//! - [`minibatches`]: what a small minibatch costs.
//! - [`stragglers`]: three tabs of which one is ten times slower, decoupled and in lockstep.
//! - [`round_trips`]: what a bare peer waits for an answer, for small frames and behind large ones.
//! - [`first_gradient`]: from opening the page to the first gradient; the wasm package's size.
//! - [`frame_cost`]: what a frame costs the controller, by how many sessions there are.
//! - [`checkpoints`]: what a checkpoint every five seconds costs.
//! - [`come_and_go`]: the server's memory while two hundred native volunteers come and go; ten minutes.
//! - [`engine`]: the gradient engine beside others, in the browser and natively.
//!
//! Without an argument all of them; with names, those, printed only. `--seconds` is how long [`engine`] takes for each
//! figure in each round.

mod checkpoints;
mod come_and_go;
mod engine;
mod fashion_mnist;
mod first_gradient;
mod frame_cost;
mod machine;
mod minibatches;
mod round_trips;
mod scaling;
mod stragglers;
mod time_shares;

use anyhow::{Context, Result, bail};
use tests::program::root;

/// Windows enough that most of them are undisturbed.
const ENGINE_SECONDS: f64 = 5.0;

fn main() -> Result<()> {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let mut engine_seconds = ENGINE_SECONDS;
    if let Some(place) = names.iter().position(|name| name == "--seconds") {
        let seconds = names.get(place + 1).context("--seconds: how many?")?;
        engine_seconds = seconds.parse().with_context(|| format!("--seconds {seconds}"))?;
        names.drain(place..place + 2);
    }
    let all = [
        "first-gradient",
        "frame-cost",
        "round-trips",
        "time-shares",
        "scaling",
        "minibatches",
        "stragglers",
        "fashion-mnist",
        "checkpoints",
        "come-and-go",
        "engine",
    ]
    .map(str::to_owned);
    let chosen = if names.is_empty() { &all[..] } else { &names };
    let mut results = machine::description()?;
    println!("{results}");
    for name in chosen {
        let table = match name.as_str() {
            "first-gradient" => first_gradient::measure()?,
            "frame-cost" => frame_cost::measure()?,
            "round-trips" => round_trips::measure()?,
            "time-shares" => time_shares::measure()?,
            "scaling" => scaling::measure()?,
            "minibatches" => minibatches::measure()?,
            "stragglers" => stragglers::measure()?,
            "fashion-mnist" => fashion_mnist::measure()?,
            "checkpoints" => checkpoints::measure()?,
            "come-and-go" => come_and_go::measure()?,
            "engine" => engine::measure(engine_seconds)?,
            other => bail!("{other}: there are {}", all.join(", ")),
        };
        println!("{table}");
        results.push('\n');
        results.push_str(&table);
    }
    if names.is_empty() {
        let path = machine::free_path(&root().join("docs/measurements"))?;
        std::fs::write(&path, results).with_context(|| path.display().to_string())?;
        println!("kept in {}", path.display());
    }
    Ok(())
}
