//! A table of comma-separated values.

mod columns;

use nn::data::sample_format::{ContentFormat, SampleFormat, TableTargets};
use nn::data::shard::{Shard, ShardError};
use nn::random::{Generator, Purpose};

use self::columns::{EncodedColumn, Table};
use super::legend::Column;
use super::{CsvSpec, Dataset, DatasetError, HELD_OUT_SEED, Legend, TargetKind, cut, file, shuffled};

/// A table: numbers are moved and scaled to mean 0 and standard deviation 1 over the rows to train on.
pub(super) fn load(spec: &CsvSpec, run_seed: u64) -> Result<Dataset, DatasetError> {
    let at_file = |problem| DatasetError::Table {
        path: spec.file.clone(),
        problem,
    };
    let text = file::text(&spec.file)?;
    let table = Table::read(&text, spec).map_err(at_file)?;
    let mut rows: Vec<usize> = (0..table.rows()).collect();
    Generator::of_run(HELD_OUT_SEED, Purpose::HeldOut, 0).shuffle(&mut rows);
    let held_out = (rows.len() as f64 * spec.held_out).round() as usize;
    let (train, held_out) = rows.split_at(rows.len().saturating_sub(held_out));
    if rows.len() < 2 {
        return Err(at_file(format!(
            "has {} rows; give it at least one to train on and one to evaluate on",
            rows.len()
        )));
    }
    if train.is_empty() || held_out.is_empty() {
        return Err(at_file(format!(
            "{} rows to train on and {} to evaluate on; set held_out so that there are some of both",
            train.len(),
            held_out.len()
        )));
    }
    let (inputs, targets) = table.chosen(train).map_err(at_file)?;
    let encoded = Encoded::new(&table, &inputs, &targets, spec.target_kind).map_err(at_file)?;
    let order: Vec<usize> = shuffled(train.len(), run_seed)
        .into_iter()
        .map(|position| train[position])
        .collect();
    let legend = |columns: Vec<EncodedColumn>| -> Vec<Column> { columns.into_iter().map(|c| c.legend).collect() };
    Ok(Dataset {
        format: SampleFormat {
            shape: vec![inputs.len()],
            content: ContentFormat::Table {
                targets: encoded.targets,
            },
        },
        shards: cut(&order, spec.shard_samples, |rows| encoded.shard(rows))?.into(),
        held_out: cut(held_out, spec.shard_samples, |rows| encoded.shard(rows))?,
        legend: Some(Legend::Table {
            inputs: legend(inputs),
            targets: legend(targets),
        }),
    })
}

/// All rows as numbers: inputs, and targets.
struct Encoded {
    rows: Vec<(Vec<f32>, Vec<f32>)>,
    elements: usize,
    targets: TableTargets,
}

impl Encoded {
    fn new(
        table: &Table<'_>,
        inputs: &[EncodedColumn],
        targets: &[EncodedColumn],
        kind: TargetKind,
    ) -> Result<Encoded, String> {
        let rows = (0..table.rows()).map(|row| {
            let numbers = |columns: &[EncodedColumn]| {
                let numbers = columns.iter().map(|column| table.number(column, row));
                numbers.collect::<Result<Vec<f32>, _>>()
            };
            let (inputs, targets) = (numbers(inputs)?, numbers(targets)?);
            let targets = match kind {
                // A class is the position of its name.
                TargetKind::Class => {
                    vec![targets.iter().position(|is_it| *is_it == 1.0).unwrap_or_default() as f32]
                }
                TargetKind::Numbers | TargetKind::Chances => targets,
            };
            Ok((inputs, targets))
        });
        let count = targets.len() as u32;
        Ok(Encoded {
            rows: rows.collect::<Result<_, String>>()?,
            elements: inputs.len(),
            targets: match kind {
                TargetKind::Numbers => TableTargets::Values { count },
                TargetKind::Chances => TableTargets::Probabilities { count },
                TargetKind::Class => TableTargets::Class { classes: count },
            },
        })
    }

    fn shard(&self, rows: &[usize]) -> Result<Shard, ShardError> {
        let (inputs, targets): (Vec<_>, Vec<_>) = rows.iter().map(|row| self.rows[*row].clone()).unzip();
        Shard::table(self.elements, self.targets, inputs.concat(), targets.concat())
    }
}

#[cfg(test)]
mod tests;
