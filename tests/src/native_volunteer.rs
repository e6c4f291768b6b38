//! `superstep volunteer`, as a process of its own.

use anyhow::{Context, Result, ensure};

use crate::program::{Program, superstep};

/// Starts a native volunteer with one ML module. It ends when it is dropped.
///
/// # Errors
/// One that can't be started.
pub fn native_volunteer(url: &str) -> Result<Program> {
    native_volunteer_with(url, &[])
}

/// The same with these arguments.
///
/// # Errors
/// One that can't be started.
pub fn native_volunteer_with(url: &str, arguments: &[&str]) -> Result<Program> {
    let mut command = superstep();
    command.args(["volunteer", url, "--workers", "1"]).args(arguments);
    Program::start("superstep volunteer", command)
}

/// Asks a native volunteer to leave, and gives the samples of which it says that they were accepted.
///
/// # Errors
/// A volunteer that does not end well, or does not say it.
pub fn accepted_samples_at_the_end(volunteer: &mut Program) -> Result<u64> {
    volunteer.signal("TERM")?;
    let status = volunteer.wait_for_end()?;
    let log = volunteer.log();
    ensure!(status.success(), "the volunteer ended with {status}: {log:#?}");
    let said = log
        .iter()
        .rev()
        .find_map(|line| line.strip_suffix(" samples were accepted"));
    let number = said.and_then(|line| line.rsplit(' ').next());
    let number = number.with_context(|| format!("it does not say what was accepted: {log:#?}"))?;
    Ok(number.parse()?)
}
