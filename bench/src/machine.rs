//! On what the figures were measured.

use std::process::Command;

use anyhow::Result;

/// The head of the results: machine and versions.
pub(crate) fn description() -> Result<String> {
    let processors = std::fs::read_to_string("/proc/cpuinfo")?;
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unnamed processor", |(_, name)| name.trim());
    let cores = std::thread::available_parallelism()?;
    let chromium = chromium_version()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!(
        "# Results\n\nMade by `make bench`; ratios are what counts. {cores} cores of {model}; {chromium}; load before: {load}.\n"
    ))
}

/// What the browser calls itself.
pub(crate) fn chromium_version() -> Result<String> {
    let said = Command::new("chromium").args(["--no-sandbox", "--version"]).output()?;
    let said = String::from_utf8_lossy(&said.stdout);
    Ok(said.split(" built").next().unwrap_or_default().trim().to_owned())
}
