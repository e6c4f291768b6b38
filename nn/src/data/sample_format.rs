//! What a sample's bytes mean: the same for every shard of a run.

use serde::{Deserialize, Serialize};

/// What a sample's bytes mean: the same for every shard of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleFormat {
    /// The shape of a sample's input: `[features]`, `[channels, height, width]`, or `[positions]` of a text.
    pub shape: Vec<usize>,
    /// What is in it.
    #[serde(flatten)]
    pub content: ContentFormat,
}

/// What is in a sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ContentFormat {
    /// Bytes with a class: images.
    Bytes {
        /// An input is its byte · `scale` + `shift`: multiplied, rounded, then added, rounded.
        scale: f32,
        /// See `scale`.
        shift: f32,
        /// Labels are below this number.
        classes: u32,
    },
    /// A window of a text; to answer is the next token at each of its positions.
    Text {
        /// Tokens are below this number.
        tokens: u32,
    },
    /// A row of numbers.
    Table {
        /// What is to answer.
        targets: TableTargets,
    },
}

/// What is to answer to a row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableTargets {
    /// One class.
    Class {
        /// Classes are below this number.
        classes: u32,
    },
    /// Numbers.
    Values {
        /// How many.
        count: u32,
    },
    /// Numbers from 0, no, to 1, yes; "chances" in a run's description.
    #[serde(rename = "chances")]
    Probabilities {
        /// How many.
        count: u32,
    },
}

impl SampleFormat {
    /// Elements of one sample's input: the product of its shape.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// How many targets a sample has.
    pub fn targets(&self) -> usize {
        match self.content {
            ContentFormat::Bytes { .. } => 1,
            ContentFormat::Text { .. } => self.elements(),
            ContentFormat::Table { targets } => targets.count(),
        }
    }

    /// Whether targets are classes, not numbers.
    pub fn has_classes(&self) -> bool {
        match self.content {
            ContentFormat::Bytes { .. } | ContentFormat::Text { .. } => true,
            ContentFormat::Table { targets } => matches!(targets, TableTargets::Class { .. }),
        }
    }

    /// How many classes or tokens an answer is one of; `None` for numbers.
    pub fn classes(&self) -> Option<u32> {
        match self.content {
            ContentFormat::Bytes { classes, .. }
            | ContentFormat::Text { tokens: classes }
            | ContentFormat::Table {
                targets: TableTargets::Class { classes },
            } => Some(classes),
            ContentFormat::Table { .. } => None,
        }
    }

    /// The bytes that a sample takes in a shard, nearly: windows of a text lie over each other.
    pub fn sample_bytes(&self) -> usize {
        match self.content {
            ContentFormat::Bytes { .. } => self.elements() + 1,
            ContentFormat::Text { .. } => 1,
            ContentFormat::Table { .. } => (self.elements() + self.targets()) * size_of::<f32>(),
        }
    }

    /// What a shard of this format has, in words.
    pub(crate) fn describe(&self) -> String {
        let elements = self.elements();
        match self.content {
            ContentFormat::Bytes { classes, .. } => describe_bytes(elements, classes),
            ContentFormat::Text { tokens } => describe_text(elements, tokens),
            ContentFormat::Table { targets } => targets.describe(elements),
        }
    }

    /// The inputs that bytes stand for.
    pub fn inputs(&self, bytes: &[u8], inputs: &mut [f32]) {
        let (scale, shift) = match self.content {
            ContentFormat::Bytes { scale, shift, .. } => (scale, shift),
            ContentFormat::Text { .. } | ContentFormat::Table { .. } => (1.0, 0.0),
        };
        for (input, byte) in inputs.iter_mut().zip(bytes) {
            *input = f32::from(*byte) * scale + shift;
        }
    }
}

impl TableTargets {
    /// How many numbers a row's targets are; a class is one.
    pub fn count(self) -> usize {
        match self {
            TableTargets::Class { .. } => 1,
            TableTargets::Values { count } | TableTargets::Probabilities { count } => count as usize,
        }
    }

    /// Whether a number can be one of them.
    pub fn takes(self, target: f32) -> bool {
        match self {
            TableTargets::Class { classes } => target >= 0.0 && target < classes as f32 && target.trunc() == target,
            TableTargets::Values { .. } => target.is_finite(),
            TableTargets::Probabilities { .. } => (0.0..=1.0).contains(&target),
        }
    }

    pub(crate) fn describe(self, elements: usize) -> String {
        match self {
            TableTargets::Class { classes } => format!("rows of {elements} numbers and {classes} classes"),
            TableTargets::Values { count } => format!("rows of {elements} numbers and {count} targets"),
            TableTargets::Probabilities { count } => format!("rows of {elements} numbers and {count} chances"),
        }
    }
}

pub(crate) fn describe_bytes(elements: usize, classes: u32) -> String {
    format!("samples of {elements} bytes and {classes} classes")
}

pub(crate) fn describe_text(positions: usize, tokens: u32) -> String {
    format!("texts of {positions} positions and {tokens} tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_its_byte_scaled_and_then_shifted() {
        let format = SampleFormat {
            shape: vec![1, 2, 3],
            content: ContentFormat::Bytes {
                scale: 0.1,
                shift: -0.5,
                classes: 10,
            },
        };
        assert_eq!(format.elements(), 6);
        let mut inputs = [0.0];
        format.inputs(&[7], &mut inputs);
        assert_eq!(inputs[0].to_bits(), (7.0_f32 * 0.1 + -0.5).to_bits());
    }

    #[test]
    fn a_format_survives_json() {
        let contents = [
            ContentFormat::Bytes {
                scale: 0.1,
                shift: -0.5,
                classes: 10,
            },
            ContentFormat::Text { tokens: 65 },
            ContentFormat::Table {
                targets: TableTargets::Probabilities { count: 2 },
            },
        ];
        for content in contents {
            let format = SampleFormat {
                shape: vec![3],
                content,
            };
            let json = serde_json::to_string(&format).unwrap();
            assert_eq!(serde_json::from_str::<SampleFormat>(&json).unwrap(), format, "{json}");
        }
    }

    #[test]
    fn only_the_targets_that_there_are_are_taken() {
        let class = TableTargets::Class { classes: 3 };
        assert!([0.0, 2.0].into_iter().all(|target| class.takes(target)));
        assert!(
            [-1.0, 3.0, 0.5, f32::NAN]
                .into_iter()
                .all(|target| !class.takes(target))
        );
        let probability = TableTargets::Probabilities { count: 1 };
        assert!(probability.takes(0.3) && !probability.takes(1.1) && !probability.takes(f32::NAN));
        assert!(!TableTargets::Values { count: 1 }.takes(f32::INFINITY));
    }
}
