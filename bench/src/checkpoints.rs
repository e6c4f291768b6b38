//! What checkpoints cost: goodput with one every five seconds against none, their bytes, and the time to go on.

use std::fmt::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::native_volunteer::native_volunteer;
use tests::program::root;
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};

use crate::engine::stopwatch::median;
use crate::scaling::next_contribution;

/// Turns with and without checkpoints, by turns, so that a machine's moods hit both alike.
const ROUNDS: usize = 3;
/// Until shards have come and the processor has its pace.
const WARM_UP: Duration = Duration::from_secs(5);
/// Six checkpoints.
const MEASURE: Duration = Duration::from_secs(30);

/// Models, in order of size.
const RUNS: [&str; 2] = ["bench/models/eighty-thousand.toml", "bench/models/twenty-million.toml"];

/// What a turn is about: a checkpoint every five seconds, or none at all.
const INTERVALS: [f64; 2] = [5.0, 0.0];

/// One turn of a run.
struct Turn {
    samples_per_second: f64,
    checkpoints: u64,
    bytes: u64,
    /// From the last one's beginning to its being durable, in seconds.
    writing: f64,
    /// From the start of a new server to its address, in seconds, and how much of that a new run takes.
    starting: f64,
}

pub(crate) fn measure() -> Result<String> {
    let mut table = format!(
        "## Checkpoints\n\nOne native volunteer with one ML module, decoupled; medians of {ROUNDS} rounds in turn, \
         with a checkpoint every 5 s and without any. Goodput is samples that were accepted in a second. Start is the \
         time from a server's start to its address: of a new run, and of one that goes on after `kill -9`.\n\n\
         | run | parameters | samples/s without | with | with / without | least, most | checkpoints a turn | MB each | \
         written in, s | start of a new run, s | of one that goes on, s |\n\
         |---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for run in RUNS {
        let text = RunText::read(&root().join(run))?;
        let mut turns: [Vec<Turn>; 2] = [Vec::new(), Vec::new()];
        let mut parameters = 0;
        for _ in 0..ROUNDS {
            for (turns, interval) in turns.iter_mut().zip(INTERVALS) {
                let (turn, of) = turn(&text, interval).with_context(|| format!("{run}, every {interval} s"))?;
                parameters = of;
                turns.push(turn);
            }
        }
        let [with, without] = &turns;
        let of = |turns: &[Turn], figure: fn(&Turn) -> f64| median(turns.iter().map(figure).collect());
        let ratios: Vec<f64> = with
            .iter()
            .zip(without)
            .map(|(with, without)| with.samples_per_second / without.samples_per_second)
            .collect();
        writeln!(
            table,
            "| `{run}` | {parameters} | {:.0} | {:.0} | {:.3} | {:.3}, {:.3} | {:.0} | {:.1} | {:.3} | {:.2} | {:.2} |",
            of(without, |turn| turn.samples_per_second),
            of(with, |turn| turn.samples_per_second),
            median(ratios.clone()),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
            of(with, |turn| turn.checkpoints as f64),
            of(with, |turn| turn.bytes as f64) / 1e6,
            of(with, |turn| turn.writing),
            of(without, |turn| turn.starting),
            of(with, |turn| turn.starting),
        )?;
    }
    Ok(table)
}

/// One turn, and how many parameters the model has.
fn turn(run: &RunText, interval: f64) -> Result<(Turn, u64)> {
    let run = run
        .clone()
        .and(&format!("[checkpoints]\ninterval_seconds = {interval:.1}"));
    let mut server = Serve::default().run(run.clone()).start()?;
    let parameters = whole(&server.ask("run")?, "parameters")?;
    let _volunteer = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    sleep(WARM_UP);
    let (began, before) = next_contribution(&server)?;
    sleep(MEASURE);
    let (ended, after) = next_contribution(&server)?;
    let status = server.status()?;
    ensure!(status["checkpoint_fails"] == false, "{status}");
    let state = server.state();
    server.kill()?;
    let starting = seconds_to_start(&run, &state, interval > 0.0)?;
    Ok((
        Turn {
            samples_per_second: (after - before) as f64 / (ended - began).as_secs_f64(),
            checkpoints: whole(&status, "checkpoints")?,
            bytes: whole(&status, "checkpoint_bytes")?,
            writing: status["checkpoint_took_seconds"].as_f64().context("a time")?,
            starting,
        },
        parameters,
    ))
}

/// How long a server takes to its address, that goes on with the run of this folder.
fn seconds_to_start(run: &RunText, state: &Path, goes_on: bool) -> Result<f64> {
    let serve = Serve {
        state: Some(state.to_owned()),
        ..Serve::default()
    };
    let began = Instant::now();
    let server: Server = serve.run(run.clone()).start()?;
    let seconds = began.elapsed().as_secs_f64();
    let samples = server.status()?["samples_in_model"].as_u64();
    ensure!((samples > Some(0)) == goes_on, "the model holds {samples:?} samples");
    Ok(seconds)
}
