//! What more ML modules in one tab bring, and what memory they take.

use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::program::root;
use tests::run_file::RunText;
use tests::server::Serve;

use crate::engine::stopwatch::median;

/// Each number of ML modules has so many turns, one after the other, so that a machine's moods hit all alike.
const ROUNDS: usize = 3;
/// Until shards have come and the processor has its pace.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURE: Duration = Duration::from_secs(15);
const RUNS: [&str; 2] = ["runs/fashion-mnist.toml", "bench/mlp.toml"];
/// The browser says what a page and its workers take, shared memory too, once it has collected its garbage.
const MEMORY: &str = "return performance.measureUserAgentSpecificMemory().then((measured) => measured.bytes)";

/// What one tab did.
struct Figure {
    samples_per_second: f64,
    bytes: f64,
}

pub(crate) fn measure() -> Result<String> {
    let cores = std::thread::available_parallelism()?.get();
    let mut table = format!(
        "## ML modules in one tab\n\nOne tab, decoupled; medians of {ROUNDS} rounds in turn. The server has no core to itself where all \
         cores have an ML module. Memory is the page's and its workers', as the browser counts it.\n\n\
         | run | ML modules | samples/s | of one | memory, MB | more than with one |\n|---|---|---|---|---|---|\n"
    );
    for run in RUNS {
        let mut turns: Vec<Vec<Figure>> = (0..cores).map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (index, turns) in turns.iter_mut().enumerate() {
                turns.push(tab(run, index + 1).with_context(|| format!("{run}, {} ML modules", index + 1))?);
            }
        }
        let medians = turns.iter().map(|turns| Figure {
            samples_per_second: median(turns.iter().map(|turn| turn.samples_per_second).collect()),
            bytes: median(turns.iter().map(|turn| turn.bytes).collect()),
        });
        let medians: Vec<Figure> = medians.collect();
        for (index, figure) in medians.iter().enumerate() {
            writeln!(
                table,
                "| `{run}` | {} | {:.0} | {:.2} | {:.1} | {:.1} |",
                index + 1,
                figure.samples_per_second,
                figure.samples_per_second / medians[0].samples_per_second,
                figure.bytes / 1e6,
                (figure.bytes - medians[0].bytes) / 1e6,
            )?;
        }
    }
    Ok(table)
}

fn tab(run: &str, ml_modules: usize) -> Result<Figure> {
    let mut server = Serve::kiosk().run(RunText::read(&root().join(run))?).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = driver.open(&server.joining_url(ml_modules))?;
    server.wait_for_contributors(1)?;
    sleep(WARM_UP);
    let (began, before) = (Instant::now(), server.samples()?);
    sleep(MEASURE);
    let (seconds, samples) = (began.elapsed().as_secs_f64(), server.samples()? - before);
    // Its garbage is collected when nothing else wants the cores.
    tab.press("pause")?;
    let bytes = tab.execute(MEMORY)?;
    server.kill()?;
    Ok(Figure {
        samples_per_second: samples as f64 / seconds,
        bytes: bytes.as_f64().context("the memory in bytes")?,
    })
}
