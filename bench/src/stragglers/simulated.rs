//! The same three tabs in virtual time: `superstep simulate`, given the speeds that were measured.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result, ensure};
use tests::program::{output_of, superstep};
use tests::run_file::RunText;

use super::CPU_PERCENTS;

/// What a simulated run comes to. The names are columns of the simulator's CSV file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Simulated {
    pub(super) samples_per_second: f64,
    pub(super) superstep_samples: f64,
    pub(super) staleness: f64,
}

/// Virtual seconds: enough that the beginning and the end count for little.
const SECONDS: u64 = 40;

/// Simulates volunteers in the run `run`: `speeds` are samples per second while they compute, and [`CPU_PERCENTS`] say
/// for how much of the time they do.
pub(super) fn simulate(run: &RunText, speeds: &[f64]) -> Result<Simulated> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("run.toml"), run.as_str())?;
    // A link of this machine with itself. It is as fast as memory, but a sender or receiver has to get a core first.
    let mut scenario = format!(
        "name = \"tabs\"\ndescription = \"The tabs that were measured.\"\nrun = \"run.toml\"\nseed = 1\n\
         evaluate_every_samples = 1_000_000_000\n\n[stop]\nsamples = 1_000_000_000\nseconds = {SECONDS}\n\n\
         [[variants]]\nname = \"tabs\"\n"
    );
    for (speed, percent) in speeds.iter().zip(CPU_PERCENTS) {
        write!(
            scenario,
            "\n[[volunteers]]\ncount = 1\nsamples_per_second = {speed}\ncpu_percent = {percent}\n\
             uplink_mbit_per_second = 1000\ndownlink_mbit_per_second = 1000\nlatency_ms = 1\n"
        )?;
    }
    let path = folder.path().join("tabs.toml");
    fs::write(&path, scenario)?;
    let mut command = superstep();
    command.arg("simulate").arg(&path).arg("--out").arg(folder.path());
    let output = output_of(command)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let table = fs::read_to_string(folder.path().join("tabs.csv"))?;
    let mut lines = table.lines();
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else {
        anyhow::bail!("the simulator wrote no row:\n{table}");
    };
    let column = |name: &str| -> Result<f64> {
        let place = names
            .split(',')
            .position(|column| column == name)
            .with_context(|| name.to_owned())?;
        let value = values.split(',').nth(place).with_context(|| name.to_owned())?;
        value.parse().with_context(|| format!("{name} = {value:?}"))
    };
    Ok(Simulated {
        samples_per_second: column("samples_per_second")?,
        superstep_samples: column("samples_per_superstep")?,
        staleness: column("staleness")?,
    })
}
