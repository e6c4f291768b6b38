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
    let chromium = Command::new("chromium").args(["--no-sandbox", "--version"]).output()?;
    let chromium = String::from_utf8_lossy(&chromium.stdout);
    let chromium = chromium.split(" built").next().unwrap_or_default().trim();
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!(
        "# Results\n\nMade by `make bench`; ratios are what counts. {cores} cores of {model}; {chromium}; load before: {load}.\n"
    ))
}
