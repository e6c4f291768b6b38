//! One measurement: tabs of one ML module each, each with its own share of processor time, at one server.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::run_file::RunText;
use tests::server::{Serve, Server, Volunteer, whole};
use tests::tab::Tab;

/// Until shards have come, the browser has made the code fast, and the controller knows the tabs' rates.
const WARM_UP: Duration = Duration::from_secs(10);
/// A server that closes no superstep for this long has died.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the server is asked for the next superstep.
const POLL: Duration = Duration::from_millis(4);

/// What tabs did, from the end of one superstep to the end of another.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Crowd {
    pub(super) cpu_percents: Vec<u8>,
    pub(super) seconds: f64,
    /// In closed supersteps.
    pub(super) samples_per_second: f64,
    /// In accepted contributions.
    pub(super) of_each_tab: Vec<f64>,
    pub(super) supersteps_per_second: f64,
    pub(super) superstep_samples: f64,
    /// Mean over the samples, in versions.
    pub(super) staleness: f64,
    /// Of read-outs, in the end.
    pub(super) period_seconds: f64,
    /// Samples of each tab for a second of computing, without rests and waiting.
    pub(crate) speeds: Vec<f64>,
    /// Shares of the time without rests, since the tabs were opened.
    pub(super) waiting: Vec<f64>,
}

impl Crowd {
    /// It as a line of JSON, with what else there is to say of it.
    pub(super) fn line(&self, run: &str, how: &str, round: usize, minibatch: u64) -> String {
        json!({ "run": run, "how": how, "round": round, "minibatch": minibatch, "measured": self }).to_string()
    }
}

/// What the server says in one moment.
struct Moment {
    status: Value,
    /// In the order in which they joined.
    volunteers: Vec<Volunteer>,
}

/// Opens a tab for each of `cpu_percents`, and measures them for `duration`.
pub(crate) fn measure(run: RunText, cpu_percents: &[u8], duration: Duration) -> Result<Crowd> {
    let mut server = Serve::kiosk().run(run).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    for (already, percent) in cpu_percents.iter().enumerate() {
        Tab::open(&driver, &server.joining_url_with_cpu_percent(1, *percent))?;
        server.wait_for_contributors(already + 1)?;
    }
    sleep(WARM_UP);
    let before = next_superstep(&server)?;
    sleep(duration);
    let after = next_superstep(&server)?;
    ensure!(
        whole(&after.status, "contributions_refused")? == 0,
        "contributions were refused: {:#}",
        after.status
    );
    drop(driver);
    server.kill()?;
    between(&before, &after, cpu_percents)
}

/// The moment after the next superstep: between two such moments is what was computed between two read-outs, however
/// rare they are.
fn next_superstep(server: &Server) -> Result<Moment> {
    let version = server.version()?;
    let asked = Instant::now();
    while asked.elapsed() < PATIENCE {
        let status = server.status()?;
        if whole(&status, "version")? != version {
            let mut volunteers = server.volunteers()?;
            volunteers.sort_by_key(|volunteer| volunteer.id);
            return Ok(Moment { status, volunteers });
        }
        sleep(POLL);
    }
    bail!("no superstep for {PATIENCE:?}")
}

fn between(before: &Moment, after: &Moment, cpu_percents: &[u8]) -> Result<Crowd> {
    ensure!(
        before.volunteers.len() == cpu_percents.len() && after.volunteers.len() == cpu_percents.len(),
        "not one volunteer for each tab: {:?}",
        after.volunteers
    );
    let seconds = after.number("elapsed_seconds")? - before.number("elapsed_seconds")?;
    let samples = after.number("samples_in_model")? - before.number("samples_in_model")?;
    let supersteps = after.number("version")? - before.number("version")?;
    let stale = |moment: &Moment| Ok(moment.number("staleness")? * moment.number("samples_in_model")?);
    let stale: Result<f64> = stale(after).and_then(|after| Ok(after - stale(before)?));
    let tabs = before.volunteers.iter().zip(&after.volunteers);
    Ok(Crowd {
        cpu_percents: cpu_percents.to_vec(),
        seconds,
        samples_per_second: samples / seconds,
        of_each_tab: tabs
            .clone()
            .map(|(before, after)| (after.samples - before.samples) as f64 / seconds)
            .collect(),
        supersteps_per_second: supersteps / seconds,
        superstep_samples: samples / supersteps,
        staleness: stale? / samples,
        period_seconds: after.number("period_seconds")?,
        speeds: tabs
            .map(|(before, after)| {
                let computing = after.computing_seconds - before.computing_seconds;
                (after.samples - before.samples) as f64 / computing
            })
            .collect(),
        waiting: after.volunteers.iter().map(|volunteer| volunteer.waiting).collect(),
    })
}

impl Moment {
    fn number(&self, key: &str) -> Result<f64> {
        self.status[key]
            .as_f64()
            .with_context(|| format!("no number {key} in {}", self.status))
    }
}
