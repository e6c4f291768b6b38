//! The memory that a gradient is computed in, allocated once.

use crate::kernel::Packing;
use crate::layer::Layer;
use crate::scalar::Scalar;

/// Everything between a minibatch and its gradient. Made by [`Model::scratch`](crate::model::Model::scratch) for one
/// model and batches up to a size; what it holds from one call never shows in the next.
#[derive(Debug)]
pub struct Scratch<S = f32> {
    pub(crate) max_batch: usize,
    /// What comes out of each layer.
    pub(crate) activations: Vec<Vec<S>>,
    /// What each layer keeps from the forward to the backward pass.
    pub(crate) kept: Vec<Vec<u32>>,
    /// The loss's gradient by a layer's output and by its input, changing places from layer to layer.
    pub(crate) gradients: [Vec<S>; 2],
    /// One sample as the convolutions unfold it, for the largest of them.
    pub(crate) unfolded: Vec<S>,
    pub(crate) packing: Packing<S>,
}

/// How many numbers the parts of a scratch hold for one sample.
struct Sizes {
    activations: Vec<usize>,
    kept: Vec<usize>,
    gradient: usize,
    unfolded: usize,
}

impl Sizes {
    fn of(layers: &[Layer]) -> Self {
        let activations: Vec<usize> = layers.iter().map(Layer::outputs).collect();
        Sizes {
            gradient: activations.iter().copied().max().unwrap_or(0),
            activations,
            kept: layers.iter().map(Layer::kept_per_sample).collect(),
            unfolded: layers.iter().map(Layer::unfolded).max().unwrap_or(0),
        }
    }
}

impl<S: Scalar> Scratch<S> {
    pub(crate) fn new(layers: &[Layer], max_batch: usize) -> Self {
        let sizes = Sizes::of(layers);
        let zeros = |size: usize| vec![S::ZERO; size];
        Scratch {
            max_batch,
            activations: sizes.activations.iter().map(|size| zeros(size * max_batch)).collect(),
            kept: sizes.kept.iter().map(|size| vec![0; size * max_batch]).collect(),
            gradients: [zeros(sizes.gradient * max_batch), zeros(sizes.gradient * max_batch)],
            unfolded: zeros(sizes.unfolded),
            packing: Packing::new(),
        }
    }

    /// How many bytes `new` would allocate; `usize::MAX` if they cannot be counted.
    pub(crate) fn bytes(layers: &[Layer], max_batch: usize) -> usize {
        let sizes = Sizes::of(layers);
        let total = |sizes: &[usize]| sizes.iter().fold(0_usize, |sum, size| sum.saturating_add(*size));
        let numbers = total(&sizes.activations).saturating_add(sizes.gradient.saturating_mul(2));
        numbers
            .saturating_mul(max_batch)
            .saturating_add(sizes.unfolded)
            .saturating_mul(size_of::<S>())
            .saturating_add(
                total(&sizes.kept)
                    .saturating_mul(max_batch)
                    .saturating_mul(size_of::<u32>()),
            )
            .saturating_add(Packing::<S>::BYTES)
    }
}
