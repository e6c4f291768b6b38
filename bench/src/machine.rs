//! On what the figures were measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use tests::program::root;

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
        "# {}, commit {}\n\nMade by `make bench`; ratios are what counts. {cores} cores of {model}; {chromium}; load \
         before: {load}.\n",
        today()?,
        commit()
    ))
}

/// Where a sitting of today, of this commit, is kept: a file that is not there yet.
pub(crate) fn free_path(folder: &Path) -> Result<PathBuf> {
    let name = format!("{}-{}", today()?, commit());
    let first = std::iter::once(format!("{name}.md"));
    let further = (2..100).map(|number| format!("{name}-{number}.md"));
    let mut paths = first.chain(further).map(|name| folder.join(name));
    paths
        .find(|path| !path.exists())
        .with_context(|| format!("{}: has too many files {name}", folder.display()))
}

/// The day, in UTC.
fn today() -> Result<String> {
    said("date", &["-u", "+%F"])
}

/// The commit, and whether something is not committed; `none` where the project is no git repository.
fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short=7", "HEAD"]);
    let changes = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    match (commit, changes) {
        (Ok(commit), Ok(changes)) if changes.is_empty() => commit,
        (Ok(commit), _) => format!("{commit}-changed"),
        (Err(_), _) => "none".to_owned(),
    }
}

/// What a program says, in the project's folder.
fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let output = output.with_context(|| format!("{program}: can't be run"))?;
    if !output.status.success() {
        bail!(
            "{program} {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What the browser calls itself.
pub(crate) fn chromium_version() -> Result<String> {
    let said = Command::new("chromium").args(["--no-sandbox", "--version"]).output()?;
    let said = String::from_utf8_lossy(&said.stdout);
    Ok(said.split(" built").next().unwrap_or_default().trim().to_owned())
}
