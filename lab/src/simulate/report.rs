//! The report of a scenario: a table in Markdown with medians over the draws, and a CSV file with a row for each run.

use anyhow::Result;

use super::FinishedRun;
use super::scenario::Scenario;

/// A column of the table and of the CSV file.
struct Column {
    /// As the table has it.
    head: &'static str,
    /// As the CSV file has it.
    name: &'static str,
    /// Digits after the point, in the table.
    decimals: usize,
    /// `None` where there is no such number. `ideal` is the number of samples that the sequential baseline takes in
    /// this draw.
    value: fn(one: &FinishedRun, ideal: Option<u64>) -> Option<f64>,
}

const COLUMNS: [Column; 16] = [
    Column {
        head: "samples/s",
        name: "samples_per_second",
        decimals: 0,
        value: |one, _| one.stats.map(|_| one.end.samples as f64 / one.end.took.as_secs_f64()),
    },
    Column {
        head: "goodput %",
        name: "goodput_percent",
        decimals: 1,
        value: |one, _| one.stats.map(|stats| 100.0 * stats.goodput()),
    },
    Column {
        head: "computing %",
        name: "computing_percent",
        decimals: 1,
        value: |one, _| one.stats.map(|stats| 100.0 * stats.computing_share()),
    },
    Column {
        head: "supersteps",
        name: "supersteps",
        decimals: 0,
        value: |one, _| one.stats.map(|stats| stats.supersteps as f64),
    },
    Column {
        head: "samples each",
        name: "samples_per_superstep",
        decimals: 0,
        value: |one, _| one.stats.map(|stats| stats.samples_per_superstep()),
    },
    Column {
        head: "staleness",
        name: "staleness",
        decimals: 2,
        value: |one, _| one.stats.map(|stats| stats.mean_staleness()),
    },
    Column {
        head: "weight",
        name: "weight",
        decimals: 2,
        value: |one, _| one.stats.map(|stats| stats.mean_weight()),
    },
    Column {
        head: "accuracy",
        name: "accuracy",
        decimals: 4,
        value: |one, _| one.points.last().and_then(|last| last.evaluated.accuracy),
    },
    Column {
        head: "loss",
        name: "loss",
        decimals: 4,
        value: |one, _| one.points.last().map(|last| last.evaluated.loss),
    },
    Column {
        head: "samples to aim",
        name: "samples_to_aim",
        decimals: 0,
        value: |one, _| one.reached.map(|(samples, _)| samples as f64),
    },
    Column {
        head: "× ideal",
        name: "times_ideal",
        decimals: 2,
        value: |one, ideal| Some(one.reached?.0 as f64 / ideal? as f64),
    },
    Column {
        head: "s to aim",
        name: "seconds_to_aim",
        decimals: 0,
        value: |one, _| {
            one.reached
                .map(|(_, seconds)| seconds)
                .filter(|seconds| seconds.is_finite())
        },
    },
    Column {
        head: "B up/sample",
        name: "bytes_up_per_sample",
        decimals: 0,
        value: |one, _| one.stats.map(|stats| stats.bytes_up_per_sample()),
    },
    Column {
        head: "B down/sample",
        name: "bytes_down_per_sample",
        decimals: 0,
        value: |one, _| one.stats.map(|stats| stats.bytes_down_per_sample()),
    },
    Column {
        head: "refused",
        name: "samples_refused",
        decimals: 0,
        value: |one, _| one.stats.map(|stats| stats.refused as f64),
    },
    Column {
        head: "lost",
        name: "samples_lost",
        decimals: 0,
        value: |one, _| one.stats.map(|stats| stats.lost as f64),
    },
];

/// Further columns of the CSV file.
const COUNTS: [&str; 6] = [
    "in_model",
    "computed",
    "accepted",
    "still_there",
    "not_finite",
    "fingerprint",
];

/// A line for each variant.
pub(super) fn table(scenario: &Scenario, finished: &[FinishedRun]) -> String {
    let mut text = format!("{}: {}\n", scenario.name, scenario.description);
    if scenario.draws > 1 {
        text += &format!("Medians of {} draws.\n", scenario.draws);
    }
    text += "\n";
    let heads = ["variant"].into_iter().chain(COLUMNS.iter().map(|column| column.head));
    let mut lines: Vec<Vec<String>> = vec![heads.map(str::to_owned).collect()];
    for (number, variant) in scenario.variants.iter().enumerate() {
        let draws: Vec<_> = finished.iter().filter(|one| one.variant == number).collect();
        let cells = COLUMNS.iter().map(|column| {
            let values = draws
                .iter()
                .map(|one| (column.value)(one, ideal(scenario, finished, one.draw)));
            median(values.collect()).map_or("-".to_owned(), |value| format!("{value:.*}", column.decimals))
        });
        let diverged = draws.iter().filter(|one| one.end.has_diverged).count();
        let name = match diverged {
            0 => variant.name.clone(),
            _ => format!("{} ({diverged} diverged)", variant.name),
        };
        lines.push([name].into_iter().chain(cells).collect());
    }
    let widths: Vec<usize> = (0..=COLUMNS.len())
        .map(|at| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0))
        .collect();
    // A row below the heads makes it a table of Markdown; numbers are on the right.
    let rule = widths.iter().enumerate().map(|(at, width)| match at {
        0 => "-".repeat(*width),
        _ => format!("{}:", "-".repeat(width - 1)),
    });
    lines.insert(1, rule.collect());
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| match at {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        text += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

/// All runs, each a row, as CSV.
pub(super) fn csv(scenario: &Scenario, finished: &[FinishedRun]) -> Result<Vec<u8>> {
    let mut table = csv::Writer::from_writer(Vec::new());
    let columns = COLUMNS.iter().map(|column| column.name);
    table.write_record(["scenario", "variant", "draw"].into_iter().chain(columns).chain(COUNTS))?;
    for one in finished {
        let names = [
            scenario.name.clone(),
            scenario.variants[one.variant].name.clone(),
            one.draw.to_string(),
        ];
        let ideal = ideal(scenario, finished, one.draw);
        let cells = COLUMNS
            .iter()
            .map(|column| (column.value)(one, ideal).map_or(String::new(), |value| value.to_string()));
        let count = |read: fn(&simulator::RunStats) -> u64| {
            one.stats
                .as_ref()
                .map_or(String::new(), |stats| read(stats).to_string())
        };
        let counts = [
            one.end.samples.to_string(),
            count(|stats| stats.computed),
            count(|stats| stats.accepted),
            count(|stats| stats.still_there),
            count(|stats| stats.not_finite),
            format!("{:016x}", one.end.fingerprint.value()),
        ];
        table.write_record(names.into_iter().chain(cells).chain(counts))?;
    }
    Ok(table.into_inner()?)
}

/// The samples of the sequential baseline up to the aim in this draw, if the scenario has the baseline and it got
/// there.
fn ideal(scenario: &Scenario, finished: &[FinishedRun], draw: u64) -> Option<u64> {
    let is_sequential = |one: &&FinishedRun| one.draw == draw && scenario.variants[one.variant].is_sequential;
    finished.iter().find(is_sequential)?.reached.map(|(samples, _)| samples)
}

/// The median; of two in the middle, the greater. A missing value counts as greater than all others: a run that never
/// reached its aim took longer than any that did.
fn median(mut values: Vec<Option<f64>>) -> Option<f64> {
    values.sort_by(|one, other| one.unwrap_or(f64::INFINITY).total_cmp(&other.unwrap_or(f64::INFINITY)));
    values.get(values.len() / 2).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_runs_of_which_most_failed_is_none() {
        assert_eq!(median(vec![Some(3.0), None, Some(1.0)]), Some(3.0));
        assert_eq!(median(vec![None, None, Some(1.0)]), None);
        assert_eq!(median(vec![Some(1.0), Some(2.0)]), Some(2.0));
        assert_eq!(median(Vec::new()), None);
    }
    #[test]
    fn every_column_is_explained_and_no_other() {
        let readme = include_str!("../../../scenarios/README.md");
        let (_, table) = readme.split_once("## Every column").unwrap();
        let rows = table.lines().filter(|line| line.starts_with('|')).skip(2);
        let cells = |at: usize| -> Vec<String> {
            let cells = rows.clone().filter_map(|row| row.split('|').nth(at));
            let names = cells.flat_map(|cell| cell.split(", "));
            let names = names.map(|name| name.trim().trim_matches('`').to_owned());
            names.filter(|name| !name.is_empty()).collect()
        };
        assert_eq!(cells(1), COLUMNS.map(|column| column.head));
        let mut names: Vec<_> = COLUMNS.iter().map(|column| column.name).chain(COUNTS).collect();
        let mut explained = cells(2);
        names.sort_unstable();
        explained.sort_unstable();
        assert_eq!(explained, names);
    }
}
