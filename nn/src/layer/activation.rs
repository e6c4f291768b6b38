//! What activations have in common whose slope follows from what they gave.

use super::Passed;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::OnePiece;
use ndarray::{ArrayViewMut4, Zip};

/// Overwrites dX, where it is wanted, with a function of each dY and Y.
pub(crate) fn backward<S: Scalar>(
    passed: Passed<'_, S>,
    input_gradient: Option<ArrayViewMut4<'_, S>>,
    slope: impl Fn(S, S) -> S,
) {
    let Some(input_gradient) = input_gradient else { return };
    Zip::from(input_gradient.line())
        .and(passed.output_gradient.line())
        .and(passed.output.line())
        .for_each(|dx, dy, y| *dx = slope(*dy, *y));
}
