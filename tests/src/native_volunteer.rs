//! `superstep volunteer`, as a process of its own.

use anyhow::Result;

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
