//! A run's data: shards to train on, as they travel to volunteers, and the held-out samples, which stay with the
//! server.

mod digits;
mod error;
mod file;
mod idx;
mod legend;
mod table;
mod text;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nn::data::sample_format::{ContentFormat, SampleFormat};
use nn::data::shard::{Shard, ShardError};
use nn::random::{Generator, Purpose};
use serde::{Deserialize, Serialize};

pub use error::DatasetError;
pub use legend::Legend;

/// The most shards that a run may have: the run's description, which every volunteer fetches, names each of them.
pub const MAX_SHARDS: usize = 10_000;

/// Decides what is held out where that is not said. Not the run's seed: runs with different seeds are compared on the
/// same held-out samples.
const HELD_OUT_SEED: u64 = 0;

/// What a run file says of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DatasetSpec {
    /// The digits that are embedded in the program: 8×8 pixels, 10 classes.
    Digits(DigitsSpec),
    /// Four files in the format of MNIST, gzipped or not.
    Idx(IdxSpec),
    /// A text, gzipped or not: to say each next character.
    Text(TextSpec),
    /// A table of comma-separated values, gzipped or not.
    Csv(CsvSpec),
}

/// Settings of the embedded digits.
#[expect(missing_docs, reason = "the table of keys says what each means")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigitsSpec {
    #[serde(default = "default::digits::shard_samples")]
    pub shard_samples: usize,
}

/// Where IDX files are, and what they mean.
#[expect(missing_docs, reason = "the table of keys says what each means")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdxSpec {
    pub train_images: PathBuf,
    pub train_labels: PathBuf,
    pub test_images: PathBuf,
    pub test_labels: PathBuf,
    pub classes: u32,
    #[serde(default = "default::idx::shard_samples")]
    pub shard_samples: usize,
    #[serde(default = "default::idx::mean")]
    pub mean: f64,
    #[serde(default = "default::idx::std")]
    pub std: f64,
}

/// Where a text is, and how it is cut.
#[expect(missing_docs, reason = "the table of keys says what each means")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    pub file: PathBuf,
    pub positions: usize,
    #[serde(default = "default::text::held_out")]
    pub held_out: f64,
    #[serde(default = "default::text::shard_samples")]
    pub shard_samples: usize,
}

/// Where a table is, and what its columns mean.
#[expect(missing_docs, reason = "the table of keys says what each means")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CsvSpec {
    pub file: PathBuf,
    pub targets: Vec<String>,
    #[serde(default = "default::csv::target_kind")]
    pub target_kind: TargetKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    #[serde(default = "default::csv::categories")]
    pub categories: Vec<String>,
    #[serde(default = "default::csv::logarithms")]
    pub logarithms: Vec<String>,
    #[serde(default = "default::csv::delimiter")]
    pub delimiter: char,
    #[serde(default = "default::csv::held_out")]
    pub held_out: f64,
    #[serde(default = "default::csv::shard_samples")]
    pub shard_samples: usize,
}

/// What a table's target columns hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// Numbers, which are moved and scaled to mean 0 and standard deviation 1.
    #[default]
    Numbers,
    /// A class, in one column.
    Class,
    /// 0 for no and 1 for yes, or chances between.
    Chances,
}

/// What the table of keys says, for each kind.
mod default {
    pub(super) mod digits {
        use crate::keys::defaults;
        defaults! { "[dataset]" "digits": shard_samples: usize }
    }

    pub(super) mod idx {
        use crate::keys::defaults;
        defaults! { "[dataset]" "idx": shard_samples: usize, mean: f64, std: f64 }
    }

    pub(super) mod text {
        use crate::keys::defaults;
        defaults! { "[dataset]" "text": held_out: f64, shard_samples: usize }
    }

    pub(super) mod csv {
        use crate::dataset::TargetKind;
        use crate::keys::defaults;
        defaults! { "[dataset]" "csv":
            target_kind: TargetKind,
            categories: Vec<String>,
            logarithms: Vec<String>,
            delimiter: char,
            held_out: f64,
            shard_samples: usize,
        }
    }
}

impl DatasetSpec {
    /// The same data, with each path taken as relative to `directory`.
    pub fn relative_to(self, directory: &Path) -> DatasetSpec {
        match self {
            DatasetSpec::Digits(_) => self,
            DatasetSpec::Idx(idx) => DatasetSpec::Idx(IdxSpec {
                train_images: directory.join(idx.train_images),
                train_labels: directory.join(idx.train_labels),
                test_images: directory.join(idx.test_images),
                test_labels: directory.join(idx.test_labels),
                ..idx
            }),
            DatasetSpec::Text(text) => DatasetSpec::Text(TextSpec {
                file: directory.join(text.file),
                ..text
            }),
            DatasetSpec::Csv(csv) => DatasetSpec::Csv(CsvSpec {
                file: directory.join(csv.file),
                ..csv
            }),
        }
    }

    /// About how many samples a shard has.
    pub fn shard_samples(&self) -> usize {
        match self {
            DatasetSpec::Digits(digits) => digits.shard_samples,
            DatasetSpec::Idx(idx) => idx.shard_samples,
            DatasetSpec::Text(text) => text.shard_samples,
            DatasetSpec::Csv(csv) => csv.shard_samples,
        }
    }
}

/// Inputs and labels that belong to each other. inputs: (samples, elements), row-major.
struct LabelledSamples {
    inputs: Vec<u8>,
    labels: Vec<u8>,
}

/// A run's data, checked: all samples are of the format.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the samples' bytes mean.
    pub format: SampleFormat,
    /// The samples to train on. They were shuffled before they were cut, so every shard is a fair sample of the whole;
    /// but a text's shards are its parts.
    pub shards: Arc<[Shard]>,
    /// The held-out samples.
    pub held_out: Vec<Shard>,
    /// What inputs and outputs mean, where their numbers alone don't say: in texts and tables.
    pub legend: Option<Legend>,
}

impl Dataset {
    /// The hash of the samples to train on.
    pub fn hash(&self) -> u64 {
        nn::data::shard::hash_of_all(&self.shards)
    }

    /// Loads a run's data. The run's seed decides which samples share a shard, and nothing else.
    ///
    /// # Errors
    /// A file that can't be read or is not what the run file says, and data that makes no shards.
    pub fn load(spec: &DatasetSpec, run_seed: u64) -> Result<Dataset, DatasetError> {
        let (format, train, held_out) = match spec {
            DatasetSpec::Digits(_) => digits::load()?,
            DatasetSpec::Idx(idx) => idx::load(idx)?,
            DatasetSpec::Text(spec) => return text::load(spec),
            DatasetSpec::Csv(spec) => return table::load(spec, run_seed),
        };
        let cut = |samples: &LabelledSamples, order: &[usize]| {
            cut(order, spec.shard_samples(), |chosen| samples.shard(&format, chosen))
        };
        let shards = cut(&train, &shuffled(train.labels.len(), run_seed))?;
        let held_out = cut(&held_out, &(0..held_out.labels.len()).collect::<Vec<_>>())?;
        Ok(Dataset {
            format,
            shards: shards.into(),
            held_out,
            legend: None,
        })
    }

    /// How many samples there are to train on.
    pub fn train_samples(&self) -> usize {
        self.shards.iter().map(Shard::samples).sum()
    }

    /// How many samples are held out.
    pub fn held_out_samples(&self) -> usize {
        self.held_out.iter().map(|shard| shard.apart().len()).sum()
    }
}

impl LabelledSamples {
    fn shard(&self, format: &SampleFormat, chosen: &[usize]) -> Result<Shard, ShardError> {
        let elements = format.elements();
        let classes = match format.content {
            ContentFormat::Bytes { classes, .. } => classes,
            ContentFormat::Text { .. } | ContentFormat::Table { .. } => 0,
        };
        let rows = chosen
            .iter()
            .map(|sample| &self.inputs[sample * elements..][..elements]);
        let inputs = rows.collect::<Vec<_>>().concat();
        let labels = chosen.iter().map(|sample| self.labels[*sample]).collect();
        Shard::bytes(classes, elements, inputs, labels)
    }
}

/// The order in which a run's samples are cut into shards.
fn shuffled(samples: usize, run_seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..samples).collect();
    Generator::of_run(run_seed, Purpose::DatasetOrder, 0).shuffle(&mut order);
    order
}

/// Cuts samples in this order into shards of about `shard_samples`.
///
/// Sizes differ by one at most: an ML module spends as many steps on any shard, so the samples of a small last one
/// would come more often than the others.
fn cut<T>(
    order: &[T],
    shard_samples: usize,
    shard: impl Fn(&[T]) -> Result<Shard, ShardError>,
) -> Result<Vec<Shard>, DatasetError> {
    let shards = order.len().div_ceil(shard_samples.max(1));
    if shards > MAX_SHARDS {
        return Err(DatasetError::TooManyShards { shard_samples, shards });
    }
    let part = |index| &order[index * order.len() / shards..(index + 1) * order.len() / shards];
    Ok((0..shards).map(|index| shard(part(index))).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::data::shard::Content;
    use std::collections::BTreeSet;

    fn digits(seed: u64) -> Dataset {
        Dataset::load(&DatasetSpec::Digits(DigitsSpec { shard_samples: 480 }), seed).unwrap()
    }

    fn content(shard: &Shard) -> (&[u8], &[u8]) {
        match shard.content() {
            Content::Bytes { inputs, labels, .. } => (inputs, labels),
            other => panic!("{other:?}"),
        }
    }

    /// All (input, label) pairs, in no order.
    fn pairs(shards: &[Shard]) -> BTreeSet<(Vec<u8>, u8)> {
        let pairs = |shard: &Shard| -> Vec<(Vec<u8>, u8)> {
            let (inputs, labels) = content(shard);
            let inputs = inputs.chunks_exact(64).map(<[u8]>::to_vec);
            inputs.zip(labels.iter().copied()).collect()
        };
        shards.iter().flat_map(pairs).collect()
    }

    #[test]
    fn the_digits_are_all_there() {
        let dataset = digits(1);
        assert_eq!(
            (&dataset.format.shape[..], dataset.format.classes()),
            (&[1, 8, 8][..], Some(10))
        );
        let pixels: Vec<u8> = dataset
            .shards
            .iter()
            .flat_map(|shard| content(shard).0.to_vec())
            .collect();
        let mut inputs = vec![0.0; pixels.len()];
        dataset.format.inputs(&pixels, &mut inputs);
        let mean = inputs.iter().sum::<f32>() / inputs.len() as f32;
        assert!(mean.abs() < 0.01, "{mean}");
        assert_eq!((dataset.train_samples(), dataset.held_out_samples()), (1437, 360));
        assert_eq!(dataset.shards.iter().map(Shard::samples).collect::<Vec<_>>(), [479; 3]);
    }

    #[test]
    fn the_seed_changes_the_shards_but_never_what_is_held_out() {
        let (one, other) = (digits(1), digits(2));
        assert_ne!(one.shards, other.shards);
        assert_eq!(one.shards, digits(1).shards);
        assert_eq!(one.held_out, other.held_out);
        assert_eq!(pairs(&one.shards), pairs(&other.shards));
    }

    #[test]
    fn nothing_that_is_held_out_is_trained_on() {
        let dataset = digits(1);
        let (train, held_out) = (pairs(&dataset.shards), pairs(&dataset.held_out));
        assert!(!held_out.is_empty() && held_out.is_disjoint(&train));
    }

    #[test]
    fn every_shard_and_the_held_out_samples_are_a_fair_sample_of_the_classes() {
        let dataset = digits(1);
        let held_out = dataset.held_out.iter().flat_map(|shard| content(shard).1.to_vec());
        let sets = dataset.shards.iter().map(|shard| content(shard).1.to_vec());
        let sets = sets.chain([held_out.collect::<Vec<u8>>()]);
        for labels in sets {
            for class in 0..10 {
                let count = labels.iter().filter(|&&label| label == class).count();
                assert!(
                    count * 100 >= labels.len() * 6 && count * 100 <= labels.len() * 14,
                    "{count} of class {class}"
                );
            }
        }
    }

    #[test]
    fn shards_differ_by_one_sample_at_most() {
        for shard_samples in [1, 7, 100, 1000, 10_000] {
            let dataset = Dataset::load(&DatasetSpec::Digits(DigitsSpec { shard_samples }), 1).unwrap();
            let sizes: BTreeSet<usize> = dataset.shards.iter().map(Shard::samples).collect();
            assert!(
                sizes.len() <= 2 && sizes.iter().all(|&size| size <= shard_samples),
                "{sizes:?}"
            );
            assert_eq!(dataset.train_samples(), 1437);
        }
    }
}
