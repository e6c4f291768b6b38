//! What the normalisations have in common: numbers moved and scaled to mean 0 and variance 1.

use crate::kernel::scalar::Scalar;
use crate::kernel::sums::{dot, sum};
use crate::kernel::tensor::{flat, flat_mut};
use ndarray::{ArrayView1, ArrayViewMut1};

/// What PyTorch's normalisations add to the variance by default.
pub(crate) const EPSILON: f64 = 1e-5;

/// Overwrites `normalized` with (X − mean(X)) / √(variance(X) + ε), and returns 1 / √(variance(X) + ε). The variance is
/// the mean square, not corrected, as PyTorch's normalisations have it.
pub(crate) fn normalize<S: Scalar>(input: ArrayView1<'_, S>, normalized: ArrayViewMut1<'_, S>) -> S {
    let (input, normalized) = (flat(input), flat_mut(normalized));
    let count = S::from_f64(input.len() as f64);
    let mean = sum(input) / count;
    for (place, x) in normalized.iter_mut().zip(input) {
        *place = *x - mean;
    }
    let variance = dot(normalized, normalized) / count;
    let scale = S::ONE / (variance + S::from_f64(EPSILON)).sqrt();
    for place in normalized {
        *place = *place * scale;
    }
    scale
}

/// Turns the gradient by what was normalized, dN, into that by the input: scale · (dN − mean(dN) − N · mean(dN · N)).
pub(crate) fn backward<S: Scalar>(normalized: ArrayView1<'_, S>, scale: S, gradient: ArrayViewMut1<'_, S>) {
    let (normalized, gradient) = (flat(normalized), flat_mut(gradient));
    let count = S::from_f64(normalized.len() as f64);
    let (mean, slope) = (sum(gradient) / count, dot(gradient, normalized) / count);
    for (gradient, n) in gradient.iter_mut().zip(normalized) {
        *gradient = scale * (*gradient - mean - *n * slope);
    }
}
