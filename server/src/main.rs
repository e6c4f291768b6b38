//! `superstep`: one binary that trains one neural network across the browsers of people who open a web page.
//!
//! - [`cli`]: what can be asked of it.
//! - [`run`]: what an operator gives it and takes from it: run files, data, aims, model files.
//! - [`serve`]: `superstep serve`. It starts the [`controller`] (the driver around the central BSP module, 102), the
//!   [`evaluation`] beside it, and [`http`], which serves the [`assets`], the [`api`], the [`shards`] and the
//!   [`socket`]s.
//!   Before that, [`run_state`] opens the run where it was left; [`checkpoint_writer`] and [`ledger_writer`] keep it.
//! - [`native_volunteer`]: `superstep volunteer`, a local BSP module (103) without a browser.
//! - [`lab`]: `superstep reference`, the sequential baseline; `superstep simulate`, whole runs in virtual time;
//!   `superstep evaluate`, how a model file does.
//! - [`runs`]: `superstep runs`, what a state folder holds.
//! - [`summary`]: what is left at the end; [`log`]: what is said on the way; [`signals`]: how an
//!   operator stops it.

mod api;
mod assets;
mod checkpoint_writer;
mod cli;
mod controller;
mod divergence;
mod evaluation;
mod history;
mod http;
mod ledger_writer;
mod log;
mod outbox;
#[cfg(test)]
mod page_types;
mod random_tokens;
mod refusals;
mod run_state;
mod runs;
mod serve;
mod shards;
mod signals;
mod socket;
mod stopping;
mod summary;
mod traffic;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, ReferenceArguments, VolunteerArguments};
use crate::log::Log;

/// The exit code of a volunteer that gave up; its help has all of them.
const GAVE_UP: u8 = 3;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let log = match Log::start() {
        Ok(log) => log,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "superstep: a thread can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = match cli.command {
        Command::Serve(arguments) => serve::serve(&arguments, &log),
        Command::Volunteer(arguments) => volunteer(&arguments, &log),
        Command::Reference(arguments) => reference(&arguments),
        Command::Simulate(arguments) => lab::simulate(&arguments.scenario, arguments.out.as_deref(), arguments.threads),
        Command::Evaluate(arguments) => lab::evaluate(arguments.run.as_deref(), &arguments.models),
        Command::Runs(arguments) => runs::list(&arguments.state, arguments.json),
    };
    let code = match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // `| head` has read enough: there is nothing to say, and nobody to say it to.
        Err(error) if error.downcast_ref().is_some_and(lab::Unprintable::is_reader_gone) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: the chain of causes, outermost first.
            log.say(&format!("superstep: {error:#}"));
            match error.downcast_ref::<native_volunteer::GaveUp>() {
                Some(_) => ExitCode::from(GAVE_UP),
                None => ExitCode::FAILURE,
            }
        }
    };
    log.flush();
    code
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
fn volunteer(arguments: &VolunteerArguments, log: &Log) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let stopped = signals::watch(log, || "what was computed and not sent is lost".to_owned())?;
    let options = native_volunteer::Options {
        url: &arguments.url,
        workers: arguments.workers.unwrap_or(cores - 1).max(1),
        cpu_percent: arguments.cpu_percent,
        give_up_after: arguments.give_up_after,
        seed: random_tokens::RandomTokens::from_system()?.draw().0,
    };
    let states = Log::to(std::io::stdout())?;
    let outcome = {
        let states = states.clone();
        native_volunteer::contribute(&options, stopped, Box::new(move |line| states.say(line)))
    };
    states.flush();
    outcome
}
