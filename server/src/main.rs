//! `superstep`: one binary that trains one neural network across the browsers of people who open a web page.
//!
//! - [`cli`]: what can be asked of it.
//! - [`run_file`], [`dataset`]: what an operator gives it.
//! - [`serve`]: `superstep serve`. It starts the [`controller`] (the driver around the central BSP module, 102), the
//!   [`evaluation`] beside it, and [`http`], which serves the [`assets`], the [`api`], the [`shards`] and the [`socket`]s.
//! - [`native_volunteer`]: `superstep volunteer`, the driver around a local BSP module (103) without a browser.
//! - [`mod@reference`]: `superstep reference`, plain training on one thread, to compare with.
//! - [`simulate`]: `superstep simulate`, whole runs in virtual time.
//! - [`sequential`]: the sequential baseline, which runs are compared with.
//! - [`evaluate`]: `superstep evaluate`, how a model file does.
//! - [`model_file`], [`summary`]: what is left at the end.

mod api;
mod assets;
mod cli;
mod controller;
mod dataset;
mod evaluate;
mod evaluation;
mod history;
mod http;
mod model_file;
mod native_volunteer;
mod optimizer;
mod outbox;
mod reference;
mod run_file;
mod sequential;
mod serve;
mod shards;
mod simulate;
mod socket;
mod summary;
mod traffic;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};

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
        Command::Volunteer(arguments) => native_volunteer::volunteer(&arguments),
        Command::Reference(arguments) => reference::reference(&arguments),
        Command::Simulate(arguments) => simulate::simulate(&arguments),
        Command::Evaluate(arguments) => evaluate::evaluate(&arguments),
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
