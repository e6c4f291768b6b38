//! `superstep`: one binary that trains one neural network across the browsers of people who open a web page.
//!
//! - [`cli`]: what can be asked of it.
//! - [`run`]: what an operator gives it and takes from it: run files, data, aims, model files.
//! - [`serve`]: `superstep serve`. It starts the [`controller`] (the driver around the central BSP module, 102), the
//!   [`evaluation`] beside it, and [`http`], which serves the [`assets`], the [`api`], the [`shards`] and the
//!   [`socket`]s.
//! - [`native_volunteer`]: `superstep volunteer`, a local BSP module (103) without a browser.
//! - [`lab`]: `superstep reference`, the sequential baseline; `superstep simulate`, whole runs in virtual time;
//!   `superstep evaluate`, how a model file does.
//! - [`runs`]: `superstep runs`, what a state folder holds.
//! - [`summary`]: what is left at the end.

mod api;
mod assets;
mod cli;
mod controller;
mod evaluation;
mod history;
mod http;
mod outbox;
#[cfg(test)]
mod page_types;
mod random_tokens;
mod runs;
mod serve;
mod shards;
mod socket;
mod summary;
mod traffic;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, ReferenceArguments, VolunteerArguments};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let is_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(is_terminal)
        .with_target(false)
        .init();
    let outcome = match cli.command {
        Command::Serve(arguments) => serve::serve(&arguments),
        Command::Volunteer(arguments) => volunteer(&arguments),
        Command::Reference(arguments) => reference(&arguments),
        Command::Simulate(arguments) => lab::simulate(&arguments.scenario, arguments.out.as_deref(), arguments.threads),
        Command::Evaluate(arguments) => lab::evaluate(arguments.run.as_deref(), &arguments.models),
        Command::Runs(arguments) => runs::list(&arguments.state, arguments.json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: the chain of causes, outermost first.
            eprintln!("superstep: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Trains the sequential baseline.
fn reference(arguments: &ReferenceArguments) -> anyhow::Result<()> {
    lab::reference(&lab::ReferenceOptions {
        run: arguments.run.as_deref(),
        batch: arguments.batch,
        steps: arguments.steps,
        evaluate_every: arguments.evaluate_every,
        model: arguments.model.as_deref(),
    })
}

/// Contributes to a run without a browser.
fn volunteer(arguments: &VolunteerArguments) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    native_volunteer::contribute(&native_volunteer::Options {
        url: &arguments.url,
        workers: arguments.workers.unwrap_or(cores - 1).max(1),
        cpu_percent: arguments.cpu_percent,
        seed: random_tokens::RandomTokens::from_system()?.draw().0,
    })
}
