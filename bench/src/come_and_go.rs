//! The server's memory while two hundred native volunteers come and go.

use std::fmt::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tests::native_volunteer::native_volunteer_with;
use tests::program::Program;
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};

/// Volunteers that are there at any moment.
const VOLUNTEERS: usize = 200;
/// How long.
const MEASURE: Duration = Duration::from_secs(600);
/// One goes and another comes: each stays for [`VOLUNTEERS`] times this.
const EVERY: Duration = Duration::from_millis(300);
/// When the memory is read.
const MINUTES: [u64; 6] = [1, 2, 4, 6, 8, 10];
/// So small a share of a core for each that the machine has time for all and their comings.
const ARGUMENTS: [&str; 2] = ["--cpu-percent", "1"];

pub(crate) fn measure() -> Result<String> {
    let server = Serve::default().run(RunText::digits()?).start()?;
    let mut volunteers: Vec<Program> = Vec::new();
    let mut table = format!(
        "## {VOLUNTEERS} volunteers that come and go\n\nNative volunteers of `runs/digits.toml` with 1 % of a core \
         each. Every {} ms the oldest goes, every other one by `kill -9`, and a new one comes. Memory is what the \
         system says of the server's process (`VmRSS`, and `RssAnon` of that).\n\n\
         | minute | come until now | connected | samples | lost | MB | anonymous MB |\n|---|---|---|---|---|---|---|\n",
        EVERY.as_millis()
    );
    let mut come: usize = 0;
    let began = Instant::now();
    let mut minutes = MINUTES.into_iter().peekable();
    while began.elapsed() < MEASURE || minutes.peek().is_some() {
        if volunteers.len() == VOLUNTEERS {
            let mut oldest = volunteers.remove(0);
            if come.is_multiple_of(2) {
                oldest.kill()?;
            } else {
                oldest.signal("TERM")?;
                oldest.wait_for_end()?;
            }
        }
        volunteers.push(native_volunteer_with(server.url(), &ARGUMENTS)?);
        come += 1;
        if minutes
            .next_if(|minute| began.elapsed() >= Duration::from_secs(60 * minute))
            .is_some()
        {
            let row = row(&server, began.elapsed(), come)?;
            print!("{row}");
            table.push_str(&row);
        }
        sleep((EVERY * u32::try_from(come)?).saturating_sub(began.elapsed()));
    }
    Ok(table)
}

fn row(server: &Server, after: Duration, come: usize) -> Result<String> {
    let status = server.status()?;
    let [all, anonymous] = ["VmRSS", "RssAnon"].map(|key| kilobytes(server.process(), key));
    let mut row = String::new();
    writeln!(
        row,
        "| {:.1} | {come} | {} | {} | {} | {:.1} | {:.1} |",
        after.as_secs_f64() / 60.0,
        whole(&status, "volunteers")?,
        whole(&status, "samples")?,
        whole(&status, "samples_lost")?,
        all? * 1.024 / 1e3,
        anonymous? * 1.024 / 1e3,
    )?;
    Ok(row)
}

/// What the system says of a process, in units of 1,024 bytes.
fn kilobytes(process: u32, key: &str) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let said = std::fs::read_to_string(&path)?;
    let line = said.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("{path}: no {key}"))?.parse()?)
}
