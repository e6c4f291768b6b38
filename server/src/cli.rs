//! What can be asked of `superstep` on the command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Trains one neural network across the browsers of people who open a web page.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a run: its page to volunteers, and the central controller behind it.
    Serve(ServeArguments),
    /// Contribute to a run without a browser.
    Volunteer(VolunteerArguments),
    /// Train a run's model on one thread, without volunteers, to compare with.
    Reference(ReferenceArguments),
    /// Simulate runs with many volunteers in virtual time, and compare ways to train.
    Simulate(SimulateArguments),
    /// Evaluate model files on a run's held-out samples.
    Evaluate(EvaluateArguments),
    /// List the runs of a state folder: name, state, samples, accuracy, size, age, and the server that owns each.
    Runs(RunsArguments),
}

#[derive(Args, Debug)]
pub(crate) struct ServeArguments {
    /// The run file. Without one: handwritten digits, which are embedded.
    pub(crate) run: Option<PathBuf>,
    /// Where to listen. Port 0 picks a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,
    /// Let `/?join=1&workers=N&cpu_percent=PERCENT` contribute without a click: for machines of your own only.
    #[arg(long)]
    pub(crate) kiosk: bool,
    /// Stop, with success, once an evaluation finds the run's aim reached.
    #[arg(long)]
    pub(crate) stop_at_target: bool,
    /// Where to write the model and a summary of the run at the end. What another run left there gets other names.
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// Where the run is kept, so that the next start goes on with it: a folder, or a store, `s3://BUCKET/PREFIX`. By
    /// default the folder `state` beside the run file.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Begin anew. What the run has learned stays in the state folder under another name.
    #[arg(long, conflicts_with = "fork")]
    pub(crate) fresh: bool,
    /// Go on under another name, with another data set, seed or way to train; the run itself stays as it is. With
    /// another optimizer it goes on with the model alone.
    #[arg(long, value_name = "NEW_NAME")]
    pub(crate) fork: Option<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
It prints a line whenever what it does changes. Ctrl-C, SIGTERM or SIGHUP: it sends what it has finished, and leaves.
A second signal ends it at once.

Exit codes: 0 when it left or the run is finished, 1 after an error, 2 for wrong arguments, 3 when it gave up,
128 and the signal's number after a second signal.")]
pub(crate) struct VolunteerArguments {
    /// The address that the server prints, such as `http://127.0.0.1:8000`.
    pub(crate) url: String,
    /// ML modules, one thread each. By default one less than there are cores, and at least one.
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    /// The share of its time for which each of them computes: 1 to 100.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(crate) cpu_percent: u8,
    /// How long to try to reach a server that does not answer: such as 90s, 10m or 1h; 0 for one try. By default for
    /// ever.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) give_up_after: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct ReferenceArguments {
    /// The run file. Without one: handwritten digits, which are embedded.
    pub(crate) run: Option<PathBuf>,
    /// Samples of one step; a multiple of the run's minibatch. By default the run's `superstep_samples`.
    #[arg(long, value_name = "SAMPLES")]
    pub(crate) batch: Option<u64>,
    /// Stop after this many steps; without it, at the run's aim.
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u64>,
    /// Evaluate each time that this many more samples were trained on.
    #[arg(long, value_name = "SAMPLES", default_value_t = 10_000)]
    pub(crate) evaluate_every: u64,
    /// Write the model here at the end, as `safetensors`.
    #[arg(long, value_name = "FILE")]
    pub(crate) model: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct SimulateArguments {
    /// The scenario: a run, volunteers, and what to compare.
    pub(crate) scenario: PathBuf,
    /// Write a table of all runs (CSV) and a chart (SVG) here.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Threads that compute gradients; they change no result. By default as many as there are cores.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct EvaluateArguments {
    /// The run file whose model and held-out samples these are. Without one: handwritten digits, which are embedded.
    #[arg(long, value_name = "RUN.toml")]
    pub(crate) run: Option<PathBuf>,
    /// Model files, as `serve` writes them and the page offers them.
    #[arg(required = true, value_name = "MODEL.safetensors")]
    pub(crate) models: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct RunsArguments {
    /// The state folder, or a store: `s3://BUCKET/PREFIX`.
    #[arg(value_name = "DIR", default_value = "state")]
    pub(crate) state: PathBuf,
    /// Print JSON, for programs.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Reads a whole number of seconds, or of the unit behind it.
fn duration(text: &str) -> Result<Duration, String> {
    const SECONDS_OF: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let unit = SECONDS_OF.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, seconds) = match unit {
        Some((unit, seconds)) => (text.strip_suffix(unit).unwrap_or(text), *seconds),
        None => (text, 1),
    };
    let number = number.trim_end().parse::<u32>();
    let number = number.map_err(|_| "write a whole number and s, m, h or d, such as 90s, 10m or 1h".to_owned())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit() {
        let read = |text| duration(text).map(|duration| duration.as_secs());
        assert_eq!(
            ["0", "90s", "10m", "1h", "2 d"].map(read),
            [0, 90, 600, 3_600, 172_800].map(Ok)
        );
        assert!(
            ["", "m", "-1", "1.5h", "ten", "1w", "99999999999"]
                .iter()
                .all(|text| read(text).is_err())
        );
    }
}
