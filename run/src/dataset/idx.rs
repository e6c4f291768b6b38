//! Files in the format of MNIST ("IDX"), gzipped or not.
//!
//! ```text
//! offset  bytes  what (big-endian)
//! 0       2      0
//! 2       1      element type; 8 is unsigned bytes, the only one read here
//! 3       1      dimensions, n
//! 4       4·n    their sizes; the first is the number of samples
//! …              the elements, row-major
//! ```

use std::io::{ErrorKind, Read};
use std::ops::RangeInclusive;
use std::path::Path;

use nn::data::sample_format::{ContentFormat, SampleFormat};

use super::file::{MAX_FILE_BYTES, unpacked};
use super::{DatasetError, IdxSpec, LabelledSamples};

/// Room made before a byte was read: a header may lie, and memory follows what really comes.
const FIRST_ROOM_BYTES: u64 = 1 << 20;

const UNSIGNED_BYTES: u8 = 8;

/// Four files: format, samples to train on, samples held out.
pub(super) fn load(spec: &IdxSpec) -> Result<(SampleFormat, LabelledSamples, LabelledSamples), DatasetError> {
    let (shape, train) = load_set(&spec.train_images, &spec.train_labels, spec.classes)?;
    let (test_shape, test) = load_set(&spec.test_images, &spec.test_labels, spec.classes)?;
    if test_shape != shape {
        let (path, train_path) = (spec.test_images.clone(), spec.train_images.clone());
        return Err(DatasetError::OtherShape {
            path,
            found: test_shape,
            train_path,
            expected: shape,
        });
    }
    let scale = (1.0 / (255.0 * spec.std)) as f32;
    let shift = (-spec.mean / spec.std) as f32;
    Ok((
        SampleFormat {
            shape,
            content: ContentFormat::Bytes {
                scale,
                shift,
                classes: spec.classes,
            },
        },
        train,
        test,
    ))
}

/// A file of images and a file of their labels: the shape of an image, and all of them.
fn load_set(images: &Path, labels: &Path, classes: u32) -> Result<(Vec<usize>, LabelledSamples), DatasetError> {
    let images_file = IdxFile::read(images, 2..=4, "00 00 08 02 to 04 (unsigned bytes in 2 to 4 dimensions)")?;
    let labels_file = IdxFile::read(labels, 1..=1, "00 00 08 01 (unsigned bytes in one dimension)")?;
    if images_file.samples() != labels_file.samples() {
        return Err(DatasetError::CountMismatch {
            images_path: images.to_owned(),
            images: images_file.samples(),
            labels_path: labels.to_owned(),
            labels: labels_file.samples(),
        });
    }
    if let Some(sample) = labels_file
        .elements
        .iter()
        .position(|&label| u32::from(label) >= classes)
    {
        let offset = header_bytes(1) + sample as u64;
        let label = labels_file.elements[sample];
        return Err(DatasetError::Label {
            path: labels.to_owned(),
            offset,
            label,
            classes,
        });
    }
    let shape = match &images_file.sizes[1..] {
        // Images without channels have one.
        [height, width] => vec![1, *height, *width],
        sizes => sizes.to_vec(),
    };
    Ok((
        shape,
        LabelledSamples {
            inputs: images_file.elements,
            labels: labels_file.elements,
        },
    ))
}

fn header_bytes(dimensions: usize) -> u64 {
    4 + 4 * dimensions as u64
}

struct IdxFile {
    /// At least one, none of them 0.
    sizes: Vec<usize>,
    /// As many as the product of the sizes.
    elements: Vec<u8>,
}

impl IdxFile {
    fn samples(&self) -> usize {
        self.sizes[0]
    }

    /// Reads a file with this many dimensions; `expected` says in words how such a file starts.
    fn read(path: &Path, dimensions: RangeInclusive<u8>, expected: &'static str) -> Result<IdxFile, DatasetError> {
        let mut file = unpacked(path)?;
        let sizes = read_sizes(&mut file, path, dimensions, expected)?;
        let header_bytes = header_bytes(sizes.len());
        let element_count = sizes
            .iter()
            .try_fold(1_u64, |product, &size| product.checked_mul(u64::from(size)));
        let is_allowed = |count: &u64| (1..=MAX_FILE_BYTES - header_bytes).contains(count);
        let Some(element_count) = element_count.filter(is_allowed) else {
            return Err(DatasetError::Sizes {
                path: path.to_owned(),
                sizes,
            });
        };
        let elements = read_elements(file, path, header_bytes, element_count)?;
        // The product fits MAX_FILE_BYTES, so each of the sizes fits too.
        Ok(IdxFile {
            sizes: sizes.into_iter().map(|size| size as usize).collect(),
            elements,
        })
    }
}

/// The sizes that the header says.
fn read_sizes(
    file: &mut dyn Read,
    path: &Path,
    dimensions: RangeInclusive<u8>,
    expected: &'static str,
) -> Result<Vec<u32>, DatasetError> {
    let mut magic = [0; 4];
    read_header(file, path, 0, &mut magic)?;
    if magic[..3] != [0, 0, UNSIGNED_BYTES] || !dimensions.contains(&magic[3]) {
        return Err(DatasetError::WrongMagic {
            path: path.to_owned(),
            found: magic,
            expected,
        });
    }
    let mut sizes = Vec::new();
    for dimension in 0..usize::from(magic[3]) {
        let mut size = [0; 4];
        read_header(file, path, header_bytes(dimension), &mut size)?;
        sizes.push(u32::from_be_bytes(size));
    }
    Ok(sizes)
}

/// Everything behind the header, which must be as long as that says.
fn read_elements(
    file: Box<dyn Read>,
    path: &Path,
    header_bytes: u64,
    element_count: u64,
) -> Result<Vec<u8>, DatasetError> {
    let mut elements = Vec::with_capacity(element_count.min(FIRST_ROOM_BYTES) as usize);
    // One more than there should be, to see whether the file ends where it says.
    let read = file.take(element_count + 1).read_to_end(&mut elements);
    let offset = header_bytes + elements.len() as u64;
    let expected = header_bytes + element_count;
    let path = path.to_owned();
    match read {
        // An unpacked file can also end too early because the packed one does.
        Err(cause) if cause.kind() != ErrorKind::UnexpectedEof => Err(DatasetError::Read { path, offset, cause }),
        _ if offset > expected => Err(DatasetError::TrailingBytes { path, expected }),
        _ if offset < expected => Err(DatasetError::Truncated { path, offset, expected }),
        // All elements came, but the packed file ends before its checksum.
        Err(cause) => Err(DatasetError::Read { path, offset, cause }),
        Ok(_) => Ok(elements),
    }
}

/// Fills `part` with the header's bytes from `offset` on.
fn read_header(file: &mut dyn Read, path: &Path, offset: u64, part: &mut [u8]) -> Result<(), DatasetError> {
    file.read_exact(part).map_err(|cause| match cause.kind() {
        ErrorKind::UnexpectedEof => {
            let expected = offset + part.len() as u64;
            DatasetError::Truncated {
                path: path.to_owned(),
                offset,
                expected,
            }
        }
        _ => DatasetError::Read {
            path: path.to_owned(),
            offset,
            cause,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::PathBuf;
    use tempfile::TempDir;

    /// An IDX file's bytes.
    fn idx(sizes: &[u32], elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, UNSIGNED_BYTES, sizes.len() as u8];
        bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
        bytes.extend(elements);
        bytes
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Four good files in a directory: 3 and 2 images of 2×2, 10 classes. A test puts a bad one in the place of one of
    /// them.
    struct Files {
        directory: TempDir,
        spec: IdxSpec,
    }

    impl Files {
        fn good() -> Files {
            let directory = tempfile::tempdir().unwrap();
            let path = |name: &str| directory.path().join(name);
            let spec = IdxSpec {
                train_images: path("train-images"),
                train_labels: path("train-labels"),
                test_images: path("test-images"),
                test_labels: path("test-labels"),
                classes: 10,
                shard_samples: 2,
                mean: 0.25,
                std: 0.5,
            };
            let files = Files { directory, spec };
            files.put(
                "train-images",
                &idx(&[3, 2, 2], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
            );
            files.put("train-labels", &idx(&[3], &[0, 1, 9]));
            files.put("test-images", &idx(&[2, 2, 2], &[13, 14, 15, 16, 17, 18, 19, 20]));
            files.put("test-labels", &idx(&[2], &[2, 3]));
            files
        }

        fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.directory.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }

        /// What loading says of the files with `bytes` in the place of the file `name`, without the directory.
        fn refused(name: &str, bytes: &[u8]) -> String {
            let files = Files::good();
            files.put(name, bytes);
            let message = load(&files.spec).err().unwrap().to_string();
            assert!(!message.contains('\n'), "{message}");
            message.replace(&format!("{}/", files.directory.path().display()), "")
        }
    }

    #[test]
    fn good_files_are_read_packed_or_not() {
        let files = Files::good();
        for pack in [false, true] {
            if pack {
                for name in ["train-images", "train-labels", "test-images", "test-labels"] {
                    let bytes = std::fs::read(files.directory.path().join(name)).unwrap();
                    files.put(name, &gzipped(&bytes));
                }
            }
            let (format, train, test) = load(&files.spec).unwrap();
            let content = ContentFormat::Bytes {
                scale: 1.0 / 127.5,
                shift: -0.5,
                classes: 10,
            };
            assert_eq!((format.shape, format.content), (vec![1, 2, 2], content));
            assert_eq!((train.inputs, train.labels), ((1..=12).collect(), vec![0, 1, 9]));
            assert_eq!((test.inputs, test.labels), ((13..=20).collect(), vec![2, 3]));
        }
    }

    #[test]
    fn images_may_be_vectors_or_have_channels() {
        for (sizes, shape) in [(vec![3, 4], vec![4]), (vec![3, 2, 1, 2], vec![2, 1, 2])] {
            let files = Files::good();
            files.put("train-images", &idx(&sizes, &[0; 12]));
            let test_sizes = [&[2], &sizes[1..]].concat();
            files.put("test-images", &idx(&test_sizes, &[0; 8]));
            assert_eq!(load(&files.spec).unwrap().0.shape, shape);
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let files = Files::good();
        std::fs::remove_file(&files.spec.test_labels).unwrap();
        let message = load(&files.spec).err().unwrap().to_string();
        assert!(
            message.contains("test-labels: can't be opened: No such file or directory"),
            "{message}"
        );
        assert!(
            message.ends_with("get the data, or correct the path in [dataset]"),
            "{message}"
        );
        let directory = IdxSpec {
            test_labels: files.directory.path().to_owned(),
            ..files.spec.clone()
        };
        assert!(matches!(
            load(&directory),
            Err(DatasetError::Open { .. } | DatasetError::Read { .. })
        ));
    }

    #[test]
    fn a_file_that_is_no_idx_file_is_refused() {
        assert_eq!(
            Files::refused("train-images", b"<html>"),
            "train-images: offset 0: starts with bytes [3c, 68, 74, 6d], expected 00 00 08 02 to 04 (unsigned bytes \
             in 2 to 4 dimensions); correct the path in [dataset]"
        );
        // Images in the place of labels, labels in the place of images, elements that aren't bytes.
        assert!(Files::refused("train-labels", &idx(&[3, 2, 2], &[0; 12])).contains("expected 00 00 08 01"));
        assert!(Files::refused("train-images", &idx(&[3], &[0; 3])).contains("starts with bytes [00, 00, 08, 01]"));
        assert!(
            Files::refused("test-labels", &[0, 0, 13, 1, 0, 0, 0, 0]).contains("starts with bytes [00, 00, 0d, 01]")
        );
    }

    #[test]
    fn a_truncated_file_is_refused_wherever_it_ends() {
        let whole = idx(&[3, 2, 2], &[7; 12]);
        for length in 0..whole.len() {
            let message = Files::refused("train-images", &whole[..length]);
            assert!(
                message.contains("train-images: ends at offset"),
                "{length} bytes: {message}"
            );
        }
        assert_eq!(
            Files::refused("train-images", &whole[..20]),
            "train-images: ends at offset 20, expected 28 bytes; get the file again"
        );
    }

    #[test]
    fn a_truncated_packed_file_is_refused_wherever_it_ends() {
        let packed = gzipped(&idx(&[3, 2, 2], &[7; 12]));
        for length in 0..packed.len() {
            let message = Files::refused("train-images", &packed[..length]);
            assert!(
                message.contains("get the file again") || length < 2,
                "{length} bytes: {message}"
            );
        }
    }

    #[test]
    fn a_damaged_packed_file_is_refused() {
        let mut packed = gzipped(&idx(&[3, 2, 2], &[7; 12]));
        let checksum = packed.len() - 8;
        packed[checksum] ^= 1;
        let message = Files::refused("train-images", &packed);
        assert!(message.contains("can't be read beyond offset"), "{message}");
    }

    #[test]
    fn a_file_that_goes_on_is_refused() {
        assert_eq!(
            Files::refused("test-labels", &idx(&[2], &[2, 3, 4])),
            "test-labels: goes on at offset 10, where its header says it ends; get the file again"
        );
    }

    #[test]
    fn a_header_that_promises_the_world_is_refused_without_making_room_for_it() {
        let message = Files::refused("train-images", &idx(&[u32::MAX; 3], &[]));
        assert!(
            message.contains("offset 4: the header says [4294967295, 4294967295, 4294967295]"),
            "{message}"
        );
        // Just within the limit: the memory must follow the file, not the header.
        let message = Files::refused("train-images", &idx(&[4_000_000, 32, 32], &[0; 5]));
        assert_eq!(
            message,
            "train-images: ends at offset 21, expected 4096000016 bytes; get the file again"
        );
        assert!(Files::refused("train-labels", &idx(&[0], &[])).contains("the header says [0]"));
        assert!(Files::refused("train-images", &idx(&[3, 0, 2], &[])).contains("the header says [3, 0, 2]"));
    }

    #[test]
    fn images_and_labels_of_different_numbers_are_refused() {
        assert_eq!(
            Files::refused("train-labels", &idx(&[4], &[0; 4])),
            "train-images: 3 images, but train-labels has 4 labels; name the files of one set in [dataset]"
        );
    }

    #[test]
    fn held_out_images_of_another_size_are_refused() {
        assert_eq!(
            Files::refused("test-images", &idx(&[2, 2, 1], &[0; 4])),
            "test-images: images of shape [1, 2, 1], but train-images has [1, 2, 2]; name the files of one data set \
             in [dataset]"
        );
    }

    #[test]
    fn a_label_that_is_no_class_is_refused() {
        assert_eq!(
            Files::refused("train-labels", &idx(&[3], &[0, 10, 1])),
            "train-labels: offset 9: label 10, expected one below 10; correct `classes` in [dataset]"
        );
    }
}
