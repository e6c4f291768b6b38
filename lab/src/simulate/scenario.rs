//! Scenarios: a run, volunteers made up for it, and ways to train that are compared. `scenarios/README.md` explains
//! every key.
//!
//! A scenario is read once, at the start, and checked in full, with the run that each of its variants is. Every error
//! names the file, the place in it and the fix, in one line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use run::goal::{Evaluated, Goal};
use run::run_file::{Problem, RunFile, RunFileError, Setting, read_bounded, syntax};
use serde::Deserialize;
use simulator::volunteers::{Churn, Kind};
use thiserror::Error;

/// The most draws of one scenario: their runs are all kept until the end.
const MAX_DRAWS: u64 = 1000;
/// The most volunteers of one scenario.
const MAX_VOLUNTEERS: usize = 10_000;
/// The most ML modules of a volunteer. All volunteers of a scenario together have at most [`MAX_VOLUNTEERS`] of them,
/// since each ML module has a gradient in memory.
const MAX_ML_MODULES: usize = 256;
/// The longest virtual time: a year.
const MAX_SECONDS: f64 = 365.0 * 86_400.0;
/// A run ends after a virtual day unless the scenario says otherwise.
const DEFAULT_SECONDS: f64 = 86_400.0;
/// Beyond this, one of a few volunteers would be thousands of times faster than another.
const MAX_SIGMA: f64 = 3.0;
/// Keys that scenarios had under another name before 2026-11-25.
const RENAMED: [(&str, &str); 4] = [
    ("duty_percent", "cpu_percent"),
    ("sitting_seconds", "mean_session_seconds"),
    ("away_seconds", "mean_absence_seconds"),
    ("abrupt", "crash_share"),
];

/// A scenario, and the runs that its variants are.
pub(crate) struct Scenario {
    /// A name for file names and titles.
    pub(crate) name: String,
    /// One sentence that says what is compared.
    pub(crate) description: String,
    /// The volunteers' speeds, arrivals and departures follow from it.
    pub(crate) seed: u64,
    /// How many runs of each variant there are, each with other volunteers.
    pub(crate) draws: u64,
    /// How each run is evaluated, and when it ends.
    pub(crate) course: Course,
    /// The run as its file has it.
    pub(crate) run: RunFile,
    /// What is compared.
    pub(crate) variants: Vec<Variant>,
    /// The volunteers that compute.
    pub(crate) volunteers: Vec<Kind>,
}

/// How a run is evaluated, and when it ends: at its aim, or at a bound.
pub(crate) struct Course {
    /// Samples in the model from one evaluation to the next.
    pub(crate) evaluate_every_samples: u64,
    /// What the run aims at, if at anything.
    pub(crate) goal: Option<Goal>,
    /// The run ends with this many samples in the model, …
    pub(crate) stop_samples: u64,
    /// … or after this much virtual time.
    pub(crate) stop_after: Duration,
}

impl Course {
    /// Whether a model that does so well has reached the aim.
    pub(crate) fn is_goal_reached_by(&self, evaluated: &Evaluated) -> bool {
        self.goal.is_some_and(|goal| goal.is_reached_by(evaluated))
    }
}

/// One way to train.
pub(crate) struct Variant {
    /// What tables and charts call it.
    pub(crate) name: String,
    /// Whether it is the sequential baseline: no volunteers, no staleness.
    pub(crate) is_sequential: bool,
    /// The run with this variant's keys.
    pub(crate) run: RunFile,
}

/// Why a scenario can't be used. Its message is one line: file, place, what is wrong, the fix.
#[derive(Debug, Error)]
pub(crate) enum ScenarioError {
    /// Something in the scenario itself.
    #[error("{}: {problem}", .path.display())]
    Scenario {
        /// The scenario.
        path: PathBuf,
        /// What is wrong with it.
        problem: Box<ScenarioProblem>,
    },
    /// Something in the run that it names, with that one's path.
    #[error(transparent)]
    Run(#[from] RunFileError),
}

/// What is wrong with a scenario.
#[derive(Debug, Error)]
pub(crate) enum ScenarioProblem {
    /// A problem that run files have too.
    #[error(transparent)]
    File(#[from] Problem),
    /// A key is set to something that makes no sense.
    #[error("{place}{setting}")]
    Setting {
        /// The table with the key and a blank; empty at the top of the file.
        place: String,
        /// The key, what it is set to, and what it may be.
        setting: Setting,
    },
    /// A key has another name now.
    #[error("line {line}: the key {old} is called {new} now; rename it")]
    Renamed {
        /// The line, counted from 1.
        line: usize,
        /// What it was called.
        old: &'static str,
        /// What it is called.
        new: &'static str,
    },
    /// A variant's keys make a run that makes no sense.
    #[error("variant {name:?}: {problem}")]
    Variant {
        /// Its name.
        name: String,
        /// What is wrong with the run.
        problem: Problem,
    },
    /// There is no variant, or no volunteer.
    #[error("there is no [[{table}]]; add one")]
    Missing {
        /// The missing table.
        table: &'static str,
    },
    /// Two variants are called the same.
    #[error("two variants are called {name:?}; give each a name of its own")]
    Twice {
        /// Their name.
        name: String,
    },
    /// Two aims are set.
    #[error("[stop] accuracy and loss are both set; a run has one aim: leave one out")]
    TwoAims,
    /// An aim that the model can't have.
    #[error("[stop] accuracy is set, but numbers are not right or wrong; set loss instead")]
    NoAccuracy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    description: String,
    run: PathBuf,
    seed: u64,
    #[serde(default = "one")]
    draws: u64,
    #[serde(default = "ten_thousand")]
    evaluate_every_samples: u64,
    stop: StopTable,
    #[serde(default)]
    variants: Vec<VariantTable>,
    #[serde(default)]
    volunteers: Vec<VolunteersTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StopTable {
    accuracy: Option<f64>,
    loss: Option<f64>,
    samples: u64,
    #[serde(default = "default_seconds")]
    seconds: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantTable {
    name: String,
    #[serde(default)]
    ideal: bool,
    #[serde(default)]
    training: toml::Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VolunteersTable {
    count: usize,
    #[serde(default = "one_usize")]
    ml_modules: usize,
    samples_per_second: f64,
    #[serde(default)]
    minibatch_overhead_samples: f64,
    #[serde(default)]
    sigma: f64,
    #[serde(default)]
    jitter: f64,
    #[serde(default = "all_the_time")]
    cpu_percent: u8,
    #[serde(default = "uplink")]
    uplink_mbit_per_second: f64,
    #[serde(default = "downlink")]
    downlink_mbit_per_second: f64,
    #[serde(default = "latency")]
    latency_ms: f64,
    #[serde(default)]
    arrives_within_seconds: f64,
    mean_session_seconds: Option<f64>,
    #[serde(default = "mean_absence")]
    mean_absence_seconds: f64,
    #[serde(default = "always")]
    crash_share: f64,
}

fn one() -> u64 {
    1
}

fn one_usize() -> usize {
    1
}

fn ten_thousand() -> u64 {
    10_000
}

fn default_seconds() -> f64 {
    DEFAULT_SECONDS
}

fn all_the_time() -> u8 {
    100
}

fn uplink() -> f64 {
    20.0
}

fn downlink() -> f64 {
    50.0
}

fn latency() -> f64 {
    20.0
}

fn mean_absence() -> f64 {
    600.0
}

fn always() -> f64 {
    1.0
}

impl Scenario {
    /// Reads and checks a scenario, and the run that it names, whose path is relative to it.
    pub(crate) fn load(path: &Path) -> Result<Scenario, ScenarioError> {
        let at_path = |problem: ScenarioProblem| ScenarioError::Scenario {
            path: path.to_owned(),
            problem: Box::new(problem),
        };
        let text = read_bounded(path).map_err(|problem| at_path(problem.into()))?;
        let file: File = toml::from_str(&text).map_err(|error| at_path(syntax_problem(&text, &error)))?;
        let run = RunFile::load(&path.parent().unwrap_or(Path::new("")).join(&file.run))?;
        Scenario::check(file, run).map_err(at_path)
    }

    fn check(file: File, run: RunFile) -> Result<Scenario, ScenarioProblem> {
        let top = |key, value: String, allowed: &str, is_allowed| check("", key, value, allowed, is_allowed);
        let quoted = |text: &str| format!("{text:?}");
        let is_named = is_name(&file.name);
        top("name", quoted(&file.name), NAMES, is_named)?;
        let is_sentence = (1..=500).contains(&file.description.chars().count());
        let is_sentence = is_sentence && !file.description.contains(|c: char| c.is_control());
        let sentence = "one sentence of at most 500 characters, in one line";
        top("description", quoted(&file.description), sentence, is_sentence)?;
        let draws = format!("a number from 1 to {MAX_DRAWS}");
        let is_allowed = (1..=MAX_DRAWS).contains(&file.draws);
        top("draws", file.draws.to_string(), &draws, is_allowed)?;
        let every = file.evaluate_every_samples;
        top("evaluate_every_samples", every.to_string(), "1 or more", every >= 1)?;

        let course = Course {
            evaluate_every_samples: every,
            goal: file.stop.check(&run)?,
            stop_samples: file.stop.samples,
            stop_after: Duration::from_secs_f64(file.stop.seconds),
        };
        Ok(Scenario {
            course,
            variants: check_variants(file.variants, &run)?,
            volunteers: check_volunteers(&file.volunteers)?,
            name: file.name,
            description: file.description,
            seed: file.seed,
            draws: file.draws,
            run,
        })
    }
}

/// What the TOML reader says, in one line. A key that has another name now is told so.
fn syntax_problem(text: &str, error: &toml::de::Error) -> ScenarioProblem {
    let is_named = |old: &str| error.message().starts_with(&format!("unknown field `{old}`"));
    let renamed = RENAMED.into_iter().find(|(old, _)| is_named(old));
    match (syntax(text, error), renamed) {
        (Problem::Syntax { line, .. }, Some((old, new))) => ScenarioProblem::Renamed { line, old, new },
        (problem, _) => problem.into(),
    }
}

const NAMES: &str = "1 to 64 letters, digits, - and _";

fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&name.len()) && name.bytes().all(is_letter)
}

impl StopTable {
    fn check(&self, run: &RunFile) -> Result<Option<Goal>, ScenarioProblem> {
        const PLACE: &str = "[stop] ";
        let accuracy = self.accuracy.unwrap_or(1.0);
        let is_share = accuracy > 0.0 && accuracy <= 1.0;
        check(PLACE, "accuracy", accuracy, "a number above 0, at most 1", is_share)?;
        let loss = self.loss.unwrap_or(1.0);
        check(PLACE, "loss", loss, "a number above 0", loss > 0.0 && loss.is_finite())?;
        check(PLACE, "samples", self.samples, "1 or more", self.samples >= 1)?;
        let allowed = format!("a number above 0, at most {MAX_SECONDS}");
        let is_time = self.seconds > 0.0 && self.seconds <= MAX_SECONDS;
        check(PLACE, "seconds", self.seconds, &allowed, is_time)?;
        if self.accuracy.is_some() && self.loss.is_some() {
            return Err(ScenarioProblem::TwoAims);
        }
        if self.accuracy.is_some() && !run.has_accuracy() {
            return Err(ScenarioProblem::NoAccuracy);
        }
        Ok(self.accuracy.map(Goal::Accuracy).or(self.loss.map(Goal::Loss)))
    }
}

fn check_variants(tables: Vec<VariantTable>, run: &RunFile) -> Result<Vec<Variant>, ScenarioProblem> {
    let mut variants: Vec<Variant> = Vec::new();
    for VariantTable { name, ideal, training } in tables {
        let place = format!("[[variants]] {}, ", variants.len() + 1);
        check(&place, "name", format!("{name:?}"), NAMES, is_name(&name))?;
        if variants.iter().any(|other| other.name == name) {
            return Err(ScenarioProblem::Twice { name });
        }
        let run = match run.with_training(&training) {
            Ok(run) => run,
            Err(problem) => return Err(ScenarioProblem::Variant { name, problem }),
        };
        variants.push(Variant {
            name,
            is_sequential: ideal,
            run,
        });
    }
    if variants.is_empty() {
        return Err(ScenarioProblem::Missing { table: "variants" });
    }
    Ok(variants)
}

fn check_volunteers(tables: &[VolunteersTable]) -> Result<Vec<Kind>, ScenarioProblem> {
    let mut kinds: Vec<Kind> = Vec::new();
    for table in tables {
        let so_far: usize = kinds.iter().map(|kind| kind.count * kind.ml_modules).sum();
        kinds.push(table.check(kinds.len() + 1, MAX_VOLUNTEERS - so_far)?);
    }
    if kinds.is_empty() {
        return Err(ScenarioProblem::Missing { table: "volunteers" });
    }
    Ok(kinds)
}

impl VolunteersTable {
    fn check(&self, number: usize, most: usize) -> Result<Kind, ScenarioProblem> {
        const MBIT: f64 = 1e6;
        let place = format!("[[volunteers]] {number}, ");
        let from_to = |key, value: f64, least: f64, most: f64| {
            let allowed = format!("a number from {least} to {most}");
            check(&place, key, value, &allowed, (least..=most).contains(&value))
        };
        let allowed = format!("a number from 1 to {most}, {MAX_VOLUNTEERS} in all");
        check(&place, "count", self.count, &allowed, (1..=most).contains(&self.count))?;
        let most_modules = MAX_ML_MODULES.min(most / self.count);
        let allowed = format!("a number from 1 to {most_modules}, {MAX_VOLUNTEERS} of all volunteers");
        let is_allowed = (1..=most_modules).contains(&self.ml_modules);
        check(&place, "ml_modules", self.ml_modules, &allowed, is_allowed)?;
        from_to("samples_per_second", self.samples_per_second, 0.001, 1e9)?;
        from_to("minibatch_overhead_samples", self.minibatch_overhead_samples, 0.0, 1e6)?;
        from_to("sigma", self.sigma, 0.0, MAX_SIGMA)?;
        from_to("jitter", self.jitter, 0.0, MAX_SIGMA)?;
        from_to("cpu_percent", self.cpu_percent.into(), 1.0, 100.0)?;
        from_to("uplink_mbit_per_second", self.uplink_mbit_per_second, 0.001, 1e6)?;
        from_to("downlink_mbit_per_second", self.downlink_mbit_per_second, 0.001, 1e6)?;
        from_to("latency_ms", self.latency_ms, 0.0, 60_000.0)?;
        from_to("arrives_within_seconds", self.arrives_within_seconds, 0.0, MAX_SECONDS)?;
        if let Some(mean_session) = self.mean_session_seconds {
            from_to("mean_session_seconds", mean_session, 1.0, MAX_SECONDS)?;
        }
        from_to("mean_absence_seconds", self.mean_absence_seconds, 1.0, MAX_SECONDS)?;
        from_to("crash_share", self.crash_share, 0.0, 1.0)?;
        Ok(Kind {
            count: self.count,
            ml_modules: self.ml_modules,
            samples_per_second: self.samples_per_second,
            overhead_samples: self.minibatch_overhead_samples,
            sigma: self.sigma,
            jitter: self.jitter,
            duty_percent: self.cpu_percent,
            up_bits_per_second: self.uplink_mbit_per_second * MBIT,
            down_bits_per_second: self.downlink_mbit_per_second * MBIT,
            latency: Duration::from_secs_f64(self.latency_ms / 1e3),
            arrives_within: Duration::from_secs_f64(self.arrives_within_seconds),
            churn: self.mean_session_seconds.map(|mean_session| Churn {
                mean_session: Duration::from_secs_f64(mean_session),
                mean_absence: Duration::from_secs_f64(self.mean_absence_seconds),
                crash_share: self.crash_share,
            }),
        })
    }
}

/// An error about a key unless `is_allowed`. Comparisons with NaN are false, so NaN is never allowed.
fn check(
    place: &str,
    key: &'static str,
    value: impl ToString,
    allowed: &str,
    is_allowed: bool,
) -> Result<(), ScenarioProblem> {
    if is_allowed {
        return Ok(());
    }
    Err(ScenarioProblem::Setting {
        place: place.to_owned(),
        setting: Setting {
            key,
            value: value.to_string(),
            allowed: allowed.to_owned(),
        },
    })
}

#[cfg(test)]
mod tests;
