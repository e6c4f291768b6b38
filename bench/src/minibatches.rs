//! What a small minibatch costs: the time that one takes in a tab of one ML module, and from that its overhead, which a
//! scenario of `superstep simulate` is given as `minibatch_overhead_samples`.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;

use crate::engine::stopwatch::median;
use crate::stragglers::crowd;
use crate::stragglers::{RUNS, seldom};

/// Samples of a minibatch.
const SIZES: [u64; 3] = [2, 8, 32];
/// In turn, so that a machine's moods hit all alike.
const ROUNDS: usize = 2;
const MEASURE: Duration = Duration::from_secs(4);

pub(crate) fn measure() -> Result<String> {
    let mut table = format!(
        "## What a small minibatch costs\n\nOne tab, one ML module, read out every 2 s; medians of {ROUNDS} rounds in \
         turn. A minibatch of n takes o + c·n: the overhead is o / c, \
         from a fit of least relative squares.\n\n\
         | run | samples of a minibatch | ms | samples/s while it computes | overhead, samples \
         |\n|---|---|---|---|---|\n"
    );
    for run in &RUNS {
        let mut times = SIZES.map(|_| Vec::new());
        for round in 1..=ROUNDS {
            for (size, times) in SIZES.into_iter().zip(&mut times) {
                let crowd = crowd::measure(seldom(run, size)?, &[100], MEASURE)?;
                let seconds = size as f64 / crowd.speeds[0];
                eprintln!("{round}/{ROUNDS} {} {size}: {:.3} ms", run.file, seconds * 1e3);
                times.push(seconds);
            }
        }
        let points: Vec<(f64, f64)> = SIZES
            .into_iter()
            .zip(times)
            .map(|(size, times)| (size as f64, median(times)))
            .collect();
        let (fixed, each) = line(&points);
        for (place, (size, seconds)) in points.iter().enumerate() {
            let overhead = if place == 0 {
                format!("{:.2}", fixed / each)
            } else {
                String::new()
            };
            writeln!(
                table,
                "| {} | {size} | {:.3} | {:.0} | {overhead} |",
                run.file.trim_end_matches(".toml"),
                seconds * 1e3,
                size / seconds,
            )?;
        }
    }
    Ok(table)
}

/// a and b of the line y = a + b·x that has the least sum of ((a + b·x − y) / y)².
fn line(points: &[(f64, f64)]) -> (f64, f64) {
    let sum = |term: fn(f64, f64) -> f64| points.iter().map(|(x, y)| term(*x, *y) / (y * y)).sum::<f64>();
    let (one, x, xx) = (sum(|_, _| 1.0), sum(|x, _| x), sum(|x, _| x * x));
    let (y, xy) = (sum(|_, y| y), sum(|x, y| x * y));
    let slope = (one * xy - x * y) / (one * xx - x * x);
    ((y - slope * x) / one, slope)
}
