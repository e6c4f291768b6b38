//! How a shard lies in bytes.

use super::{Content, FORMAT_VERSION, MAX_SHARD_BYTES, Shard, ShardError};
use crate::data::sample_format::TableTargets;
use crate::fnv1a::Fnv1a;

pub(super) const MAGIC: [u8; 8] = *b"SSSHARD\0";
const HEADER_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 8;

const BYTES: u32 = 1;
const TEXT: u32 = 2;
const TABLE: u32 = 3;

/// The header behind magic and version.
struct Header {
    kind: u32,
    samples: u32,
    elements: u32,
    bound: u32,
    targets: u32,
}

impl Header {
    /// Reads it from a shard's bytes, and says what follows it.
    fn decode(bytes: &[u8]) -> Result<(Header, &[u8]), ShardError> {
        let magic = &bytes[..bytes.len().min(MAGIC.len())];
        if magic != &MAGIC[..magic.len()] {
            return Err(ShardError::WrongMagic { found: magic.to_vec() });
        }
        let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
            return Err(ShardError::Truncated {
                found: bytes.len() as u64,
                expected: HEADER_BYTES as u64,
            });
        };
        let version = read_u32(header, 8);
        if version != FORMAT_VERSION {
            return Err(ShardError::WrongVersion { found: version });
        }
        let [kind, samples, elements, bound, targets] = [12, 16, 20, 24, 28].map(|at| read_u32(header, at));
        if samples == 0 || elements == 0 {
            return Err(ShardError::Empty {
                samples: samples.into(),
                elements: elements.into(),
            });
        }
        let header = Header {
            kind,
            samples,
            elements,
            bound,
            targets,
        };
        Ok((header, rest))
    }

    /// How many bytes the two parts of the content have.
    fn content_bytes(&self) -> Result<(u64, u64), ShardError> {
        let [samples, elements, targets] = [self.samples, self.elements, self.targets].map(u64::from);
        // (2³² − 1)·2³² fits 64 bits; four times as many bytes may not.
        let inputs = samples * elements;
        let (first, second) = match self.kind {
            BYTES if targets == 0 => (inputs, samples),
            TEXT if targets == 0 => (samples + elements, 0),
            TABLE => (inputs.saturating_mul(4), (samples * targets).saturating_mul(4)),
            _ => return Err(self.unknown()),
        };
        match first.saturating_add(second) {
            bytes if bytes > MAX_SHARD_BYTES => Err(ShardError::TooLarge { bytes }),
            _ => Ok((first, second)),
        }
    }

    /// What a table's targets are.
    fn table_targets(&self) -> Result<TableTargets, ShardError> {
        let count = self.targets;
        match self.bound {
            0 => Ok(TableTargets::Values { count }),
            1 => Ok(TableTargets::Probabilities { count }),
            classes if count == 1 => Ok(TableTargets::Class { classes }),
            _ => Err(self.unknown()),
        }
    }

    fn unknown(&self) -> ShardError {
        ShardError::Content {
            found: self.kind,
            bound: self.bound,
            targets: self.targets,
        }
    }
}

/// The hash of all samples of these shards, and of how they are divided.
pub fn hash_of_all(shards: &[Shard]) -> u64 {
    let mut hash = Fnv1a::new();
    shards
        .iter()
        .for_each(|shard| hash.bytes(&shard.checksum().to_le_bytes()));
    hash.finish()
}

impl Shard {
    /// The shard as it travels.
    pub fn encode(&self) -> Vec<u8> {
        let room = HEADER_BYTES + self.content.bytes() as usize + CHECKSUM_BYTES;
        let mut bytes = Vec::with_capacity(room);
        self.write_content(&mut |part| bytes.extend_from_slice(part));
        bytes.extend_from_slice(&self.checksum().to_le_bytes());
        bytes
    }

    /// Reads what [`Shard::encode`] wrote; anything else is refused. Allocates no more than `bytes` has.
    pub fn decode(bytes: &[u8]) -> Result<Shard, ShardError> {
        let (header, rest) = Header::decode(bytes)?;
        let (first, second) = header.content_bytes()?;
        let (found, expected) = (
            bytes.len() as u64,
            (HEADER_BYTES + CHECKSUM_BYTES) as u64 + first + second,
        );
        if found < expected {
            return Err(ShardError::Truncated { found, expected });
        }
        if found > expected {
            return Err(ShardError::TrailingBytes { found, expected });
        }
        let (first, rest) = rest.split_at(first as usize);
        let (second, expected_sum) = rest.split_at(second as usize);
        let found = checksum(&bytes[..bytes.len() - CHECKSUM_BYTES]);
        let expected = u64::from(read_u32(expected_sum, 0)) | u64::from(read_u32(expected_sum, 4)) << 32;
        if found != expected {
            return Err(ShardError::WrongChecksum { found, expected });
        }
        let (bound, elements) = (header.bound, header.elements as usize);
        match header.kind {
            BYTES => Shard::bytes(bound, elements, first.to_vec(), second.to_vec()),
            TEXT => Shard::text(bound, elements, first.to_vec()),
            _ => Shard::table(elements, header.table_targets()?, numbers(first), numbers(second)),
        }
    }

    /// The name under which the server offers the shard: 16 hexadecimal digits of its content's hash.
    ///
    /// It tells content apart and finds damage; it doesn't prove who made it.
    pub fn name(&self) -> String {
        format!("{:016x}", self.checksum())
    }

    fn checksum(&self) -> u64 {
        let mut hash = Fnv1a::new();
        self.write_content(&mut |part| hash.bytes(part));
        hash.finish()
    }

    /// Everything but the checksum, in order.
    fn write_content(&self, write: &mut dyn FnMut(&[u8])) {
        let (kind, bound, targets) = match &self.content {
            Content::Bytes { classes, .. } => (BYTES, *classes, 0),
            Content::Text { tokens, .. } => (TEXT, *tokens, 0),
            Content::Table { kind, .. } => match *kind {
                TableTargets::Values { count } => (TABLE, 0, count),
                TableTargets::Probabilities { count } => (TABLE, 1, count),
                TableTargets::Class { classes } => (TABLE, classes, 1),
            },
        };
        write(&MAGIC);
        let (samples, elements) = (self.samples as u32, self.elements as u32);
        for field in [FORMAT_VERSION, kind, samples, elements, bound, targets] {
            write(&field.to_le_bytes());
        }
        match &self.content {
            Content::Bytes { inputs, labels, .. } => {
                write(inputs);
                write(labels);
            }
            Content::Text { text, .. } => write(text),
            Content::Table { inputs, targets, .. } => {
                for number in inputs.iter().chain(targets) {
                    write(&number.to_le_bytes());
                }
            }
        }
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks();
    numbers.iter().map(|number| f32::from_le_bytes(*number)).collect()
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn checksum(content: &[u8]) -> u64 {
    let mut hash = Fnv1a::new();
    hash.bytes(content);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sample_format::TableTargets;
    use proptest::prelude::*;

    fn shard() -> Shard {
        Shard::bytes(10, 3, vec![0, 1, 2, 253, 254, 255], vec![9, 0]).unwrap()
    }

    /// The shard's bytes after a change, with the checksum made right again, so that the change itself is what is
    /// found.
    fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = shard().encode();
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        change(&mut bytes);
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn a_shard_comes_back_as_it_was() {
        assert_eq!(Shard::decode(&shard().encode()), Ok(shard()));
    }

    #[test]
    fn the_bytes_of_a_shard_are_the_same_for_ever() {
        let expected =
            b"SSSHARD\0\x02\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x0a\0\0\0\0\0\0\0\x00\x01\x02\xfd\xfe\xff\x09\x00";
        let bytes = shard().encode();
        assert_eq!(bytes[..expected.len()], expected[..]);
        assert_eq!(shard().name(), "f1c7aa67ee9378f3");
        assert_eq!(
            bytes[expected.len()..],
            u64::from_str_radix(&shard().name(), 16).unwrap().to_le_bytes()
        );
    }

    #[test]
    fn other_content_has_another_name() {
        let other = Shard::bytes(10, 3, vec![0, 1, 2, 253, 254, 255], vec![9, 1]).unwrap();
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
        let error = Shard::decode(&changed(|bytes| bytes[8] = 1)).unwrap_err();
        assert_eq!(error, ShardError::WrongVersion { found: 1 });
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
                found: 49,
                expected: 48
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
        damaged[33] ^= 1;
        assert!(matches!(Shard::decode(&damaged), Err(ShardError::WrongChecksum { .. })));
    }

    #[test]
    fn a_label_that_is_no_class_is_refused() {
        let error = Shard::decode(&changed(|bytes| bytes[38] = 10)).unwrap_err();
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
    fn a_text_and_a_table_come_back_as_they_were() {
        let kinds = [
            TableTargets::Values { count: 3 },
            TableTargets::Probabilities { count: 3 },
            TableTargets::Class { classes: 2 },
        ];
        let targets = [vec![-1.5, 7.0, 1e-30], vec![0.0, 0.5, 1.0], vec![1.0]];
        let tables = kinds.into_iter().zip(targets);
        let tables = tables.map(|(kind, targets)| Shard::table(2, kind, vec![0.1, -2.0], targets).unwrap());
        let text = Shard::text(7, 3, vec![0, 6, 1, 2, 2]).unwrap();
        for shard in tables.chain([text]) {
            let bytes = shard.encode();
            assert_eq!(Shard::decode(&bytes), Ok(shard));
            for length in 0..bytes.len() {
                assert!(matches!(
                    Shard::decode(&bytes[..length]),
                    Err(ShardError::Truncated { .. })
                ));
            }
        }
    }

    #[test]
    fn content_of_a_kind_that_there_is_not_is_refused() {
        for (position, value) in [(12, 0), (12, 4), (28, 1)] {
            let error = Shard::decode(&changed(|bytes| bytes[position] = value)).unwrap_err();
            assert!(matches!(error, ShardError::Content { .. }), "{error}");
        }
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
        let bytes = changed(|bytes| bytes[18] = 0x7f);
        assert!(matches!(
            Shard::decode(&bytes),
            Err(ShardError::Truncated { found: 48, .. })
        ));
        let bytes = changed(|bytes| bytes[16..24].fill(0));
        assert!(matches!(Shard::decode(&bytes), Err(ShardError::Empty { .. })));
        let bytes = changed(|bytes| bytes[24..28].fill(0xff));
        assert!(matches!(
            Shard::decode(&bytes),
            Err(ShardError::Classes { classes: u32::MAX })
        ));
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
            let shard = Shard::bytes(256, elements, inputs, labels).unwrap();
            prop_assert_eq!(Shard::decode(&shard.encode()), Ok(shard));
        }
    }
}
