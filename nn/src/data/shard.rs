//! Shards: immutable blocks of samples, as they travel from the server to a tab.
//!
//! ```text
//! offset  bytes  what (little-endian)
//! 0       8      magic, "SSSHARD\0"
//! 8       4      format version, 2
//! 12      4      what is in it: 1 bytes with classes, 2 a text, 3 a table
//! 16      4      samples
//! 20      4      elements of a sample's input; positions of a window of the text
//! 24      4      classes or tokens; of a table 0 for numbers, 1 for numbers from 0 to 1, else classes
//! 28      4      a table's targets of a sample, else 0
//! 32      …      bytes with classes: samples · elements bytes, sample after sample, then a label of one byte each
//!                a text: samples + positions tokens of one byte each; sample i is the window that begins at token i
//!                a table: samples · elements numbers (f32), then samples · targets numbers (f32)
//! …       8      checksum: FNV-1a, 64 bits, of everything before it
//! ```
//!
//! The checksum is also the shard's name: the content never changes under a name, so browsers and proxies may keep it.

mod encoding;

pub use encoding::hash_of_all;

use super::sample_format::{ContentFormat, SampleFormat, TableTargets, describe_bytes, describe_text};
use thiserror::Error;

/// The format that is written, and the only one that is read.
pub(crate) const FORMAT_VERSION: u32 = 2;

/// Labels and tokens are bytes, so there are at most this many classes, and as many tokens.
pub const MAX_CLASSES: u32 = 256;

/// The largest content of one shard: a tab holds it twice while it decodes it, and a phone must manage.
pub const MAX_SHARD_BYTES: u64 = 64 << 20;

/// Why a shard can't be made, or bytes aren't one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The bytes aren't a shard at all.
    #[error(
        "not a shard: it starts with bytes {found:02x?}, expected those of \"SSSHARD\"; check the address it came from"
    )]
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
        /// Bytes of its content.
        bytes: u64,
    },
    /// Labels are bytes.
    #[error("a shard of {classes} classes; it can have 1 to {MAX_CLASSES}")]
    Classes {
        /// Classes of the shard.
        classes: u32,
    },
    /// The inputs aren't as many as the labels or targets ask for.
    #[error("{inputs} inputs for {samples} samples of {elements} elements")]
    Inputs {
        /// How many numbers or bytes.
        inputs: usize,
        /// Samples, by the labels or targets.
        samples: usize,
        /// Elements of a sample.
        elements: usize,
    },
    /// The header says that something else is in it than there can be.
    #[error("a shard with content {found}, {bound}, {targets}; fetch it again, or reload the page")]
    Content {
        /// What is in it.
        found: u32,
        /// Classes or tokens.
        bound: u32,
        /// A table's targets.
        targets: u32,
    },
    /// A token that there isn't.
    #[error("token {token} at position {position}, but there are {tokens} tokens, counted from 0")]
    Token {
        /// Counted from 0.
        position: usize,
        /// The token.
        token: u8,
        /// How many there are.
        tokens: u32,
    },
    /// A number of a table that can't be.
    #[error("sample {sample}: {what} {value} is not one that there can be")]
    Number {
        /// Which sample of the shard, counted from 0.
        sample: usize,
        /// Input or target.
        what: &'static str,
        /// The number.
        value: String,
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

/// A shard of another data set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("has {found}, but the run says {expected}; reload the page")]
pub struct OtherFormat {
    found: String,
    expected: String,
}

/// An immutable block of samples. Its parts fit each other: all labels are classes, all tokens are below their number,
/// and all numbers are finite.
#[derive(Clone, Debug, PartialEq)]
pub struct Shard {
    samples: usize,
    elements: usize,
    content: Content,
}

/// What is in a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Bytes with a class: images.
    Bytes {
        /// (samples, elements), row-major.
        inputs: Vec<u8>,
        /// (samples), each below `classes`.
        labels: Vec<u8>,
        /// How many there are.
        classes: u32,
    },
    /// A text. Its samples are all windows of it: that from a token on, and the token after it.
    Text {
        /// The tokens one after the other, each below `tokens`.
        text: Vec<u8>,
        /// How many different tokens there are.
        tokens: u32,
    },
    /// Rows of numbers.
    Table {
        /// (samples, elements), row-major.
        inputs: Vec<f32>,
        /// (samples, targets), row-major. A class is a number.
        targets: Vec<f32>,
        /// What the targets are.
        kind: TableTargets,
    },
}

impl Content {
    fn describe(&self, elements: usize) -> String {
        match self {
            Content::Bytes { classes, .. } => describe_bytes(elements, *classes),
            Content::Text { tokens, .. } => describe_text(elements, *tokens),
            Content::Table { kind, .. } => kind.describe(elements),
        }
    }

    /// Bytes that it takes.
    fn bytes(&self) -> u64 {
        let bytes = match self {
            Content::Bytes { inputs, labels, .. } => inputs.len() + labels.len(),
            Content::Text { text, .. } => text.len(),
            Content::Table { inputs, targets, .. } => (inputs.len() + targets.len()) * size_of::<f32>(),
        };
        bytes as u64
    }
}

impl Shard {
    /// Samples of bytes, each with a label. inputs: (samples, elements), row-major.
    pub fn bytes(classes: u32, elements: usize, inputs: Vec<u8>, labels: Vec<u8>) -> Result<Shard, ShardError> {
        check_classes(classes)?;
        let samples = labels.len();
        check_inputs(samples, elements, inputs.len())?;
        if let Some(sample) = labels.iter().position(|&label| u32::from(label) >= classes) {
            return Err(ShardError::Label {
                sample,
                label: labels[sample],
                classes,
            });
        }
        let content = Content::Bytes {
            inputs,
            labels,
            classes,
        };
        Shard::new(samples, elements, content)
    }

    /// All windows of `positions` tokens of a text, each with the token after it. The text's tokens are below `tokens`.
    pub fn text(tokens: u32, positions: usize, text: Vec<u8>) -> Result<Shard, ShardError> {
        check_classes(tokens)?;
        if let Some(position) = text.iter().position(|&token| u32::from(token) >= tokens) {
            return Err(ShardError::Token {
                position,
                token: text[position],
                tokens,
            });
        }
        let samples = text.len().saturating_sub(positions);
        Shard::new(samples, positions, Content::Text { text, tokens })
    }

    /// Rows of a table. inputs: (samples, elements), targets: (samples, as many as `kind` says), row-major.
    pub fn table(
        elements: usize,
        kind: TableTargets,
        inputs: Vec<f32>,
        targets: Vec<f32>,
    ) -> Result<Shard, ShardError> {
        if let TableTargets::Class { classes } = kind {
            check_classes(classes)?;
            if classes == 1 {
                // It would look like a probability on its way, and there is nothing to learn.
                return Err(ShardError::Classes { classes });
            }
        }
        let samples = targets.len().checked_div(kind.count()).unwrap_or(0);
        check_inputs(samples, elements, inputs.len())?;
        check_inputs(samples, kind.count(), targets.len())?;
        let bad_input = inputs.iter().position(|input| !input.is_finite());
        let bad_target = targets.iter().position(|target| !kind.takes(*target));
        let number = |what, index: usize, each: usize, values: &[f32]| ShardError::Number {
            sample: index / each,
            what,
            value: values[index].to_string(),
        };
        if let Some(index) = bad_input {
            return Err(number("input", index, elements, &inputs));
        }
        if let Some(index) = bad_target {
            return Err(number("target", index, kind.count(), &targets));
        }
        Shard::new(samples, elements, Content::Table { inputs, targets, kind })
    }

    fn new(samples: usize, elements: usize, content: Content) -> Result<Shard, ShardError> {
        if samples == 0 || elements == 0 {
            return Err(ShardError::Empty {
                samples: samples as u64,
                elements: elements as u64,
            });
        }
        let bytes = content.bytes();
        if bytes > MAX_SHARD_BYTES {
            return Err(ShardError::TooLarge { bytes });
        }
        Ok(Shard {
            samples,
            elements,
            content,
        })
    }

    /// How many samples it has; at least one.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Elements of one sample's input; at least one.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// Whether it is of this format.
    pub fn check_format(&self, format: &SampleFormat) -> Result<(), OtherFormat> {
        let fits = match (&format.content, &self.content) {
            (ContentFormat::Bytes { classes, .. }, Content::Bytes { classes: found, .. }) => classes == found,
            (ContentFormat::Text { tokens }, Content::Text { tokens: found, .. }) => tokens == found,
            (ContentFormat::Table { targets }, Content::Table { kind, .. }) => targets == kind,
            _ => false,
        };
        if fits && format.elements() == self.elements {
            return Ok(());
        }
        Err(OtherFormat {
            found: self.content.describe(self.elements),
            expected: format.describe(),
        })
    }

    /// What is in it.
    pub fn content(&self) -> &Content {
        &self.content
    }

    /// Samples that have nothing in common and are together all that is in it, but for less than a window at a text's
    /// end: what a model is evaluated on.
    pub fn apart(&self) -> impl ExactSizeIterator<Item = usize> + Clone {
        let step = match self.content {
            Content::Text { .. } => self.elements,
            Content::Bytes { .. } | Content::Table { .. } => 1,
        };
        (0..self.samples).step_by(step)
    }
}

fn check_classes(classes: u32) -> Result<(), ShardError> {
    if (1..=MAX_CLASSES).contains(&classes) {
        Ok(())
    } else {
        Err(ShardError::Classes { classes })
    }
}

fn check_inputs(samples: usize, elements: usize, inputs: usize) -> Result<(), ShardError> {
    if samples.checked_mul(elements) == Some(inputs) {
        Ok(())
    } else {
        Err(ShardError::Inputs {
            inputs,
            samples,
            elements,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_numbers_are_finite_and_its_targets_such_as_it_says() {
        let class = TableTargets::Class { classes: 2 };
        let error = Shard::table(2, class, vec![0.0, 1.0, f32::NAN, 2.0], vec![0.0, 1.0]).unwrap_err();
        assert_eq!(error.to_string(), "sample 1: input NaN is not one that there can be");
        let error = Shard::table(1, class, vec![0.0; 3], vec![0.0, 1.0, 2.0]).unwrap_err();
        assert_eq!(error.to_string(), "sample 2: target 2 is not one that there can be");
        let values = TableTargets::Values { count: 2 };
        assert!(matches!(
            Shard::table(1, values, vec![0.0; 2], vec![0.0; 3]),
            Err(ShardError::Inputs { .. })
        ));
        assert!(matches!(
            Shard::table(1, TableTargets::Values { count: 0 }, vec![], vec![]),
            Err(ShardError::Empty { .. })
        ));
    }

    #[test]
    fn a_text_shorter_than_a_window_and_the_token_after_it_is_no_shard() {
        assert!(matches!(
            Shard::text(3, 4, vec![0, 1, 2, 0]),
            Err(ShardError::Empty { samples: 0, .. })
        ));
        assert_eq!(
            Shard::text(3, 4, vec![0, 1, 3, 0, 1]).unwrap_err().to_string(),
            "token 3 at position 2, but there are 3 tokens, counted from 0"
        );
    }

    #[test]
    fn samples_apart_are_all_samples_or_windows_side_by_side() {
        let text = Shard::text(3, 4, vec![0; 14]).unwrap();
        assert!(text.apart().eq([0, 4, 8]));
        let bytes = Shard::bytes(2, 1, vec![7; 3], vec![0, 1, 1]).unwrap();
        assert!(bytes.apart().eq(0..3));
    }
}
