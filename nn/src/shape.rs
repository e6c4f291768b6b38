//! The shapes of samples and tensors.

/// The most axes of a sample between two layers: (channels, height, width).
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

/// The shape of a minibatch of such samples: (batch, channels, height, width). A sequence, (positions, width), is an
/// image of one channel, and a vector one of one row. So every layer's views have as many axes, which a compiler knows:
/// views of any number of axes (`ArrayViewD`) made the engine's wasm code 1.4 times as large.
pub(crate) fn of_batch(batch: usize, sample: &[usize]) -> [usize; MAX_AXES + 1] {
    let mut sizes = [1; MAX_AXES + 1];
    sizes[0] = batch;
    sizes[MAX_AXES + 1 - sample.len()..].copy_from_slice(sample);
    sizes
}
