//! Y = X·Wᵀ + b, row by row: what linear layers and attention's projections have in common.
//!
//! X: (rows, inputs), W: (outputs, inputs), b: (outputs), Y: (rows, outputs).

use crate::kernel::scalar::Scalar;
use crate::kernel::sums::sum_rows;
use crate::kernel::{Packing, Update, matmul};
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2};

/// Overwrites Y.
pub(crate) fn forward<S: Scalar>(
    x: ArrayView2<'_, S>,
    weight: ArrayView2<'_, S>,
    bias: ArrayView1<'_, S>,
    mut y: ArrayViewMut2<'_, S>,
    packing: &mut Packing<S>,
) {
    y.rows_mut().into_iter().for_each(|mut row| row.assign(&bias));
    matmul(x, weight.reversed_axes(), y, Update::Add, packing);
}

/// Overwrites the gradients by the parameters: dW = dYᵀ·X, db = Σ over the rows of dY.
pub(crate) fn by_parameters<S: Scalar>(
    x: ArrayView2<'_, S>,
    dy: ArrayView2<'_, S>,
    dw: ArrayViewMut2<'_, S>,
    db: ArrayViewMut1<'_, S>,
    packing: &mut Packing<S>,
) {
    sum_rows(dy, db);
    matmul(dy.reversed_axes(), x, dw, Update::Overwrite, packing);
}

/// The gradient by the input: dX = dY·W.
pub(crate) fn by_input<S: Scalar>(
    weight: ArrayView2<'_, S>,
    dy: ArrayView2<'_, S>,
    dx: ArrayViewMut2<'_, S>,
    update: Update,
    packing: &mut Packing<S>,
) {
    matmul(dy, weight, dx, update, packing);
}
