//! Three tabs of one ML module each, of which one may use a tenth of the processor time of the others: how much of what
//! they would compute alone comes into the model, decoupled and in lockstep.
//!
//! - [`crowd`]: one measurement of tabs that train together.
//! - [`simulated`]: the same in virtual time, to see whether the simulator tells the truth.
//!
//! Every measurement is also a line of JSON in `target/stragglers.jsonl`, so that more can be made of them.

pub(crate) mod crowd;
mod simulated;

use std::fmt::Write;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::program::root;
use tests::run_file::RunText;

use self::crowd::Crowd;
use self::simulated::Simulated;
use crate::engine::stopwatch::median;

/// In percent; the slow tab is the last one. Together they leave more than half of two cores to the server, the browser
/// and the tabs' BSP modules, which elsewhere have cores of their own.
const CPU_PERCENTS: [u8; 3] = [40, 40, 4];
/// The turns of each measurement. Measurements take turns, so that a machine's moods hit all alike.
const ROUNDS: usize = 3;
const LINES: &str = "target/stragglers.jsonl";

/// A run, and the words of its file that are changed.
pub(crate) struct Run {
    pub(crate) file: &'static str,
    /// Evaluations want a core too.
    interval: &'static str,
    minibatch: u64,
    superstep_samples: u64,
}

pub(crate) const RUNS: [Run; 2] = [
    Run {
        file: "digits.toml",
        interval: "interval_seconds = 1",
        minibatch: 16,
        superstep_samples: 128,
    },
    Run {
        file: "fashion-mnist.toml",
        interval: "interval_seconds = 5",
        minibatch: 32,
        superstep_samples: 512,
    },
];

/// How tabs are measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Read out so seldom that it costs nothing: what is computed, whatever becomes of it.
    Seldom,
    /// The same with minibatches as large as those of [`How::LockstepOfFullSupersteps`], which are faster.
    SeldomLarge,
    /// As the run file says.
    Decoupled,
    /// Plain bulk-synchronous training: a minibatch of each for every version.
    Lockstep,
    /// The same with minibatches that make a superstep as large as the run file says.
    LockstepOfFullSupersteps,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            How::Seldom => "read out every 2 s",
            How::SeldomLarge => "read out every 2 s, large minibatches",
            How::Decoupled => "decoupled",
            How::Lockstep => "lockstep",
            How::LockstepOfFullSupersteps => "lockstep, full supersteps",
        }
    }

    fn run(self, run: &Run) -> Result<RunText> {
        let minibatch = self.minibatch(run);
        match self {
            How::Seldom | How::SeldomLarge => seldom(run, minibatch),
            How::Decoupled => undisturbed(run, minibatch),
            How::Lockstep | How::LockstepOfFullSupersteps => {
                undisturbed(run, minibatch)?.with("[training]\n", "[training]\nmode = \"lockstep\"\n")
            }
        }
    }

    fn minibatch(self, run: &Run) -> u64 {
        match self {
            How::SeldomLarge | How::LockstepOfFullSupersteps => {
                run.superstep_samples.div_ceil(CPU_PERCENTS.len() as u64)
            }
            _ => run.minibatch,
        }
    }

    /// The same minibatches, read out seldom: what the others are compared with.
    fn seldom(self) -> How {
        match self {
            How::Seldom | How::Decoupled | How::Lockstep => How::Seldom,
            How::SeldomLarge | How::LockstepOfFullSupersteps => How::SeldomLarge,
        }
    }

    /// The slow tab takes a second and more for a large minibatch.
    fn is_measured_for(self) -> Duration {
        match self {
            How::Seldom | How::Decoupled | How::Lockstep => Duration::from_secs(12),
            How::SeldomLarge | How::LockstepOfFullSupersteps => Duration::from_secs(20),
        }
    }
}

/// The run with other minibatches and without evaluations.
fn undisturbed(run: &Run, minibatch: u64) -> Result<RunText> {
    RunText::of_runs(run.file)?
        .with(run.interval, "interval_seconds = 86400")?
        .with(
            &format!("\nminibatch = {}\n", run.minibatch),
            &format!("\nminibatch = {minibatch}\n"),
        )
}

/// The same, read out so seldom that it costs nothing.
pub(crate) fn seldom(run: &Run, minibatch: u64) -> Result<RunText> {
    undisturbed(run, minibatch)?.with("min_period_ms = 20", "min_period_ms = 2000")
}

/// What was measured in one round.
struct Round {
    /// Each tab alone.
    alone: Vec<Crowd>,
    together: Vec<Crowd>,
}

/// All of [`How`], for the three together: what is compared, one right after the other.
const TOGETHER: [How; 5] = [
    How::Decoupled,
    How::Seldom,
    How::Lockstep,
    How::SeldomLarge,
    How::LockstepOfFullSupersteps,
];

pub(crate) fn measure() -> Result<String> {
    let lines = root().join(LINES);
    fs::write(&lines, "").with_context(|| lines.display().to_string())?;
    let [fast, _, slow] = CPU_PERCENTS;
    let mut table = format!(
        "## Three tabs, one of them ten times slower\n\n\
         One ML module each, which may compute for {fast}, {fast} and {slow} % of the time; medians of {ROUNDS} \
         rounds in turn, after a warm-up. \
         Counted are samples in closed supersteps. Goodput is their share of what the tabs come to alone, one at a \
         time and read out every 2 s; \
         and of what they come to together in such minibatches, read out as seldom, which leaves out what it costs to \
         share two cores. Waiting is a share of \
         an ML module's time without its rests. Full supersteps, large minibatches: a third of what the run's \
         supersteps aim at. \
         Simulated: `superstep simulate`, given these shares of the time, and the time that a minibatch took each of \
         the three in the run itself.\n\n\
         | run | how | samples/s | of each tab | goodput, of alone | of together | supersteps/s | samples each | \
         staleness, versions | period | fast tabs wait | slow tab waits | simulated, of measured |\n\
         |---|---|---|---|---|---|---|---|---|---|---|---|---|\n"
    );
    for run in &RUNS {
        let mut rounds = Vec::new();
        for number in 1..=ROUNDS {
            rounds.push(round(run, number).with_context(|| run.file)?);
        }
        write_rows(&mut table, run, &rounds)?;
    }
    Ok(table)
}

fn round(run: &Run, number: usize) -> Result<Round> {
    let measure = |how: How, cpu_percents: &[u8]| -> Result<Crowd> {
        let name = if cpu_percents.len() == 1 { "alone" } else { how.name() };
        eprint!("{number}/{ROUNDS} {} {name} {cpu_percents:?}: ", run.file);
        let crowd = crowd::measure(how.run(run)?, cpu_percents, how.is_measured_for()).context(name)?;
        eprintln!("{:.0} samples/s", crowd.samples_per_second);
        let line = crowd.line(run.file, name, number, how.minibatch(run));
        append(&line)?;
        Ok(crowd)
    };
    let alone = CPU_PERCENTS.iter().map(|percent| measure(How::Seldom, &[*percent]));
    let alone = alone.collect::<Result<_>>()?;
    let together = TOGETHER.iter().map(|how| measure(*how, &CPU_PERCENTS));
    let together = together.collect::<Result<_>>()?;
    Ok(Round { alone, together })
}

fn append(line: &str) -> Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new().append(true).open(root().join(LINES))?;
    Ok(writeln!(file, "{line}")?)
}

impl Round {
    fn alone(&self) -> f64 {
        self.alone.iter().map(|crowd| crowd.samples_per_second).sum()
    }
}

fn write_rows(table: &mut String, run: &Run, rounds: &[Round]) -> Result<()> {
    let middle = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
    let each = |figure: &dyn Fn(&Round, usize) -> f64| {
        let medians = (0..CPU_PERCENTS.len()).map(|tab| format!("{:.0}", middle(&|round| figure(round, tab))));
        medians.collect::<Vec<_>>().join(", ")
    };
    let name = run.file.trim_end_matches(".toml");
    writeln!(
        table,
        "| {name} | each alone | {:.0} | {} | | | | | | | | | |",
        middle(&Round::alone),
        each(&|round, tab| round.alone[tab].samples_per_second),
    )?;
    for (row, how) in TOGETHER.into_iter().enumerate() {
        let together = |figure: fn(&Crowd) -> f64| middle(&|round| figure(&round.together[row]));
        // In lockstep read-outs do not follow the clock.
        let period = match how {
            How::Seldom | How::SeldomLarge | How::Decoupled => {
                format!("{:.0} ms", together(|crowd| crowd.period_seconds) * 1e3)
            }
            How::Lockstep | How::LockstepOfFullSupersteps => String::new(),
        };
        let of_alone = middle(&|round| round.together[row].samples_per_second / round.alone());
        let seldom = TOGETHER.iter().position(|other| *other == how.seldom()).unwrap_or(row);
        let of_together =
            middle(&|round| round.together[row].samples_per_second / round.together[seldom].samples_per_second);
        writeln!(
            table,
            "| {name} | {} | {:.0} | {} | {:.1} % | {:.1} % | {:.2} | {:.0} | {:.2} | {period} | {:.1} % | {:.1} % | |",
            how.name(),
            together(|crowd| crowd.samples_per_second),
            each(&|round, tab| round.together[row].of_each_tab[tab]),
            of_alone * 100.0,
            of_together * 100.0,
            together(|crowd| crowd.supersteps_per_second),
            together(|crowd| crowd.superstep_samples),
            together(|crowd| crowd.staleness),
            together(|crowd| (crowd.waiting[0] + crowd.waiting[1]) / 2.0) * 100.0,
            together(|crowd| crowd.waiting[2]) * 100.0,
        )?;
        if seldom == row {
            continue;
        }
        let simulated = rounds
            .iter()
            .map(|round| simulated::simulate(&how.run(run)?, &round.together[row].speeds));
        let simulated: Vec<Simulated> = simulated.collect::<Result<_>>()?;
        let middle_simulated = |figure: fn(&Simulated) -> f64| median(simulated.iter().map(figure).collect());
        let measured = rounds.iter().map(|round| round.together[row].samples_per_second);
        let of_measured = simulated
            .iter()
            .zip(measured)
            .map(|(simulated, measured)| simulated.samples_per_second / measured);
        writeln!(
            table,
            "| {name} | {}, simulated | {:.0} | | | | {:.2} | {:.0} | {:.2} | | | | {:.2} |",
            how.name(),
            middle_simulated(|s| s.samples_per_second),
            middle_simulated(|s| s.samples_per_second / s.superstep_samples),
            middle_simulated(|s| s.superstep_samples),
            middle_simulated(|s| s.staleness),
            median(of_measured.collect()),
        )?;
    }
    Ok(())
}
