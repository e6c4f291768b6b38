//! The cells of a table: which columns are given and which are asked for, and the number of each row in them.

use std::collections::BTreeSet;

use csv::{ReaderBuilder, StringRecord};
use nn::data::shard::MAX_CLASSES;

use super::super::legend::Column;
use super::super::{CsvSpec, TargetKind};

/// How a missing value is written: in R and in spreadsheets, by pandas, in databases and in Weka's files. In capitals
/// or small letters, but for `Na`, which is sodium.
const HOLES: [&str; 7] = ["N/A", "#N/A", "<NA>", "NaN", "null", "?", ""];
const HOLES_AS_THEY_ARE: [&str; 2] = ["NA", "na"];

/// Beyond this, the squares of a column's numbers can't be added.
const MAX_NUMBER: f64 = 1e100;

/// Numbers of a column that differ by less, as a share of the largest, are one number that was rounded: an `f64` has 16
/// digits.
const ROUNDING: f64 = 1e-12;

/// The file's rows, all of the header's length.
pub(super) struct Table<'a> {
    spec: &'a CsvSpec,
    header: StringRecord,
    rows: Vec<StringRecord>,
}

/// A number of each row: the position of its column in the header, and what the number means.
pub(super) struct EncodedColumn {
    position: usize,
    pub(super) legend: Column,
}

impl<'a> Table<'a> {
    pub(super) fn read(text: &str, spec: &'a CsvSpec) -> Result<Table<'a>, String> {
        let mut reader = ReaderBuilder::new()
            .delimiter(spec.delimiter as u8)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let in_words = |error: csv::Error| match error.kind() {
            csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
                let line = pos.as_ref().map_or(0, csv::Position::line);
                format!("line {line}: has {len} values, but the header {expected_len}; correct the line, or delimiter")
            }
            _ => format!("{error}; correct the file"),
        };
        let header = reader.headers().map_err(in_words)?.clone();
        let rows = reader.into_records().collect::<Result<_, _>>().map_err(in_words)?;
        Ok(Table { spec, header, rows })
    }

    /// How many rows there are.
    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// The inputs and the targets, scaled by the rows to train on.
    pub(super) fn chosen(&self, train: &[usize]) -> Result<(Vec<EncodedColumn>, Vec<EncodedColumn>), String> {
        let targets = self.positions(&self.spec.targets, "targets")?;
        let inputs = match &self.spec.inputs {
            Some(names) => self.positions(names, "inputs")?,
            None => {
                let others = (0..self.header.len()).filter(|position| !targets.contains(position));
                // By their names, of which each is that of one column.
                let others = others.map(|position| self.position(&self.header[position], "inputs"));
                others.collect::<Result<_, _>>()?
            }
        };
        if let Some(both) = inputs.iter().find(|position| targets.contains(position)) {
            return Err(format!(
                "column {:?} is in inputs and in targets; leave it out of one",
                &self.header[*both]
            ));
        }
        if inputs.is_empty() {
            return Err("no column is left to be given; add some to inputs".into());
        }
        let categories = self.categories_of(&inputs)?;
        self.check_logarithms(&[&inputs[..], &targets].concat())?;
        let mut columns = Vec::new();
        for position in inputs {
            if categories.contains(&position) {
                columns.extend(self.categories(position)?);
            } else {
                columns.push(self.scaled(position, train)?);
            }
        }
        Ok((columns, self.targets(&targets, train)?))
    }

    fn targets(&self, positions: &[usize], train: &[usize]) -> Result<Vec<EncodedColumn>, String> {
        match (self.spec.target_kind, positions) {
            (_, []) => Err("no column is named in targets; name one".into()),
            (TargetKind::Class, [position]) => self.categories(*position),
            (TargetKind::Class, _) => Err("a class is one column; name one in targets".into()),
            (TargetKind::Numbers, _) => positions.iter().map(|position| self.scaled(*position, train)).collect(),
            (TargetKind::Chances, _) => positions.iter().map(|position| self.chance(*position)).collect(),
        }
    }

    /// The positions of the columns that a key of the run file names.
    fn positions(&self, names: &[String], key: &str) -> Result<Vec<usize>, String> {
        let mut positions = Vec::new();
        for name in names {
            let position = self.position(name, key)?;
            if positions.contains(&position) {
                return Err(format!("{key} in [dataset] names {name:?} twice; leave one out"));
            }
            positions.push(position);
        }
        Ok(positions)
    }

    fn position(&self, column: &str, key: &str) -> Result<usize, String> {
        let mut positions = self.header.iter().enumerate().filter(|(_, name)| *name == column);
        match (positions.next(), positions.next()) {
            (Some((position, _)), None) => Ok(position),
            (Some(_), Some(_)) => Err(format!("line 1: has two columns called {column:?}; rename one")),
            (None, _) => Err(format!(
                "line 1: has no column {column:?}, only {}; correct {key} in [dataset]",
                self.header
                    .iter()
                    .map(|name| format!("{name:?}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            )),
        }
    }

    /// Which of the inputs hold words.
    fn categories_of(&self, inputs: &[usize]) -> Result<Vec<usize>, String> {
        let positions = self.positions(&self.spec.categories, "categories")?;
        match positions.iter().find(|position| !inputs.contains(position)) {
            Some(other) => Err(format!(
                "categories in [dataset] names {:?}, which is not among the inputs; leave it out of categories",
                &self.header[*other]
            )),
            None => Ok(positions),
        }
    }

    /// Whether every column whose logarithm is to be taken is one of numbers.
    fn check_logarithms(&self, used: &[usize]) -> Result<(), String> {
        let spec = self.spec;
        for position in self.positions(&spec.logarithms, "logarithms")? {
            let name = &self.header[position];
            let is = |names: &[String]| names.iter().any(|other| other == name);
            let reason = match spec.target_kind {
                _ if !used.contains(&position) => "is neither an input nor a target",
                _ if is(&spec.categories) => "is in categories, and words have no logarithm",
                TargetKind::Class if is(&spec.targets) => "is a class, and words have no logarithm",
                TargetKind::Chances if is(&spec.targets) => "holds chances, which stay as they are",
                _ => continue,
            };
            return Err(format!(
                "logarithms in [dataset] names {name:?}, which {reason}; leave it out of logarithms"
            ));
        }
        Ok(())
    }

    /// A column of words: a 0 or 1 for each.
    fn categories(&self, position: usize) -> Result<Vec<EncodedColumn>, String> {
        let mut words = BTreeSet::new();
        for row in 0..self.rows.len() {
            words.insert(self.value(position, row)?);
        }
        if !(2..=MAX_CLASSES as usize).contains(&words.len()) {
            return Err(format!(
                "column {:?} has {} different values; 2 to {MAX_CLASSES} make categories or classes: leave it out",
                &self.header[position],
                words.len()
            ));
        }
        let column = |is: &str| EncodedColumn {
            position,
            legend: Column::Category {
                column: self.header[position].to_owned(),
                is: is.to_owned(),
            },
        };
        Ok(words.into_iter().map(column).collect())
    }

    /// A column of numbers, moved and scaled by those of the rows to train on.
    fn scaled(&self, position: usize, train: &[usize]) -> Result<EncodedColumn, String> {
        let column = self.header[position].to_owned();
        let logarithm = self.spec.logarithms.contains(&column);
        let mut numbers = Vec::with_capacity(train.len());
        for row in train {
            let number = self.parsed(position, *row, logarithm)?;
            if number.abs() > MAX_NUMBER {
                return Err(self.too_far(position, *row, "is too large to be scaled"));
            }
            numbers.push(number);
        }
        if is_one_number(&numbers) {
            let hint = if self.spec.targets.contains(&column) {
                "name another one in targets"
            } else {
                "name the others in inputs"
            };
            return Err(format!(
                "column {column:?} holds one number in all rows to train on, so nothing follows from it; {hint}"
            ));
        }
        let count = numbers.len().max(1) as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let std = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        Ok(EncodedColumn {
            position,
            legend: Column::Number {
                column,
                logarithm,
                mean,
                std,
            },
        })
    }

    fn chance(&self, position: usize) -> Result<EncodedColumn, String> {
        for row in 0..self.rows.len() {
            let chance = self.parsed(position, row, false)?;
            if !(0.0..=1.0).contains(&chance) {
                return Err(format!(
                    "{}: {chance} is no chance; give 0 for no and 1 for yes, or set target_kind",
                    self.cell(position, row)
                ));
            }
        }
        Ok(EncodedColumn {
            position,
            legend: Column::Chance {
                column: self.header[position].to_owned(),
            },
        })
    }

    /// The number that a row has there.
    pub(super) fn number(&self, column: &EncodedColumn, row: usize) -> Result<f32, String> {
        let position = column.position;
        match &column.legend {
            Column::Number {
                logarithm, mean, std, ..
            } => {
                let scaled = ((self.parsed(position, row, *logarithm)? - mean) / std) as f32;
                if scaled.is_finite() {
                    Ok(scaled)
                } else {
                    Err(self.too_far(position, row, "is too far from the numbers in the rows to train on"))
                }
            }
            Column::Category { is, .. } => Ok(f32::from(u8::from(self.value(position, row)? == is))),
            Column::Chance { .. } => Ok(self.parsed(position, row, false)? as f32),
        }
    }

    fn parsed(&self, position: usize, row: usize, logarithm: bool) -> Result<f64, String> {
        let value = self.value(position, row)?;
        let number: f64 = match value.parse() {
            Ok(number) if f64::is_finite(number) => number,
            Ok(_) => {
                let cell = self.cell(position, row);
                return Err(format!(
                    "{cell}: {value:?} has no end; correct it, or leave the row out"
                ));
            }
            Err(_) => {
                let (cell, hint) = (self.cell(position, row), self.hint_for_words(position));
                return Err(format!("{cell}: {value:?} is no number; correct it{hint}"));
            }
        };
        if !logarithm {
            return Ok(number);
        }
        if number <= 0.0 {
            return Err(format!(
                "{}: {value} has no logarithm; take the column out of logarithms",
                self.cell(position, row)
            ));
        }
        Ok(number.ln())
    }

    /// What to do with a column of words, where a correction is not all.
    fn hint_for_words(&self, position: usize) -> &'static str {
        let is_in = |names: &[String]| names.iter().any(|name| *name == self.header[position]);
        match self.spec.targets.len() {
            1 if is_in(&self.spec.targets) => ", or set target_kind = \"class\"",
            _ if is_in(&self.spec.targets) => "",
            _ if is_in(&self.spec.logarithms) => ", or name the column in categories, and not in logarithms",
            _ => ", or name the column in categories",
        }
    }

    /// What is wrong with a number that can't be scaled, and the hint: a logarithm helps only where all have one.
    fn too_far(&self, position: usize, row: usize, what: &str) -> String {
        let is_above_0 = |row| self.parsed(position, row, true).is_ok();
        let hint = if (0..self.rows.len()).all(is_above_0) {
            "correct it, or name the column in logarithms"
        } else {
            "correct it, or leave the row out"
        };
        let value = self.rows[row].get(position).unwrap_or_default();
        format!("{}: {value} {what}; {hint}", self.cell(position, row))
    }

    /// What stands in a cell, which may not be nothing.
    fn value(&self, position: usize, row: usize) -> Result<&str, String> {
        match self.rows.get(row).and_then(|row| row.get(position)) {
            Some(value) if !is_hole(value) => Ok(value),
            value => Err(format!(
                "{}: is a hole ({:?}); fill it, or leave the row or the column out",
                self.cell(position, row),
                value.unwrap_or_default()
            )),
        }
    }

    /// Where a cell is, in words.
    fn cell(&self, position: usize, row: usize) -> String {
        let line = self
            .rows
            .get(row)
            .and_then(StringRecord::position)
            .map_or(0, csv::Position::line);
        format!("line {line}, column {:?}", &self.header[position])
    }
}

/// Whether a cell holds nothing.
fn is_hole(value: &str) -> bool {
    HOLES.iter().any(|hole| hole.eq_ignore_ascii_case(value)) || HOLES_AS_THEY_ARE.contains(&value)
}

/// Whether they are all the same, but for rounding.
fn is_one_number(numbers: &[f64]) -> bool {
    let (least, most) = numbers
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), number| {
            (least.min(*number), most.max(*number))
        });
    most - least <= ROUNDING * least.abs().max(most.abs())
}
