//! The shapes of samples and tensors.

use ndarray::IxDyn;

/// The most axes of a sample between two layers: (channels, height, width). With the batch's they are as many as ndarray keeps
/// without allocating.
const MAX_AXES: usize = 3;

/// How many numbers a shape holds, if they can be counted.
pub(crate) fn count(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1_usize, |product, size| product.checked_mul(*size))
}

/// A shape as PyTorch prints it, but for a vector's, which is only its number.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    match shape {
        [one] => one.to_string(),
        _ => format!(
            "({})",
            shape.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
        ),
    }
}

/// The shape of a minibatch of such samples. Allocates nothing.
pub(crate) fn of_batch(batch: usize, sample: &[usize]) -> IxDyn {
    let mut sizes = [batch; MAX_AXES + 1];
    sizes[1..=sample.len()].copy_from_slice(sample);
    IxDyn(&sizes[..=sample.len()])
}
