//! The memory that a gradient is computed in, allocated once.

use crate::kernel::Packing;
use crate::kernel::scalar::Scalar;
use crate::layer::{Memory, Needs};
use crate::random::Generator;

/// Everything between a minibatch and its gradient. Made by [`Model::scratch`](crate::model::Model::scratch) for one
/// model and batches up to a size; what it holds from one call never shows in the next.
#[derive(Debug)]
pub struct Scratch<S = f32> {
    pub(crate) max_batch: usize,
    pub(crate) needs: Needs,
    pub(crate) indices: Vec<u32>,
    pub(crate) numbers: Vec<S>,
    pub(crate) room: Vec<S>,
    pub(crate) packing: Packing<S>,
}

impl<S: Scalar> Scratch<S> {
    pub(crate) fn new(needs: Needs, max_batch: usize) -> Self {
        Scratch {
            max_batch,
            needs,
            indices: vec![0; needs.indices * max_batch],
            numbers: vec![S::ZERO; needs.numbers * max_batch],
            room: vec![S::ZERO; needs.room],
            packing: Packing::new(),
        }
    }

    /// How many bytes `new` would allocate; `usize::MAX` if they cannot be counted.
    pub(crate) fn bytes(needs: Needs, max_batch: usize) -> usize {
        let Needs { indices, numbers, room } = needs;
        let indices = indices.saturating_mul(max_batch).saturating_mul(size_of::<u32>());
        let numbers = numbers.saturating_mul(max_batch).saturating_add(room);
        numbers
            .saturating_mul(size_of::<S>())
            .saturating_add(indices)
            .saturating_add(Packing::<S>::BYTES)
    }

    /// For the passes over a minibatch, with its random numbers while training.
    pub(crate) fn memory<'a>(&'a mut self, random: Option<&'a mut Generator>) -> Memory<'a, S> {
        Memory {
            indices: &mut self.indices,
            numbers: &mut self.numbers,
            room: &mut self.room,
            packing: &mut self.packing,
            random,
        }
    }
}
