//! Why data can't be used.

use std::io;
use std::path::PathBuf;

use nn::data::shard::{MAX_CLASSES, ShardError};
use thiserror::Error;

use super::MAX_SHARDS;
use super::file::MAX_FILE_BYTES;

/// Why data can't be used: which file, where in it, what was expected, and a hint. Its message holds all causes, so it
/// names none as its source.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DatasetError {
    /// The file isn't there, or isn't ours to read.
    #[error("{}: can't be opened: {cause}; get the data, or correct the path in [dataset]", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// The file can't be read on, or is damaged gzip.
    #[error("{}: can't be read beyond offset {offset}: {cause}; get the file again", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Bytes read before, unpacked.
        offset: u64,
        /// What the system says.
        cause: io::Error,
    },
    /// The file isn't an IDX file of the kind that is needed.
    #[error(
        "{}: offset 0: starts with bytes {found:02x?}, expected {expected}; correct the path in [dataset]",
        .path.display()
    )]
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
        "{}: offset 4: the header says {sizes:?}, expected sizes above 0 and at most {} bytes in all; get the file \
         again",
        .path.display(),
        MAX_FILE_BYTES
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
    #[error(
        "{}: offset {offset}: label {label}, expected one below {classes}; correct `classes` in [dataset]",
        .path.display()
    )]
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
    /// The file is larger than the server can keep.
    #[error("{}: is longer than {MAX_FILE_BYTES} bytes; train on a part of it", .path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// The file isn't text.
    #[error("{}: offset {offset}: is not UTF-8; convert it to UTF-8", .path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where, unpacked.
        offset: usize,
    },
    /// The text has more different characters than a shard has numbers for.
    #[error(
        "{}: line {line}: {character:?} is its different character number {}, but there can be {MAX_CLASSES}; \
         replace rare ones",
        .path.display(),
        MAX_CLASSES + 1
    )]
    TooManyCharacters {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The character that is one too many.
        character: char,
    },
    /// The text is empty.
    #[error("{}: is empty; name another text in [dataset]", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The text repeats one character.
    #[error(
        "{}: holds no character but {character:?}, so there is nothing to learn; name another text in [dataset]",
        .path.display()
    )]
    OneCharacter {
        /// The file.
        path: PathBuf,
        /// The character.
        character: char,
    },
    /// The text is too short to be cut.
    #[error(
        "{}: {characters} characters to {purpose}, but a window of {positions} and the character after it need {}; set \
         positions lower, or held_out {hint}",
        .path.display(),
        .positions + 1
    )]
    ShortText {
        /// The file.
        path: PathBuf,
        /// How many characters there are.
        characters: usize,
        /// What they are for.
        purpose: &'static str,
        /// Positions of a window.
        positions: usize,
        /// How to set held_out.
        hint: &'static str,
    },
    /// The table can't be used.
    #[error("{}: {problem}", .path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// The place, what is wrong, and a hint.
        problem: String,
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
    Shard(ShardError),
}

// Not by thiserror: what an error names as its source is printed a second time, behind its own line.
impl From<ShardError> for DatasetError {
    fn from(error: ShardError) -> DatasetError {
        DatasetError::Shard(error)
    }
}
