//! What an ML module spends its time with, in decoupled mode: one tab, one ML module, as the server's `volunteers`
//! says.

use std::fmt::Write;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::program::root;
use tests::run_file::RunText;
use tests::server::Serve;
use tests::tab::Tab;

/// How long each run trains: long after its first superstep.
const MEASURE: Duration = Duration::from_secs(20);
const RUNS: [&str; 3] = ["runs/fashion-mnist.toml", "bench/mlp.toml", "runs/digits.toml"];

pub(crate) fn measure() -> Result<String> {
    let mut table = String::from(
        "## What an ML module spends its time with\n\nOne tab, one ML module, decoupled; shares of its time.\n\n\
         | run | gradient | add | read | wait | samples/s |\n|---|---|---|---|---|---|\n",
    );
    for run in RUNS {
        let mut server = Serve::kiosk().run(RunText::read(&root().join(run))?).start()?;
        let driver = Driver::start(Browser::Chromium)?;
        let _tab = Tab::open(&driver, &server.joining_url(1))?;
        server.wait_for_contributors(1)?;
        sleep(MEASURE);
        let volunteers = server.ask("volunteers")?;
        let volunteer = volunteers.get(0).context("the tab has left")?;
        let percent = |phase: &str| volunteer["time"][phase].as_f64().unwrap_or(f64::NAN) * 100.0;
        writeln!(
            table,
            "| `{run}` | {:.2} % | {:.2} % | {:.3} % | {:.3} % | {:.0} |",
            percent("gradient"),
            percent("add"),
            percent("read"),
            percent("wait"),
            volunteer["samples_per_second"].as_f64().unwrap_or(f64::NAN),
        )?;
        server.kill()?;
    }
    Ok(table)
}
