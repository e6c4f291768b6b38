//! The container: a header that names the parts, and the parts one behind the other, nothing between them.
//!
//! ```text
//! magic, 8 bytes | format, u32 | number of parts, u32 | entry of each part, 32 bytes | CRC-32 of all before | parts
//! entry: name, 16 bytes, zeros behind it | length, u64 | CRC-32 of the part, u32 | zeros, 4 bytes
//! ```
//!
//! The header's layout is that of every format, so that a newer format is told from a damaged one.

use std::io::{self, Write};

use serde::de::DeserializeOwned;

use super::FORMAT;
use super::data::Part;
use super::problem::Problem;

/// The first bytes. The first is no character, and the last ones change where a line end is translated.
pub(super) const MAGIC: [u8; 8] = *b"\x89SSTEP\r\n";
/// More parts than any checkpoint has: a header that names more is damaged.
const MAX_PARTS: usize = 64;
const NAME_BYTES: usize = 16;
const ENTRY_BYTES: usize = NAME_BYTES + 8 + 4 + 4;
const TABLE_START: usize = MAGIC.len() + 4 + 4;
const CHECKSUM_BYTES: usize = 4;

/// Writes the parts, and says how many bytes that were.
pub(super) fn write(format: u32, parts: &[Part<'_>], to: &mut dyn Write) -> io::Result<u64> {
    let mut header = MAGIC.to_vec();
    header.extend(format.to_le_bytes());
    header.extend((parts.len() as u32).to_le_bytes());
    for part in parts {
        let mut checksum = crc32fast::Hasher::new();
        part.data.pour(&mut |bytes| {
            checksum.update(bytes);
            Ok(())
        })?;
        let mut name = [0; NAME_BYTES];
        name[..part.name.len()].copy_from_slice(part.name.as_bytes());
        header.extend(name);
        header.extend(part.data.length().to_le_bytes());
        header.extend(checksum.finalize().to_le_bytes());
        header.extend([0; 4]);
    }
    header.extend(crc32fast::hash(&header).to_le_bytes());
    to.write_all(&header)?;
    for part in parts {
        part.data.pour(&mut |bytes| to.write_all(bytes))?;
    }
    let length: u64 = parts.iter().map(|part| part.data.length()).sum();
    Ok(header.len() as u64 + length)
}

/// The parts of a container whose checksums are right.
#[derive(Debug)]
pub(super) struct Container<'a> {
    parts: Vec<(String, &'a [u8])>,
}

/// What the header says of a part.
struct Entry {
    name: String,
    length: u64,
    checksum: u32,
}

impl<'a> Container<'a> {
    /// Finds the parts, and checks all of them.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Container<'a>, Problem> {
        let (entries, header_length) = read_header(bytes)?;
        let lengths = entries.iter().map(|entry| entry.length);
        let expected = lengths.fold(header_length as u64, u64::saturating_add);
        let got = bytes.len() as u64;
        if got < expected {
            return Err(Problem::CutShort { got, expected });
        }
        if got > expected {
            return Err(Problem::TooLong { got, expected });
        }
        let mut rest = &bytes[header_length..];
        let mut parts = Vec::with_capacity(entries.len());
        for entry in entries {
            let (part, behind) = rest.split_at(entry.length as usize);
            rest = behind;
            if crc32fast::hash(part) != entry.checksum {
                return Err(Problem::DamagedPart { part: entry.name });
            }
            parts.push((entry.name, part));
        }
        Ok(Container { parts })
    }

    /// The bytes of a part.
    pub(super) fn part(&self, name: &'static str) -> Result<&'a [u8], Problem> {
        self.find(name).ok_or(Problem::MissingPart { part: name })
    }

    /// The bytes of a part that need not be there.
    pub(super) fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.parts.iter().find(|part| part.0 == name).map(|part| part.1)
    }

    /// The value in a part, which holds nothing else.
    pub(super) fn decoded<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, Problem> {
        match postcard::take_from_bytes(self.part(name)?) {
            Ok((value, [])) => Ok(value),
            _ => Err(Problem::Malformed { part: name }),
        }
    }
}

/// What the header says of the parts, and how long it is.
fn read_header(bytes: &[u8]) -> Result<(Vec<Entry>, usize), Problem> {
    let cut_short = |expected: usize| Problem::CutShort {
        got: bytes.len() as u64,
        expected: expected as u64,
    };
    let begins_alike = bytes.iter().zip(&MAGIC).all(|(byte, magic)| byte == magic);
    if !begins_alike {
        return Err(Problem::NotACheckpoint);
    }
    let Some((start, _)) = bytes.split_at_checked(TABLE_START) else {
        return Err(cut_short(TABLE_START));
    };
    let count = u32_at(start, MAGIC.len() + 4) as usize;
    if count > MAX_PARTS {
        return Err(Problem::DamagedHeader);
    }
    let table_end = TABLE_START + count * ENTRY_BYTES;
    let header_length = table_end + CHECKSUM_BYTES;
    let Some((header, _)) = bytes.split_at_checked(header_length) else {
        return Err(cut_short(header_length));
    };
    if crc32fast::hash(&header[..table_end]) != u32_at(header, table_end) {
        return Err(Problem::DamagedHeader);
    }
    match u32_at(header, MAGIC.len()) {
        FORMAT => {}
        0 => return Err(Problem::DamagedHeader),
        got => return Err(Problem::NewerFormat { got, expected: FORMAT }),
    }
    let (entries, _) = header[TABLE_START..table_end].as_chunks::<ENTRY_BYTES>();
    Ok((entries.iter().map(read_entry).collect(), header_length))
}

fn read_entry(entry: &[u8; ENTRY_BYTES]) -> Entry {
    let name = entry[..NAME_BYTES].split(|byte| *byte == 0).next().unwrap_or_default();
    Entry {
        name: String::from_utf8_lossy(name).into_owned(),
        length: u64::from(u32_at(entry, NAME_BYTES)) | u64::from(u32_at(entry, NAME_BYTES + 4)) << 32,
        checksum: u32_at(entry, NAME_BYTES + 8),
    }
}

/// The number at this place, which must be within the bytes.
fn u32_at(bytes: &[u8], place: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[place..place + 4]);
    u32::from_le_bytes(number)
}
