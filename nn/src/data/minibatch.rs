//! Minibatches: samples to compute a gradient of or to evaluate, and the buffer that they are put together in.

use crate::data::sample_format::SampleFormat;
use crate::data::shard::{Content, Shard};
use crate::random::MinibatchKey;

/// Samples to compute a gradient of, or to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Minibatch<'a> {
    /// (batch, inputs), row-major. Tokens are numbers here too.
    pub inputs: &'a [f32],
    /// What the model should answer.
    pub targets: Targets<'a>,
    /// Its name, which dropout goes by; without one nothing is dropped.
    pub key: Option<MinibatchKey>,
}

/// What a model should answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Targets<'a, S = f32> {
    /// (batch, positions): the right classes, counted from 0.
    Classes(&'a [u32]),
    /// (batch, outputs): the right numbers.
    Values(&'a [S]),
}

/// Where a minibatch lies: made once, filled at every step.
#[derive(Clone, Debug)]
pub struct MinibatchBuffer {
    format: SampleFormat,
    inputs: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
}

impl MinibatchBuffer {
    /// Room for `batch` samples of this format.
    pub fn new(format: &SampleFormat, batch: usize) -> MinibatchBuffer {
        let mut buffer = MinibatchBuffer {
            format: format.clone(),
            inputs: Vec::new(),
            classes: Vec::new(),
            values: Vec::new(),
        };
        buffer.make_room(batch);
        buffer
    }

    fn make_room(&mut self, batch: usize) {
        let targets = batch * self.format.targets();
        let (classes, values) = if self.format.has_classes() {
            (targets, 0)
        } else {
            (0, targets)
        };
        self.inputs
            .resize(self.inputs.len().max(batch * self.format.elements()), 0.0);
        self.classes.resize(self.classes.len().max(classes), 0);
        self.values.resize(self.values.len().max(values), 0.0);
    }

    /// Puts the chosen samples of a shard together, `batch` of them, each below [`Shard::samples`]. The shard has to
    /// [fit](Shard::check_format) the format. Allocates nothing if the buffer was made for this batch.
    pub fn fill(
        &mut self,
        shard: &Shard,
        batch: usize,
        chosen: impl Iterator<Item = usize>,
        key: Option<MinibatchKey>,
    ) -> Minibatch<'_> {
        self.make_room(batch);
        let (elements, targets) = (self.format.elements(), self.format.targets());
        let rows = self.inputs.chunks_exact_mut(elements).take(batch);
        for ((row, sample), inputs) in (0..).zip(chosen).zip(rows) {
            let answers = row * targets..(row + 1) * targets;
            match shard.content() {
                Content::Bytes {
                    inputs: bytes, labels, ..
                } => {
                    self.format.inputs(&bytes[sample * elements..][..elements], inputs);
                    self.classes[row] = u32::from(labels[sample]);
                }
                Content::Text { text, .. } => {
                    let window = &text[sample..][..elements + 1];
                    self.format.inputs(&window[..elements], inputs);
                    for (class, next) in self.classes[answers].iter_mut().zip(&window[1..]) {
                        *class = u32::from(*next);
                    }
                }
                Content::Table {
                    inputs: numbers,
                    targets: right,
                    ..
                } => {
                    inputs.copy_from_slice(&numbers[sample * elements..][..elements]);
                    let right = &right[sample * targets..][..targets];
                    if self.format.has_classes() {
                        self.classes[row] = right[0] as u32;
                    } else {
                        self.values[answers].copy_from_slice(right);
                    }
                }
            }
        }
        Minibatch {
            inputs: &self.inputs[..batch * elements],
            targets: if self.format.has_classes() {
                Targets::Classes(&self.classes[..batch * targets])
            } else {
                Targets::Values(&self.values[..batch * targets])
            },
            key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::sample_format::{ContentFormat, TableTargets};

    #[test]
    fn a_text_is_cut_into_windows_whose_targets_are_the_tokens_that_follow() {
        let format = SampleFormat {
            shape: vec![3],
            content: ContentFormat::Text { tokens: 9 },
        };
        let shard = Shard::text(9, 3, vec![4, 1, 8, 0, 2, 5]).unwrap();
        assert_eq!(shard.samples(), 3);
        let mut buffer = MinibatchBuffer::new(&format, 2);
        let minibatch = buffer.fill(&shard, 2, [2, 0].into_iter(), None);
        assert_eq!(minibatch.inputs, [8.0, 0.0, 2.0, 4.0, 1.0, 8.0]);
        assert_eq!(minibatch.targets, Targets::Classes(&[0, 2, 5, 1, 8, 0]));
    }

    #[test]
    fn a_tables_rows_come_with_their_numbers_or_classes() {
        let table = |targets| SampleFormat {
            shape: vec![2],
            content: ContentFormat::Table { targets },
        };
        let inputs = vec![0.5, 1.5, 2.5, 3.5];
        let values = TableTargets::Values { count: 2 };
        let shard = Shard::table(2, values, inputs.clone(), vec![1.0, -1.0, 7.0, 8.0]).unwrap();
        let mut buffer = MinibatchBuffer::new(&table(values), 1);
        let minibatch = buffer.fill(&shard, 1, [1].into_iter(), None);
        assert_eq!(
            (minibatch.inputs, minibatch.targets),
            (&inputs[2..], Targets::Values(&[7.0, 8.0]))
        );

        let classes = TableTargets::Class { classes: 4 };
        let shard = Shard::table(2, classes, inputs.clone(), vec![3.0, 0.0]).unwrap();
        let mut buffer = MinibatchBuffer::new(&table(classes), 1);
        let minibatch = buffer.fill(&shard, 2, [0, 1].into_iter(), None);
        assert_eq!(
            (minibatch.inputs, minibatch.targets),
            (&inputs[..], Targets::Classes(&[3, 0]))
        );
    }
}
