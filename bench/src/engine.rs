//! The gradient engine beside others: in a headless browser, and natively beside PyTorch.
//!
//! One measurement at a time, each free to use all cores. Engines take turns, so that a machine's moods hit all alike;
//! of an engine's turns the median counts.
//!
//! - [`browser`]: what is measured in the page of `bench/peers`, which [`site`] serves.
//! - [`native`]: ours and PyTorch, on one thread.
//! - [`stopwatch`]: how ours is timed natively, as the page and PyTorch time theirs.
//! - [`model`]: the models whose gradients are measured: `bench/models`.
//! - [`versions`]: of the peers.

mod browser;
mod model;
mod native;
mod site;
pub(crate) mod stopwatch;
mod versions;

use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use self::browser::{Engine, Page};
use self::model::Model;
use self::stopwatch::median;
use crate::machine;

const ROUNDS: usize = 3;
/// The least operations of a product's step: well over what calling it takes.
const LEAST_OPERATIONS: f64 = 1e7;
/// (rows, depth, columns, A lies transposed, B lies transposed, where it occurs)
const PRODUCTS: [(usize, usize, usize, bool, bool, &str); 9] = [
    (256, 256, 256, false, false, ""),
    (512, 512, 512, false, false, ""),
    (64, 784, 256, false, true, "MLP, forward"),
    (256, 64, 784, true, false, "MLP, backward, weights"),
    (16, 25, 784, false, false, "CNN, forward, first"),
    (16, 784, 25, false, true, "CNN, backward, first, weights"),
    (32, 400, 196, false, false, "CNN, forward, second"),
    (32, 196, 400, false, true, "CNN, backward, second, weights"),
    (400, 32, 196, true, false, "CNN, backward, second, inputs"),
];
/// As many floats as the add is told for.
const FLOATS: usize = 1_000_000;

/// What came of one measurement.
struct Figure {
    /// Samples, operations or floats.
    units_per_second: f64,
    threads: usize,
}

/// What a measurement outside this program answers.
#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Outcome {
        #[serde(alias = "unitsPerSecond")]
        units_per_second: f64,
        threads: usize,
    },
    Failure {
        error: String,
    },
}

impl Answer {
    fn into_figure(self) -> Result<Figure> {
        match self {
            Answer::Outcome {
                units_per_second,
                threads,
            } => Ok(Figure {
                units_per_second,
                threads,
            }),
            Answer::Failure { error } => bail!(error),
        }
    }
}

/// One thing to measure, again and again.
struct Entry<'a> {
    /// What its row begins with.
    subject: String,
    engine: String,
    /// Ours must work; what a peer can't do is part of the result.
    is_ours: bool,
    measure: Box<dyn Fn() -> Result<Figure> + 'a>,
}

/// An entry's median, or in its own words why there is none.
type Outcome = Result<Figure, String>;

/// Measures all of it, each for `seconds` in each round.
pub(crate) fn measure(seconds: f64) -> Result<String> {
    let models = model::all()?;
    let cores = std::thread::available_parallelism()?.get();
    let page = Page::serve(seconds)?;
    let gradients = gradients(&page, &models, cores, seconds)?;
    let products = products(&page)?;
    let add = add(&page)?;
    Ok(format!(
        "## Gradient engines side by side\n\n\
         A gradient step: forward and backward, all gradients read back; random data; after a warm-up the median of \
         windows over \
         {seconds} s, and of that the median of {ROUNDS} rounds in turn. In the browser but for the native rows, \
         which are on one thread. \
         {}; {}.\n\n{gradients}\n\
         ### Matrix products in one worker\n\n{products}\n\
         ### Adding a gradient to the aggregate, in one worker\n\n{add}",
        machine::chromium_version()?,
        versions::of_peers()?,
    ))
}

fn gradients(page: &Page, models: &[Model], cores: usize, seconds: f64) -> Result<String> {
    let entries: Vec<Entry<'_>> = models
        .iter()
        .flat_map(|model| gradients_of(page, model, cores, seconds))
        .collect();
    gradient_table(&entries, &take_turns(&entries)?)
}

/// One model's gradient steps by all that can be asked for them.
fn gradients_of<'a>(page: &'a Page, model: &'a Model, cores: usize, seconds: f64) -> Vec<Entry<'a>> {
    let entry = |engine: String, is_ours, measure| Entry {
        subject: model.title().to_owned(),
        engine,
        is_ours,
        measure,
    };
    let in_browser = |engine: Engine| {
        let measure = Box::new(move || page.gradient(engine, model));
        entry(
            engine.name(),
            engine.is_ours(),
            measure as Box<dyn Fn() -> Result<Figure>>,
        )
    };
    let ours = [Engine::Ours { workers: 1 }, Engine::Ours { workers: cores }];
    let peers: &[Engine] = match model.browser_peers {
        true => &[
            Engine::TensorFlowWasm,
            Engine::TensorFlowCpu,
            Engine::JaxJs,
            Engine::Burn,
            Engine::Candle,
        ],
        false => &[],
    };
    let natively = [
        entry(
            "ours, native".into(),
            true,
            Box::new(move || native::ours(model, seconds)),
        ),
        entry(
            "PyTorch, native".into(),
            false,
            Box::new(move || native::pytorch(model, seconds)),
        ),
    ];
    let all_in_browser = ours.iter().chain(peers).copied().map(in_browser);
    all_in_browser.chain(natively).collect()
}

fn products(page: &Page) -> Result<String> {
    let entry = |subject: String, engine: &str, measure| Entry {
        subject,
        engine: engine.to_owned(),
        is_ours: true,
        measure,
    };
    let peak = || page.work("Peak", &[LEAST_OPERATIONS.into()]);
    let mut entries = vec![entry("registers alone: the peak".into(), "", Box::new(peak))];
    for (rows, depth, columns, is_a_transposed, is_b_transposed, place) in PRODUCTS {
        let transposed = |is_transposed| if is_transposed { "ᵀ" } else { "" };
        let (a, b) = (transposed(is_a_transposed), transposed(is_b_transposed));
        let repeats = (LEAST_OPERATIONS / (2 * rows * depth * columns) as f64).ceil();
        let measure = move || {
            let sizes = [rows, depth, columns].map(Into::into);
            let rest = [is_a_transposed.into(), is_b_transposed.into(), repeats.into()];
            page.work("Product", &[sizes, rest].concat())
        };
        entries.push(entry(
            format!("A{a}·B{b} {rows}×{depth}×{columns}"),
            place,
            Box::new(measure),
        ));
    }
    let outcomes = take_turns(&entries)?;
    let mut table = String::from("| product | where | GFLOP/s | of the peak |\n|---|---|---|---|\n");
    let peak = units_per_second(&outcomes[0]);
    for (Entry { subject, engine, .. }, outcome) in entries.iter().zip(&outcomes) {
        let rate = units_per_second(outcome);
        writeln!(
            table,
            "| {subject} | {engine} | {:.1} | {:.0} % |",
            rate / 1e9,
            rate / peak * 100.0
        )?;
    }
    Ok(table)
}

fn add(page: &Page) -> Result<String> {
    let ways = [
        ("check, lease, sum", "LeasedAdd"),
        ("compare-and-swap on each", "SwappedAdd"),
    ];
    let entries = ways.map(|(subject, work)| Entry {
        subject: subject.to_owned(),
        engine: String::new(),
        is_ours: true,
        measure: Box::new(move || page.work(work, &[FLOATS.into()])),
    });
    let outcomes = take_turns(&entries)?;
    let mut table = String::from("| how | ms per million floats | of the first |\n|---|---|---|\n");
    let first = units_per_second(&outcomes[0]);
    for (entry, outcome) in entries.iter().zip(&outcomes) {
        let rate = units_per_second(outcome);
        writeln!(table, "| {} | {:.3} | {:.1} |", entry.subject, 1e9 / rate, first / rate)?;
    }
    Ok(table)
}

/// Measures all entries once, then all again: no two at a time.
fn take_turns(entries: &[Entry<'_>]) -> Result<Vec<Outcome>> {
    let mut turns: Vec<Result<Vec<Figure>, String>> = entries.iter().map(|_| Ok(Vec::new())).collect();
    for round in 1..=ROUNDS {
        for (entry, turns) in entries.iter().zip(&mut turns) {
            let Ok(figures) = turns else { continue };
            let name = [entry.subject.as_str(), entry.engine.as_str()].join(" ");
            eprint!("{round}/{ROUNDS} {name}: ");
            match (entry.measure)() {
                Ok(figure) => {
                    eprintln!("{:.3e} per second on {}", figure.units_per_second, figure.threads);
                    figures.push(figure);
                }
                Err(error) if entry.is_ours => return Err(error).context(name),
                Err(error) => {
                    eprintln!("{error:#}");
                    *turns = Err(format!("{error:#}"));
                }
            }
        }
    }
    let outcomes = turns.into_iter().map(|figures| {
        let figures = figures?;
        let rates = figures.iter().map(|figure| figure.units_per_second).collect();
        let threads = figures.first().map_or(0, |figure| figure.threads);
        Ok(Figure {
            units_per_second: median(rates),
            threads,
        })
    });
    Ok(outcomes.collect())
}

/// A row for each entry; a column for each of ours, by which the others are measured.
fn gradient_table(entries: &[Entry<'_>], outcomes: &[Outcome]) -> Result<String> {
    let subject = entries.first().map(|entry| &entry.subject);
    let ours: Vec<&str> = entries
        .iter()
        .filter(|entry| entry.is_ours && Some(&entry.subject) == subject)
        .map(|entry| entry.engine.as_str())
        .collect();
    ensure!(!ours.is_empty(), "a table compares with ours");
    let heads: String = ours.iter().map(|name| format!(" {name} / it |")).collect();
    let mut table = format!("| model | engine | threads | samples/s |{heads}\n|---|---|---|---|");
    writeln!(table, "{}", "---|".repeat(ours.len()))?;
    for (entry, outcome) in entries.iter().zip(outcomes) {
        let Entry { subject, engine, .. } = entry;
        match outcome {
            Ok(figure) => {
                let rate = figure.units_per_second;
                write!(table, "| {subject} | {engine} | {} | {rate:.0} |", figure.threads)?;
                for name in &ours {
                    let beside = entries
                        .iter()
                        .position(|other| other.subject == *subject && other.engine == *name);
                    let beside = beside.context("each model is measured with ours")?;
                    write!(table, " {:.2} |", units_per_second(&outcomes[beside]) / rate)?;
                }
                writeln!(table)?;
            }
            Err(words) => {
                let words = words
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ")
                    .replace('|', "\\|");
                writeln!(table, "| {subject} | {engine} | | {words} |{}", " |".repeat(ours.len()))?;
            }
        }
    }
    Ok(table)
}

/// Not a number where there is none.
fn units_per_second(outcome: &Outcome) -> f64 {
    outcome.as_ref().map_or(f64::NAN, |figure| figure.units_per_second)
}
