//! `superstep runs`: the runs of a state folder, as a table or as JSON.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use state::clock::{age, now_ms, utc};
use state::runs::ListedRun;

const HEADER: [&str; 7] = ["name", "state", "samples", "accuracy", "size", "age", "owner"];

/// Prints the runs in the folder.
pub(crate) fn list(folder: &Path, as_json: bool) -> Result<()> {
    let runs = state::runs::list(folder)?;
    let text = if as_json {
        serde_json::to_string_pretty(&runs)? + "\n"
    } else if runs.is_empty() {
        format!("{}: no runs\n", folder.display())
    } else {
        table(&runs, now_ms())
    };
    // A reader that goes away is no failure.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// A line for each run, its columns below their names, and a line for each that has a problem.
fn table(runs: &[ListedRun], now_ms: u64) -> String {
    let rows: Vec<[String; 7]> = runs.iter().map(|run| row(run, now_ms)).collect();
    let header = HEADER.map(str::to_owned);
    let lines = || std::iter::once(&header).chain(&rows);
    let widths: [usize; 7] =
        std::array::from_fn(|column| lines().map(|line| line[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    for problem in runs.iter().filter_map(|run| run.problem.as_ref()) {
        text.push_str(problem);
        text.push('\n');
    }
    text
}

fn row(run: &ListedRun, now_ms: u64) -> [String; 7] {
    let owner = run.owner.as_ref().map(|owner| {
        let since = utc(owner.since_ms);
        format!("process {} on {} since {since}", owner.process, owner.host)
    });
    let nothing = || "–".to_owned();
    [
        run.name.clone(),
        run.state.to_owned(),
        run.samples.to_string(),
        run.accuracy
            .map_or_else(nothing, |accuracy| format!("{:.2} %", 100.0 * accuracy)),
        size(run.bytes),
        run.written_at_ms
            .map_or_else(nothing, |ms| age(now_ms.saturating_sub(ms))),
        owner.unwrap_or_else(nothing),
    ]
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_line_whose_columns_stand_below_their_names() {
        let run = ListedRun {
            name: "fashion-mnist".to_owned(),
            state: "interrupted",
            samples: 1_234_567,
            version: 4_822,
            accuracy: Some(0.9012),
            bytes: 12_345_678,
            created_at_ms: Some(0),
            written_at_ms: Some(1_000_000),
            owner: None,
            problem: None,
        };
        let expected = "\
name           state        samples  accuracy  size     age        owner
fashion-mnist  interrupted  1234567  90.12 %   12.3 MB  2 minutes  –
";
        assert_eq!(table(&[run], 1_120_000), expected);
    }
}
