//! What more ML modules in one tab bring, and what memory they take.

use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::program::root;
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};
use tests::tab::Tab;

use crate::engine::stopwatch::median;

/// The turns of each number of ML modules. The numbers take turns, so that a machine's moods hit all alike.
const ROUNDS: usize = 3;
/// Until shards have come and the processor has its pace.
const WARM_UP: Duration = Duration::from_secs(5);
const MEASURE: Duration = Duration::from_secs(10);
/// A tab that contributes nothing for this long has died.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the server is asked.
const POLL: Duration = Duration::from_millis(2);
const RUNS: [&str; 2] = ["runs/fashion-mnist.toml", "bench/mlp.toml"];

/// As both files have it, and longer than a turn: the server's evaluations want a core too.
const INTERVAL: [&str; 2] = ["interval_seconds = 5", "interval_seconds = 60"];
/// As both files have it, and long enough that it hardly matters that the server has no core to itself.
const PERIODS: [(&str, &str); 2] = [("20 ms", "min_period_ms = 20"), ("1 s", "min_period_ms = 1000")];

/// What one tab did.
struct Figure {
    samples_per_second: f64,
    /// What the browser's process for the page holds.
    bytes: f64,
    /// What it reserved in the shared memory: for the tab, and for each ML module.
    reserved: [f64; 2],
}

pub(crate) fn measure() -> Result<String> {
    let cores = std::thread::available_parallelism()?.get();
    let mut table = format!(
        "## ML modules in one tab\n\nOne tab, decoupled; medians of {ROUNDS} rounds in turn. The server evaluates \
         nothing meanwhile, but has no core \
         to itself where all have an ML module. Reserved is the shared memory; held, what the browser's process for \
         the page \
         takes, with all that a browser needs for any page.\n\n\
         | run | shortest period | ML modules | samples/s | of one | MB reserved for the tab | for each ML module | \
         MB held |\n|---|---|---|---|---|---|---|---|\n"
    );
    for (run, (period, key)) in RUNS.into_iter().flat_map(|run| PERIODS.map(|period| (run, period))) {
        let mut turns: Vec<Vec<Figure>> = (0..cores).map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (index, turns) in turns.iter_mut().enumerate() {
                turns.push(tab(run, key, index + 1).with_context(|| format!("{run}, {} ML modules", index + 1))?);
            }
        }
        let medians = turns.iter().map(|turns| Figure {
            samples_per_second: median(turns.iter().map(|turn| turn.samples_per_second).collect()),
            bytes: median(turns.iter().map(|turn| turn.bytes).collect()),
            reserved: turns[0].reserved,
        });
        let medians: Vec<Figure> = medians.collect();
        for (index, figure) in medians.iter().enumerate() {
            let [tab_bytes, ml_module_bytes] = figure.reserved;
            writeln!(
                table,
                "| `{run}` | {period} | {} | {:.0} | {:.2} | {:.1} | {:.1} | {:.0} |",
                index + 1,
                figure.samples_per_second,
                figure.samples_per_second / medians[0].samples_per_second,
                tab_bytes / 1e6,
                ml_module_bytes / 1e6,
                figure.bytes / 1e6,
            )?;
        }
    }
    Ok(table)
}

fn tab(run: &str, period: &str, ml_modules: usize) -> Result<Figure> {
    let run = RunText::read(&root().join(run))?
        .with(INTERVAL[0], INTERVAL[1])?
        .with(PERIODS[0].1, period)?;
    let mut server = Serve::kiosk().run(run).start()?;
    let memory = &server.ask("run")?["memory"];
    let reserved = ["tab_bytes", "ml_module_bytes"].map(|key| whole(memory, key));
    let [tab_bytes, ml_module_bytes] = reserved;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(ml_modules))?;
    server.wait_for_contributors(1)?;
    sleep(WARM_UP);
    let (began, before) = next_contribution(&server)?;
    sleep(MEASURE);
    let (ended, after) = next_contribution(&server)?;
    let bytes = driver.bytes_of_pages()? as f64;
    tab.close()?;
    server.kill()?;
    Ok(Figure {
        samples_per_second: (after - before) as f64 / (ended - began).as_secs_f64(),
        bytes,
        reserved: [tab_bytes? as f64, ml_module_bytes? as f64],
    })
}

/// When the next one has come in, and how many samples there are then: between two such moments is what was computed
/// between two read-outs, however rare they are.
pub(crate) fn next_contribution(server: &Server) -> Result<(Instant, u64)> {
    let before = server.samples()?;
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        let samples = server.samples()?;
        if samples != before {
            return Ok((Instant::now(), samples));
        }
        sleep(POLL);
    }
    bail!("no contribution for {PATIENCE:?}")
}
