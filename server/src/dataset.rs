//! A run's data: shards to train on, as they travel to volunteers, and the held-out samples, which stay with the server.

mod digits;
mod idx;

use std::io;
use std::path::{Path, PathBuf};

use nn::random::{Generator, Purpose};
use nn::shard::{SampleFormat, Shard, ShardError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The most shards that a run may have: the run's description, which every volunteer fetches, names each of them.
pub const MAX_SHARDS: usize = 10_000;

/// What a run file says of its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DatasetSpec {
    /// The digits that are embedded in the program: 8×8 pixels, 10 classes.
    Digits(DigitsSpec),
    /// Four files in the format of MNIST, gzipped or not.
    Idx(IdxSpec),
}

/// Settings of the embedded digits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigitsSpec {
    /// About how many samples a shard has. 1,500 by default: one shard, of 93 kB.
    #[serde(default = "digits_shard_samples")]
    pub shard_samples: usize,
}

/// Where IDX files are, and what they mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdxSpec {
    /// Inputs to train on: (samples, height, width), (samples, channels, height, width) or (samples, features), of unsigned
    /// bytes. This path and the others are relative to the run file.
    pub train_images: PathBuf,
    /// Labels to train on: (samples), of unsigned bytes.
    pub train_labels: PathBuf,
    /// Held-out inputs, of the same shape as those to train on.
    pub test_images: PathBuf,
    /// Held-out labels.
    pub test_labels: PathBuf,
    /// Labels are below this number.
    pub classes: u32,
    /// About how many samples a shard has. 2,000 by default: 1.6 MB of 28×28 images, a second on a home link.
    #[serde(default = "idx_shard_samples")]
    pub shard_samples: usize,
    /// The mean of the inputs, as a share of 255: input = (byte / 255 − `mean`) / `std`. 0 by default.
    #[serde(default)]
    pub mean: f64,
    /// The standard deviation of the inputs, as a share of 255; see `mean`. 1 by default.
    #[serde(default = "one")]
    pub std: f64,
}

fn digits_shard_samples() -> usize {
    1500
}

fn idx_shard_samples() -> usize {
    2000
}

fn one() -> f64 {
    1.0
}

impl DatasetSpec {
    /// The same data, with paths relative to `directory` made so.
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
        }
    }

    /// About how many samples a shard has.
    pub fn shard_samples(&self) -> usize {
        match self {
            DatasetSpec::Digits(digits) => digits.shard_samples,
            DatasetSpec::Idx(idx) => idx.shard_samples,
        }
    }
}

/// Why data can't be used: which file, where in it, what was expected, and the mend.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file isn't there, or isn't ours to read.
    #[error("{}: can't be opened: {source}; get the data, or correct the path in [dataset]", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file can't be read on, or is damaged gzip.
    #[error("{}: can't be read beyond offset {offset}: {source}; get the file again", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Bytes read before, unpacked.
        offset: u64,
        /// What the system says.
        source: io::Error,
    },
    /// The file isn't an IDX file of the kind that is needed.
    #[error("{}: offset 0: starts with bytes {found:02x?}, expected {expected}; correct the path in [dataset]", .path.display())]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: [u8; 4],
        /// What it should start with, in words.
        expected: &'static str,
    },
    /// The file ends before the last sample that its header promises.
    #[error("{}: ends at offset {offset}, expected {expected} bytes; get the file again", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its bytes, unpacked.
        offset: u64,
        /// The bytes that its header asks for, or the header itself.
        expected: u64,
    },
    /// The file goes on after the last sample that its header promises.
    #[error("{}: goes on at offset {expected}, where its header says it ends; get the file again", .path.display())]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// The bytes that its header asks for.
        expected: u64,
    },
    /// The header promises no data, or more than there can be.
    #[error(
        "{}: offset 4: the header says {sizes:?}, expected sizes above 0 and at most {} bytes in all; get the file again",
        .path.display(),
        idx::MAX_FILE_BYTES
    )]
    Sizes {
        /// The file.
        path: PathBuf,
        /// The sizes of all dimensions.
        sizes: Vec<u32>,
    },
    /// Images and labels don't belong to each other.
    #[error(
        "{}: {images} images, but {} has {labels} labels; name the files of one set in [dataset]",
        .images_path.display(),
        .labels_path.display()
    )]
    CountMismatch {
        /// The images.
        images_path: PathBuf,
        /// How many they are.
        images: usize,
        /// The labels.
        labels_path: PathBuf,
        /// How many they are.
        labels: usize,
    },
    /// Held-out images that a model for the others can't take.
    #[error(
        "{}: images of shape {found:?}, but {} has {expected:?}; name the files of one data set in [dataset]",
        .path.display(),
        .train_path.display()
    )]
    OtherShape {
        /// The held-out images.
        path: PathBuf,
        /// Their shape.
        found: Vec<usize>,
        /// The images to train on.
        train_path: PathBuf,
        /// Their shape.
        expected: Vec<usize>,
    },
    /// A label names a class that there isn't.
    #[error("{}: offset {offset}: label {label}, expected one below {classes}; correct `classes` in [dataset]", .path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// Where the label is.
        offset: u64,
        /// The label.
        label: u8,
        /// How many classes there are.
        classes: u32,
    },
    /// The embedded digits don't read as they were written.
    #[error("the embedded digits are damaged at line {line}; build the program again")]
    Embedded {
        /// The line, counted from 1.
        line: usize,
    },
    /// Too many shards.
    #[error(
        "shard_samples = {shard_samples} makes {shards} shards, at most {MAX_SHARDS} are allowed; set a larger one"
    )]
    TooManyShards {
        /// What the run file says.
        shard_samples: usize,
        /// The shards that it makes.
        shards: usize,
    },
    /// A shard can't be made.
    #[error("[dataset]: {0}")]
    Shard(#[from] ShardError),
}

/// Inputs and labels that belong to each other. inputs: (samples, elements), row-major.
struct LabelledSamples {
    inputs: Vec<u8>,
    labels: Vec<u8>,
}

/// A run's data, checked: all samples have the shape and the classes of the format.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What the samples' bytes mean.
    pub format: SampleFormat,
    /// The samples to train on. They were shuffled before they were cut, so every shard is a fair sample of the whole.
    pub shards: Vec<Shard>,
    /// The held-out inputs, as bytes: (samples, elements), row-major.
    pub test_inputs: Vec<u8>,
    /// The held-out labels.
    pub test_labels: Vec<u8>,
}

impl Dataset {
    /// Loads a run's data. The run's seed decides which samples share a shard, and nothing else.
    pub fn load(spec: &DatasetSpec, run_seed: u64) -> Result<Dataset, DatasetError> {
        let (format, train, test) = match spec {
            DatasetSpec::Digits(_) => digits::load()?,
            DatasetSpec::Idx(idx) => idx::load(idx)?,
        };
        let shards = cut(&format, &train, spec.shard_samples(), run_seed)?;
        Ok(Dataset {
            format,
            shards,
            test_inputs: test.inputs,
            test_labels: test.labels,
        })
    }

    /// How many samples there are to train on.
    pub fn train_samples(&self) -> usize {
        self.shards.iter().map(Shard::samples).sum()
    }
}

/// Shuffles samples and cuts them into shards of about `shard_samples`.
///
/// Sizes differ by one at most: an ML module spends as many steps on any shard, so the samples of a small last one would come
/// more often than the others.
fn cut(
    format: &SampleFormat,
    samples: &LabelledSamples,
    shard_samples: usize,
    run_seed: u64,
) -> Result<Vec<Shard>, DatasetError> {
    let count = samples.labels.len();
    let shards = count.div_ceil(shard_samples.max(1));
    if shards > MAX_SHARDS {
        return Err(DatasetError::TooManyShards { shard_samples, shards });
    }
    let mut order: Vec<usize> = (0..count).collect();
    Generator::of_run(run_seed, Purpose::DatasetOrder, 0).shuffle(&mut order);
    let elements = format.elements();
    let of_shard = |shard: usize| {
        let chosen = &order[shard * count / shards..(shard + 1) * count / shards];
        let rows = chosen
            .iter()
            .map(|&sample| &samples.inputs[sample * elements..(sample + 1) * elements]);
        let inputs = rows.collect::<Vec<_>>().concat();
        let labels = chosen.iter().map(|&sample| samples.labels[sample]).collect();
        Shard::new(format.classes, elements, inputs, labels)
    };
    Ok((0..shards).map(of_shard).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn digits(seed: u64) -> Dataset {
        Dataset::load(&DatasetSpec::Digits(DigitsSpec { shard_samples: 480 }), seed).unwrap()
    }

    /// All (input, label) pairs to train on, in no order.
    fn train_set(dataset: &Dataset) -> BTreeSet<(Vec<u8>, u8)> {
        let pairs = |shard: &Shard| -> Vec<(Vec<u8>, u8)> {
            shard
                .inputs()
                .chunks_exact(64)
                .map(<[u8]>::to_vec)
                .zip(shard.labels().iter().copied())
                .collect()
        };
        dataset.shards.iter().flat_map(pairs).collect()
    }

    #[test]
    fn the_digits_are_all_there() {
        let dataset = digits(1);
        assert_eq!(
            (&dataset.format.shape[..], dataset.format.classes),
            (&[1, 8, 8][..], 10)
        );
        let pixels: Vec<u8> = dataset
            .shards
            .iter()
            .flat_map(|shard| shard.inputs().to_vec())
            .collect();
        let mean = pixels.iter().map(|&pixel| dataset.format.input(pixel)).sum::<f32>() / pixels.len() as f32;
        assert!(mean.abs() < 0.01, "{mean}");
        assert_eq!((dataset.train_samples(), dataset.test_labels.len()), (1437, 360));
        assert_eq!(dataset.test_inputs.len(), 360 * 64);
        assert_eq!(dataset.shards.iter().map(Shard::samples).collect::<Vec<_>>(), [479; 3]);
    }

    #[test]
    fn the_seed_changes_the_shards_but_never_what_is_held_out() {
        let (one, other) = (digits(1), digits(2));
        assert_ne!(one.shards, other.shards);
        assert_eq!(one.shards, digits(1).shards);
        assert_eq!(
            (&one.test_inputs, &one.test_labels),
            (&other.test_inputs, &other.test_labels)
        );
        assert_eq!(train_set(&one), train_set(&other));
    }

    #[test]
    fn nothing_that_is_held_out_is_trained_on() {
        let dataset = digits(1);
        let train = train_set(&dataset);
        let test = dataset
            .test_inputs
            .chunks_exact(64)
            .map(<[u8]>::to_vec)
            .zip(dataset.test_labels.iter().copied());
        assert_eq!(test.filter(|pair| train.contains(pair)).count(), 0);
    }

    #[test]
    fn every_shard_and_the_held_out_samples_are_a_fair_sample_of_the_classes() {
        let dataset = digits(1);
        let sets = dataset
            .shards
            .iter()
            .map(Shard::labels)
            .chain([&dataset.test_labels[..]]);
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
