//! `make bench`: measures real tabs in a headless browser against the built binary, and writes `bench/RESULTS.md`.
//!
//! - [`fashion_mnist`]: two tabs against plain training on one thread: time and samples to an accuracy.
//! - [`time_shares`]: what an ML module spends its time with.
//! - [`first_gradient`]: from opening the page to the first gradient; the wasm package's size.
//!
//! Without an argument all of them; with names, those, printed only.

mod fashion_mnist;
mod first_gradient;
mod machine;
mod time_shares;

use anyhow::{Result, bail};
use tests::program::root;

fn main() -> Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let all = ["first-gradient", "time-shares", "fashion-mnist"].map(str::to_owned);
    let chosen = if names.is_empty() { &all[..] } else { &names };
    let mut results = machine::description()?;
    println!("{results}");
    for name in chosen {
        let table = match name.as_str() {
            "first-gradient" => first_gradient::measure()?,
            "time-shares" => time_shares::measure()?,
            "fashion-mnist" => fashion_mnist::measure()?,
            other => bail!("{other}: there are {}", all.join(", ")),
        };
        println!("{table}");
        results.push('\n');
        results.push_str(&table);
    }
    if names.is_empty() {
        std::fs::write(root().join("bench/RESULTS.md"), results)?;
    }
    Ok(())
}
