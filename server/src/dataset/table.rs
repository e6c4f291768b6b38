//! A table of comma-separated values.

use std::collections::BTreeSet;

use csv::{ReaderBuilder, StringRecord};
use nn::random::{Generator, Purpose};
use nn::sample_format::{ContentFormat, SampleFormat, TableTargets};
use nn::shard::{MAX_CLASSES, Shard};

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
    let mut rows: Vec<usize> = (0..table.rows.len()).collect();
    Generator::of_run(HELD_OUT_SEED, Purpose::HeldOut, 0).shuffle(&mut rows);
    let held_out = (rows.len() as f64 * spec.held_out).round() as usize;
    let (train, held_out) = rows.split_at(rows.len().saturating_sub(held_out));
    if train.is_empty() || held_out.is_empty() {
        return Err(at_file(format!(
            "{} rows to train on and {} to evaluate on; set held_out so that there are some of both",
            train.len(),
            held_out.len()
        )));
    }
    let (inputs, targets) = (|| Ok((table.inputs(spec, train)?, table.targets(spec, train)?)))().map_err(at_file)?;
    let of = match spec.target_kind {
        TargetKind::Numbers => TableTargets::Values {
            count: targets.len() as u32,
        },
        TargetKind::Chances => TableTargets::Probabilities {
            count: targets.len() as u32,
        },
        TargetKind::Class => TableTargets::Class {
            classes: targets.len() as u32,
        },
    };
    let encoded = Encoded {
        rows: (0..table.rows.len())
            .map(|row| {
                let inputs = inputs.iter().map(|column| table.number(column, row));
                let targets = match spec.target_kind {
                    // A class is the place of its name.
                    TargetKind::Class => {
                        let is_it = |target: &EncodedColumn| table.number(target, row).is_ok_and(|is_it| is_it == 1.0);
                        vec![Ok(targets.iter().position(is_it).unwrap_or_default() as f32)]
                    }
                    TargetKind::Numbers | TargetKind::Chances => {
                        targets.iter().map(|column| table.number(column, row)).collect()
                    }
                };
                Ok((
                    inputs.collect::<Result<_, _>>()?,
                    targets.into_iter().collect::<Result<_, _>>()?,
                ))
            })
            .collect::<Result<_, String>>()
            .map_err(at_file)?,
        elements: inputs.len(),
        of,
    };
    let order: Vec<usize> = shuffled(train.len(), run_seed)
        .into_iter()
        .map(|place| train[place])
        .collect();
    let legend = |columns: Vec<EncodedColumn>| columns.into_iter().map(|column| column.legend).collect();
    Ok(Dataset {
        format: SampleFormat {
            shape: vec![inputs.len()],
            content: ContentFormat::Table { targets: of },
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
    of: TableTargets,
}

impl Encoded {
    fn shard(&self, rows: &[usize]) -> Result<Shard, nn::shard::ShardError> {
        let (inputs, targets): (Vec<_>, Vec<_>) = rows.iter().map(|row| self.rows[*row].clone()).unzip();
        Shard::table(self.elements, self.of, inputs.concat(), targets.concat())
    }
}

/// The file's rows, all of the header's length.
struct Table {
    header: StringRecord,
    rows: Vec<StringRecord>,
}

/// A number of each row: what it is of which column.
struct EncodedColumn {
    place: usize,
    legend: Column,
}

impl Table {
    fn read(text: &str, spec: &CsvSpec) -> Result<Table, String> {
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
        Ok(Table { header, rows })
    }

    fn place(&self, column: &str, key: &str) -> Result<usize, String> {
        let mut places = self.header.iter().enumerate().filter(|(_, name)| *name == column);
        match (places.next(), places.next()) {
            (Some((place, _)), None) => Ok(place),
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

    /// What the model is given: all columns that are no targets, or those that are named.
    fn inputs(&self, spec: &CsvSpec, train: &[usize]) -> Result<Vec<EncodedColumn>, String> {
        for (key, names) in [("categories", &spec.categories), ("logarithms", &spec.logarithms)] {
            for name in names {
                self.place(name, key)?;
            }
        }
        let targets = spec
            .targets
            .iter()
            .map(|name| self.place(name, "targets"))
            .collect::<Result<Vec<_>, _>>()?;
        let places = match &spec.inputs {
            Some(names) => names
                .iter()
                .map(|name| self.place(name, "inputs"))
                .collect::<Result<Vec<_>, _>>()?,
            None => (0..self.header.len())
                .filter(|place| !targets.contains(place))
                .collect(),
        };
        if let Some(both) = places.iter().find(|place| targets.contains(place)) {
            return Err(format!(
                "column {:?} is in inputs and in targets; leave it out of one",
                &self.header[*both]
            ));
        }
        if places.is_empty() {
            return Err("no column is left to be given; add some to inputs".into());
        }
        let mut columns = Vec::new();
        for place in places {
            if spec.categories.iter().any(|name| *name == self.header[place]) {
                columns.extend(self.categories(place)?);
            } else {
                columns.push(self.scaled(place, spec, train)?);
            }
        }
        Ok(columns)
    }

    fn targets(&self, spec: &CsvSpec, train: &[usize]) -> Result<Vec<EncodedColumn>, String> {
        let places = spec
            .targets
            .iter()
            .map(|name| self.place(name, "targets"))
            .collect::<Result<Vec<_>, _>>()?;
        match (spec.target_kind, &places[..]) {
            (_, []) => Err("no column is named in targets; name one".into()),
            (TargetKind::Class, [place]) => self.categories(*place),
            (TargetKind::Class, _) => Err("a class is one column; name one in targets".into()),
            (TargetKind::Numbers, _) => places.iter().map(|place| self.scaled(*place, spec, train)).collect(),
            (TargetKind::Chances, _) => places.iter().map(|place| self.chance(*place)).collect(),
        }
    }

    /// A column of words: a 0 or 1 for each.
    fn categories(&self, place: usize) -> Result<Vec<EncodedColumn>, String> {
        let mut words = BTreeSet::new();
        for row in 0..self.rows.len() {
            words.insert(self.value(place, row)?);
        }
        if !(2..=MAX_CLASSES as usize).contains(&words.len()) {
            return Err(format!(
                "column {:?} has {} different values; 2 to {MAX_CLASSES} make categories or classes: leave it out",
                &self.header[place],
                words.len()
            ));
        }
        let column = |is: &str| EncodedColumn {
            place,
            legend: Column::Category {
                column: self.header[place].to_owned(),
                is: is.to_owned(),
            },
        };
        Ok(words.into_iter().map(column).collect())
    }

    /// A column of numbers, moved and scaled by those of the rows to train on.
    fn scaled(&self, place: usize, spec: &CsvSpec, train: &[usize]) -> Result<EncodedColumn, String> {
        let column = self.header[place].to_owned();
        let logarithm = spec.logarithms.contains(&column);
        let numbers = train
            .iter()
            .map(|row| self.parsed(place, *row, logarithm))
            .collect::<Result<Vec<f64>, _>>()?;
        let count = numbers.len().max(1) as f64;
        let mean = numbers.iter().sum::<f64>() / count;
        let std = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        // Not above 0 where it is not a number either: of numbers whose squares have no end.
        if !(std > 0.0 && std.is_finite()) {
            return Err(format!(
                "column {column:?} has a standard deviation of {std} in the rows to train on; leave it out"
            ));
        }
        Ok(EncodedColumn {
            place,
            legend: Column::Number {
                column,
                logarithm,
                mean,
                std,
            },
        })
    }

    fn chance(&self, place: usize) -> Result<EncodedColumn, String> {
        for row in 0..self.rows.len() {
            let chance = self.parsed(place, row, false)?;
            if !(0.0..=1.0).contains(&chance) {
                return Err(format!(
                    "{}: {chance} is no chance; give 0 for no and 1 for yes, or set target_kind",
                    self.cell(place, row)
                ));
            }
        }
        Ok(EncodedColumn {
            place,
            legend: Column::Chance {
                column: self.header[place].to_owned(),
            },
        })
    }

    /// The number that a row has there.
    fn number(&self, column: &EncodedColumn, row: usize) -> Result<f32, String> {
        let place = column.place;
        match &column.legend {
            Column::Number {
                logarithm, mean, std, ..
            } => Ok(((self.parsed(place, row, *logarithm)? - mean) / std) as f32),
            Column::Category { is, .. } => Ok(f32::from(u8::from(self.value(place, row)? == is))),
            Column::Chance { .. } => Ok(self.parsed(place, row, false)? as f32),
        }
    }

    fn parsed(&self, place: usize, row: usize, logarithm: bool) -> Result<f64, String> {
        let value = self.value(place, row)?;
        let number: f64 = match value.parse() {
            Ok(number) if f64::is_finite(number) => number,
            _ => {
                return Err(format!(
                    "{}: {value:?} is no number; correct it, or name the column in categories",
                    self.cell(place, row)
                ));
            }
        };
        if !logarithm {
            return Ok(number);
        }
        if number <= 0.0 {
            return Err(format!(
                "{}: {value} has no logarithm; take the column out of logarithms",
                self.cell(place, row)
            ));
        }
        Ok(number.ln())
    }

    /// What stands in a cell, which may not be nothing.
    fn value(&self, place: usize, row: usize) -> Result<&str, String> {
        let holes = ["", "NA", "NaN", "nan", "null", "?"];
        match self.rows.get(row).and_then(|row| row.get(place)) {
            Some(value) if !holes.contains(&value) => Ok(value),
            value => Err(format!(
                "{}: is a hole ({:?}); fill it, or leave the row or the column out",
                self.cell(place, row),
                value.unwrap_or_default()
            )),
        }
    }

    /// Where a cell is, in words.
    fn cell(&self, place: usize, row: usize) -> String {
        let line = self
            .rows
            .get(row)
            .and_then(StringRecord::position)
            .map_or(0, csv::Position::line);
        format!("line {line}, column {:?}", &self.header[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::DatasetSpec;
    use nn::shard::Content;

    const FLOWERS: &str = "name,width,height,kind,is_red\n\
        a,1.5,10,rose,1\nb,2.5,100,\"tulip, wild\",0\nc,3.5,1000,rose,0\nd,2.5,10,aster,1\n";

    fn load_table(text: &str, settings: &str) -> Result<Dataset, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("table.csv"), text).unwrap();
        let text = format!("kind = 'csv'\nfile = 'table.csv'\nheld_out = 0.25\n{settings}");
        let spec = toml::from_str::<DatasetSpec>(&text)
            .unwrap()
            .relative_to(directory.path());
        let prefix = format!("{}/", directory.path().display());
        Dataset::load(&spec, 1).map_err(|error| error.to_string().replace(&prefix, ""))
    }

    /// All rows: inputs and targets.
    fn rows(shards: &[Shard]) -> Vec<(Vec<f32>, Vec<f32>)> {
        let rows = |shard: &Shard| match shard.content() {
            Content::Table { inputs, targets, .. } => {
                let targets = targets
                    .chunks_exact(targets.len() / shard.samples())
                    .map(<[f32]>::to_vec);
                let inputs = inputs.chunks_exact(shard.elements()).map(<[f32]>::to_vec);
                inputs.zip(targets).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        };
        shards.iter().flat_map(rows).collect()
    }

    #[test]
    fn numbers_are_scaled_and_categories_become_inputs() {
        let settings =
            "targets = ['width']\ninputs = ['height', 'kind']\ncategories = ['kind']\nlogarithms = ['height']";
        let dataset = load_table(FLOWERS, settings).unwrap();
        assert_eq!((dataset.train_samples(), dataset.held_out_samples()), (3, 1));
        assert_eq!(dataset.format.shape, [4]);
        let train = rows(&dataset.shards);
        for column in 0..2 {
            let numbers: Vec<f32> = train
                .iter()
                .map(|row| if column == 0 { row.0[0] } else { row.1[0] })
                .collect();
            let (mean, square) = (
                numbers.iter().sum::<f32>() / 3.0,
                numbers.iter().map(|x| x * x).sum::<f32>() / 3.0,
            );
            assert!(mean.abs() < 1e-6 && (square - 1.0).abs() < 1e-6, "{numbers:?}");
        }
        assert!(train.iter().all(|row| row.0[1..].iter().sum::<f32>() == 1.0));
        let Some(Legend::Table { inputs, targets }) = dataset.legend else {
            panic!("a table has a legend")
        };
        let category = |is: &str| Column::Category {
            column: "kind".into(),
            is: is.into(),
        };
        assert_eq!(
            inputs[1..],
            [category("aster"), category("rose"), category("tulip, wild")]
        );
        assert!(matches!(&inputs[0], Column::Number { logarithm: true, column, .. } if column == "height"));
        assert!(matches!(&targets[..], [Column::Number { logarithm: false, .. }]));
    }

    #[test]
    fn classes_are_numbered_by_name_and_chances_stay() {
        let dataset = load_table(FLOWERS, "targets = ['kind']\ntarget_kind = 'class'\ninputs = ['width']").unwrap();
        let ContentFormat::Table { targets } = dataset.format.content else {
            panic!("a table")
        };
        assert_eq!(targets, TableTargets::Class { classes: 3 });
        let mut classes: Vec<f32> = rows(&[&dataset.shards[..], &dataset.held_out].concat())
            .iter()
            .map(|row| row.1[0])
            .collect();
        classes.sort_by(f32::total_cmp);
        assert_eq!(classes, [0.0, 1.0, 1.0, 2.0]);
        let dataset = load_table(
            FLOWERS,
            "targets = ['is_red']\ntarget_kind = 'chances'\ninputs = ['width']",
        )
        .unwrap();
        assert_eq!(
            dataset.format.content,
            ContentFormat::Table {
                targets: TableTargets::Probabilities { count: 1 }
            }
        );
    }

    #[test]
    fn the_seed_changes_the_shards_but_never_what_is_held_out() {
        let text: String = (0..50).fold("x,y\n".into(), |text, row| format!("{text}{row},{}\n", row * row));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("table.csv"), text).unwrap();
        let spec: DatasetSpec = toml::from_str("kind = 'csv'\nfile = 'table.csv'\ntargets = ['y']").unwrap();
        let spec = spec.relative_to(directory.path());
        let (one, other) = (Dataset::load(&spec, 1).unwrap(), Dataset::load(&spec, 2).unwrap());
        assert_ne!(one.shards, other.shards);
        assert_eq!(one.held_out, other.held_out);
    }

    #[test]
    fn a_table_that_can_not_be_used_is_refused_with_the_place_and_the_mend() {
        let plain = "targets = ['y']";
        for (text, settings, expected) in [
            (
                "x,y\n1,2\n3,\n5,6\n",
                plain,
                "table.csv: line 3, column \"y\": is a hole (\"\"); fill it, or leave the row or the column out",
            ),
            (
                "x,y\n1,2\nblue,3\n5,6\n7,9\n",
                plain,
                "table.csv: line 3, column \"x\": \"blue\" is no number; correct it, or name the column in categories",
            ),
            (
                "x,y\n1,2\n3\n5,6\n",
                plain,
                "table.csv: line 3: has 1 values, but the header 2; correct the line, or delimiter",
            ),
            (
                "x,z\n1,2\n3,4\n5,6\n",
                plain,
                "table.csv: line 1: has no column \"y\", only \"x\", \"z\"; correct targets in [dataset]",
            ),
            (
                "x,y\n0,2\n3,4\n5,6\n1,1\n",
                "targets = ['y']\nlogarithms = ['x']",
                "table.csv: line 2, column \"x\": 0 has no logarithm; take the column out of logarithms",
            ),
            (
                "x,y\n0,2\n3,0\n5,1\n",
                "targets = ['y']\ntarget_kind = 'chances'",
                "table.csv: line 2, column \"y\": 2 is no chance; give 0 for no and 1 for yes, or set target_kind",
            ),
            (
                "x,y\n4,2\n4,0\n4,1\n4,5\n",
                plain,
                "table.csv: column \"x\" has a standard deviation of 0 in the rows to train on; leave it out",
            ),
            (
                "x,y\n",
                plain,
                "table.csv: 0 rows to train on and 0 to evaluate on; set held_out so that there are some of both",
            ),
        ] {
            assert_eq!(load_table(text, settings).unwrap_err(), expected);
        }
    }
}
