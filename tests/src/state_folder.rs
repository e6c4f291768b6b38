//! A run's folder on disk, as a test looks at it and damages it; `docs/internals/state-folder.md` says what is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

const MAGIC_BYTES: usize = 8;
const TABLE_START: usize = MAGIC_BYTES + 4 + 4;
const ENTRY_BYTES: usize = 16 + 8 + 4 + 4;

/// The numbered checkpoints of the run in this folder, the newest last.
///
/// # Errors
/// No such folder.
pub fn checkpoints(run: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = fs::read_dir(run)?.flatten().map(|file| file.path()).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("checkpoint-") && name.ends_with(".superstep")
    });
    found.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    Ok(found)
}

/// The content of all files in a folder, by their names.
///
/// # Errors
/// No such folder.
pub fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut contents = BTreeMap::new();
    for file in fs::read_dir(folder)?.flatten().filter(|file| file.path().is_file()) {
        contents.insert(file.file_name().to_string_lossy().into_owned(), fs::read(file.path())?);
    }
    Ok(contents)
}

/// Copies the files of a run's folder to another one, which is made.
///
/// # Errors
/// The system's.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for (name, content) in contents(from)? {
        fs::write(to.join(name), content)?;
    }
    Ok(())
}

/// The bytes of a checkpoint.
#[derive(Clone)]
pub struct CheckpointBytes(Vec<u8>);

/// Where a part of a checkpoint lies.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// The place of its first byte.
    pub start: usize,
    /// Its bytes.
    pub length: usize,
}

impl CheckpointBytes {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that is not there.
    pub fn read(path: &Path) -> Result<CheckpointBytes> {
        Ok(CheckpointBytes(fs::read(path)?))
    }

    /// The file's content.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its parts, in their order.
    ///
    /// # Errors
    /// A file that is shorter than it says.
    pub fn parts(&self) -> Result<Vec<Part>> {
        let mut start = self.table_end()? + 4;
        let table = self.0.get(TABLE_START..start - 4).context("a table")?;
        let mut parts = Vec::new();
        for entry in table.chunks_exact(ENTRY_BYTES) {
            let name = String::from_utf8_lossy(&entry[..16]).trim_end_matches('\0').to_owned();
            let mut length = [0; 8];
            length.copy_from_slice(&entry[16..24]);
            let length = usize::try_from(u64::from_le_bytes(length))?;
            parts.push(Part { name, start, length });
            start += length;
        }
        ensure!(start == self.0.len(), "{start} of {} bytes", self.0.len());
        Ok(parts)
    }

    /// The same with one bit of this byte changed.
    #[must_use]
    pub fn with_a_flipped_bit(&self, byte: usize) -> CheckpointBytes {
        let mut bytes = self.0.clone();
        bytes[byte] ^= 1 << (byte % 8);
        CheckpointBytes(bytes)
    }

    /// The first so many bytes.
    #[must_use]
    pub fn cut_to(&self, length: usize) -> CheckpointBytes {
        CheckpointBytes(self.0[..length].to_vec())
    }

    /// The same as a later version would say that it is: of the next format, with a checksum that is right.
    ///
    /// # Errors
    /// As [`CheckpointBytes::parts`].
    pub fn of_the_next_format(&self) -> Result<CheckpointBytes> {
        let mut bytes = self.0.clone();
        bytes[MAGIC_BYTES] += 1;
        let end = self.table_end()?;
        let checksum = crc32(&bytes[..end]).to_le_bytes();
        bytes[end..end + 4].copy_from_slice(&checksum);
        Ok(CheckpointBytes(bytes))
    }

    fn table_end(&self) -> Result<usize> {
        let count = self.0.get(MAGIC_BYTES + 4..TABLE_START).context("a header")?;
        Ok(TABLE_START + usize::from(count[0]) * ENTRY_BYTES)
    }
}

/// The checksum of gzip.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let is_odd = crc & 1 == 1;
            crc >> 1 ^ if is_odd { 0xedb8_8320 } else { 0 }
        })
    })
}
