//! Shards: immutable blocks of samples, as they travel from the server to a tab.
//!
//! ```text
//! offset  bytes             what (little-endian)
//! 0       8                 magic, "SSSHARD\0"
//! 8       4                 format version, 1
//! 12      4                 classes: labels are below it
//! 16      4                 samples
//! 20      4                 elements of a sample
//! 24      samples·elements  inputs, one byte an element, sample after sample
//! …       samples           labels, one byte each
//! …       8                 checksum: FNV-1a, 64 bits, of everything before it
//! ```
//!
//! The checksum is also the shard's name: the content never changes under a name, so browsers and proxies may keep it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

const MAGIC: [u8; 8] = *b"SSSHARD\0";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 8;

/// Labels are bytes, so there are at most this many classes.
pub const MAX_CLASSES: u32 = 256;

/// The largest inputs and labels of one shard together: a tab holds it twice while it decodes it, and a phone must manage.
pub const MAX_SHARD_BYTES: u64 = 64 << 20;

/// What a sample's bytes mean: the same for every shard of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleFormat {
    /// The shape of a sample's input: `[features]`, or `[channels, height, width]`.
    pub shape: Vec<usize>,
    /// An input is its byte · `scale` + `shift`: multiplied, rounded, then added, rounded.
    pub scale: f32,
    /// See `scale`.
    pub shift: f32,
    /// Labels are below this number.
    pub classes: u32,
}

impl SampleFormat {
    /// Elements of one sample: the product of its shape.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The input that a byte stands for.
    pub fn input(&self, byte: u8) -> f32 {
        f32::from(byte) * self.scale + self.shift
    }
}

/// Why a shard can't be made, or bytes aren't one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The bytes aren't a shard at all.
    #[error("not a shard: it starts with bytes {found:02x?}, expected {MAGIC:02x?}; check the address it came from")]
    WrongMagic {
        /// The first bytes, at most eight.
        found: Vec<u8>,
    },
    /// A shard of another version of this program.
    #[error(
        "shard format {found}, expected {FORMAT_VERSION}; reload the page, or use a volunteer of the server's version"
    )]
    WrongVersion {
        /// The format that the header names.
        found: u32,
    },
    /// Fewer bytes came than the header promises.
    #[error("truncated shard: {found} bytes, expected {expected}; fetch it again")]
    Truncated {
        /// Bytes that came.
        found: u64,
        /// Bytes that the header promises, or the header's own.
        expected: u64,
    },
    /// More bytes came than the header promises.
    #[error("{found} bytes where the shard's header says {expected}; fetch it again")]
    TrailingBytes {
        /// Bytes that came.
        found: u64,
        /// Bytes that the header promises.
        expected: u64,
    },
    /// The content changed on its way.
    #[error("damaged shard: checksum {found:016x}, expected {expected:016x}; fetch it again")]
    WrongChecksum {
        /// What the content sums up to.
        found: u64,
        /// What the shard says.
        expected: u64,
    },
    /// Without samples or elements there is nothing to draw.
    #[error("empty shard: {samples} samples of {elements} elements")]
    Empty {
        /// Samples of the shard.
        samples: u64,
        /// Elements of a sample.
        elements: u64,
    },
    /// More than a tab can be asked to decode at once.
    #[error("a shard of {bytes} bytes, at most {MAX_SHARD_BYTES} are allowed; set a smaller shard_samples")]
    TooLarge {
        /// Bytes of inputs and labels.
        bytes: u64,
    },
    /// Labels are bytes.
    #[error("a shard of {classes} classes; it can have 1 to {MAX_CLASSES}")]
    Classes {
        /// Classes of the shard.
        classes: u32,
    },
    /// The inputs aren't as many as the labels ask for.
    #[error("{inputs} input bytes for {samples} samples of {elements} elements")]
    Inputs {
        /// Bytes of inputs.
        inputs: usize,
        /// Samples, by the labels.
        samples: usize,
        /// Elements of a sample.
        elements: usize,
    },
    /// A label names a class that there isn't.
    #[error("sample {sample} has label {label}, but there are {classes} classes, counted from 0")]
    Label {
        /// Which sample of the shard, counted from 0.
        sample: usize,
        /// Its label.
        label: u8,
        /// Classes of the shard.
        classes: u32,
    },
}

/// An immutable block of samples. Whoever has one knows that its parts fit each other and that all labels are classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    classes: u32,
    elements: usize,
    inputs: Vec<u8>,
    labels: Vec<u8>,
}

impl Shard {
    /// A shard of `labels.len()` samples. inputs: (samples, elements), row-major.
    pub fn new(classes: u32, elements: usize, inputs: Vec<u8>, labels: Vec<u8>) -> Result<Shard, ShardError> {
        if labels.is_empty() || elements == 0 {
            return Err(ShardError::Empty {
                samples: labels.len() as u64,
                elements: elements as u64,
            });
        }
        if !(1..=MAX_CLASSES).contains(&classes) {
            return Err(ShardError::Classes { classes });
        }
        if labels.len().checked_mul(elements) != Some(inputs.len()) {
            return Err(ShardError::Inputs {
                inputs: inputs.len(),
                samples: labels.len(),
                elements,
            });
        }
        let bytes = inputs.len() as u64 + labels.len() as u64;
        if bytes > MAX_SHARD_BYTES {
            return Err(ShardError::TooLarge { bytes });
        }
        if let Some(sample) = labels.iter().position(|&label| u32::from(label) >= classes) {
            return Err(ShardError::Label {
                sample,
                label: labels[sample],
                classes,
            });
        }
        Ok(Shard {
            classes,
            elements,
            inputs,
            labels,
        })
    }

    /// How many samples it has; at least one.
    pub fn samples(&self) -> usize {
        self.labels.len()
    }

    /// Elements of one sample; at least one.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Labels are below this number.
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// The bytes of all inputs: (samples, elements), row-major.
    pub fn inputs(&self) -> &[u8] {
        &self.inputs
    }

    /// The labels of all samples.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The shard as it travels.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.inputs.len() + self.labels.len() + CHECKSUM_BYTES);
        self.write_content(&mut |part| bytes.extend_from_slice(part));
        bytes.extend_from_slice(&self.checksum().to_le_bytes());
        bytes
    }

    /// Reads what [`Shard::encode`] wrote; anything else is refused. Allocates no more than `bytes` has.
    pub fn decode(bytes: &[u8]) -> Result<Shard, ShardError> {
        let magic = &bytes[..bytes.len().min(MAGIC.len())];
        if magic != &MAGIC[..magic.len()] {
            return Err(ShardError::WrongMagic { found: magic.to_vec() });
        }
        let found = bytes.len() as u64;
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(ShardError::Truncated {
                found,
                expected: HEADER_BYTES as u64,
            });
        };
        let version = read_u32(header, 8);
        if version != FORMAT_VERSION {
            return Err(ShardError::WrongVersion { found: version });
        }
        let (classes, samples, elements) = (read_u32(header, 12), read_u32(header, 16), read_u32(header, 20));
        let (samples_u64, elements_u64) = (u64::from(samples), u64::from(elements));
        if samples == 0 || elements == 0 {
            return Err(ShardError::Empty {
                samples: samples_u64,
                elements: elements_u64,
            });
        }
        // (2³² − 1)·2³² fits 64 bits, so no header can make this overflow.
        let input_bytes = samples_u64 * elements_u64;
        let content_bytes = input_bytes + samples_u64;
        if content_bytes > MAX_SHARD_BYTES {
            return Err(ShardError::TooLarge { bytes: content_bytes });
        }
        let expected = (HEADER_BYTES + CHECKSUM_BYTES) as u64 + content_bytes;
        if found < expected {
            return Err(ShardError::Truncated { found, expected });
        }
        if found > expected {
            return Err(ShardError::TrailingBytes { found, expected });
        }
        let (inputs, rest) = rest.split_at(input_bytes as usize);
        let (labels, checksum) = rest.split_at(samples as usize);
        let summed = fnv1a(FNV_OFFSET, &bytes[..bytes.len() - CHECKSUM_BYTES]);
        let expected = u64::from(read_u32(checksum, 0)) | u64::from(read_u32(checksum, 4)) << 32;
        if summed != expected {
            return Err(ShardError::WrongChecksum {
                found: summed,
                expected,
            });
        }
        Shard::new(classes, elements as usize, inputs.to_vec(), labels.to_vec())
    }

    /// The name under which the server offers the shard: 16 hexadecimal digits of its content's hash.
    ///
    /// It tells content apart and finds damage; it doesn't prove who made it.
    pub fn name(&self) -> String {
        format!("{:016x}", self.checksum())
    }

    fn checksum(&self) -> u64 {
        let mut hash = FNV_OFFSET;
        self.write_content(&mut |part| hash = fnv1a(hash, part));
        hash
    }

    /// Everything but the checksum, in order.
    fn write_content(&self, write: &mut dyn FnMut(&[u8])) {
        write(&MAGIC);
        for field in [
            FORMAT_VERSION,
            self.classes,
            self.labels.len() as u32,
            self.elements as u32,
        ] {
            write(&field.to_le_bytes());
        }
        write(&self.inputs);
        write(&self.labels);
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits (Fowler, Noll, Vo), continued from `hash`.
fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shard() -> Shard {
        Shard::new(10, 3, vec![0, 1, 2, 253, 254, 255], vec![9, 0]).unwrap()
    }

    /// The shard's bytes after a change, with the checksum made right again, so that the change itself is what is found.
    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = shard().encode();
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        change(&mut bytes);
        let checksum = fnv1a(FNV_OFFSET, &bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_shard_comes_back_as_it_was() {
        assert_eq!(Shard::decode(&shard().encode()), Ok(shard()));
    }

    #[test]
    fn the_bytes_of_a_shard_are_the_same_for_ever() {
        let expected = b"SSSHARD\0\x01\0\0\0\x0a\0\0\0\x02\0\0\0\x03\0\0\0\x00\x01\x02\xfd\xfe\xff\x09\x00";
        let bytes = shard().encode();
        assert_eq!(bytes[..expected.len()], expected[..]);
        assert_eq!(shard().name(), "36ef18757562e6cd");
        assert_eq!(
            bytes[expected.len()..],
            u64::from_str_radix(&shard().name(), 16).unwrap().to_le_bytes()
        );
    }

    #[test]
    fn the_checksum_is_fnv1a() {
        // From the test vectors of its authors.
        assert_eq!(fnv1a(FNV_OFFSET, b""), 0xcbf29ce484222325);
        assert_eq!(fnv1a(FNV_OFFSET, b"a"), 0xaf63dc4c8601ec8c);
        assert_eq!(fnv1a(FNV_OFFSET, b"foobar"), 0x85944171f73967e8);
    }

    #[test]
    fn other_content_has_another_name() {
        let other = Shard::new(10, 3, vec![0, 1, 2, 253, 254, 255], vec![9, 1]).unwrap();
        assert_ne!(shard().name(), other.name());
    }

    #[test]
    fn what_is_not_a_shard_is_refused() {
        let error = Shard::decode(b"<!doctype html>").unwrap_err();
        assert!(matches!(error, ShardError::WrongMagic { .. }), "{error}");
        assert!(error.to_string().contains("check the address"), "{error}");
        assert!(matches!(
            Shard::decode(b"").unwrap_err(),
            ShardError::Truncated { found: 0, .. }
        ));
    }

    #[test]
    fn a_shard_of_another_format_is_refused() {
        let error = Shard::decode(&changed(|bytes| bytes[8] = 2)).unwrap_err();
        assert_eq!(error, ShardError::WrongVersion { found: 2 });
    }

    #[test]
    fn a_truncated_shard_is_refused_wherever_it_ends() {
        let bytes = shard().encode();
        for length in 0..bytes.len() {
            let error = Shard::decode(&bytes[..length]).unwrap_err();
            assert!(matches!(error, ShardError::Truncated { .. }), "{length} bytes: {error}");
        }
    }

    #[test]
    fn a_byte_too_many_is_refused() {
        let mut bytes = shard().encode();
        bytes.push(0);
        assert!(matches!(
            Shard::decode(&bytes),
            Err(ShardError::TrailingBytes {
                found: 41,
                expected: 40
            })
        ));
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let bytes = shard().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Shard::decode(&damaged).is_err(), "bit {bit}");
        }
        let mut damaged = bytes;
        damaged[25] ^= 1;
        assert!(matches!(Shard::decode(&damaged), Err(ShardError::WrongChecksum { .. })));
    }

    #[test]
    fn a_label_that_is_no_class_is_refused() {
        let error = Shard::decode(&changed(|bytes| bytes[30] = 10)).unwrap_err();
        assert_eq!(
            error,
            ShardError::Label {
                sample: 0,
                label: 10,
                classes: 10
            }
        );
        assert_eq!(
            error.to_string(),
            "sample 0 has label 10, but there are 10 classes, counted from 0"
        );
    }

    #[test]
    fn a_header_that_promises_the_world_is_refused_without_making_room_for_it() {
        let bytes = changed(|bytes| bytes[16..24].fill(0xff));
        assert!(matches!(
            Shard::decode(&bytes),
            Err(ShardError::TooLarge {
                bytes: 0xffff_ffff_0000_0000
            })
        ));
        let bytes = changed(|bytes| bytes[18] = 0xff);
        assert!(matches!(
            Shard::decode(&bytes),
            Err(ShardError::Truncated { found: 40, .. })
        ));
        let bytes = changed(|bytes| bytes[16..24].fill(0));
        assert!(matches!(Shard::decode(&bytes), Err(ShardError::Empty { .. })));
        let bytes = changed(|bytes| bytes[12..16].fill(0xff));
        assert!(matches!(
            Shard::decode(&bytes),
            Err(ShardError::Classes { classes: u32::MAX })
        ));
    }

    #[test]
    fn an_input_is_its_byte_scaled_and_then_shifted() {
        let format = SampleFormat {
            shape: vec![1, 2, 3],
            scale: 0.1,
            shift: -0.5,
            classes: 10,
        };
        assert_eq!(format.elements(), 6);
        assert_eq!(format.input(7).to_bits(), (7.0_f32 * 0.1 + -0.5).to_bits());
    }

    proptest! {
        #[test]
        fn no_bytes_make_decoding_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), shaped in any::<bool>()) {
            let bytes = if shaped { [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &bytes].concat() } else { bytes };
            let _ = Shard::decode(&bytes);
        }

        #[test]
        fn any_shard_comes_back_as_it_was(samples in 1..20_usize, elements in 1..20_usize, fill in any::<u8>()) {
            let inputs = (0..samples * elements).map(|index| fill.wrapping_add(index as u8)).collect();
            let labels = (0..samples).map(|index| fill.wrapping_mul(index as u8)).collect();
            let shard = Shard::new(256, elements, inputs, labels).unwrap();
            prop_assert_eq!(Shard::decode(&shard.encode()), Ok(shard));
        }
    }
}
