//! Y = X·Wᵀ + b, row by row: what linear layers and attention's projections have in common.

use crate::kernel::{Packing, Update, product};
use crate::lanes::add;
use crate::scalar::Scalar;
use crate::tensor::{matrix, matrix_mut};

/// X: (rows, inputs), W: (outputs, inputs), b: (outputs), Y: (rows, outputs); row-major.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Affine {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
}

impl Affine {
    /// The parameters, or their gradient, as weight and bias.
    pub(crate) fn split<'a, S>(&self, parameters: &'a [S]) -> (&'a [S], &'a [S]) {
        parameters.split_at(self.outputs * self.inputs)
    }

    /// Overwrites the output.
    pub(crate) fn forward<S: Scalar>(
        &self,
        (weight, bias): (&[S], &[S]),
        input: &[S],
        output: &mut [S],
        packing: &mut Packing<S>,
    ) {
        let rows = input.len() / self.inputs;
        for row in output.chunks_exact_mut(self.outputs) {
            row.copy_from_slice(bias);
        }
        let x = matrix(input, rows, self.inputs);
        let w = matrix(weight, self.outputs, self.inputs);
        let y = matrix_mut(output, rows, self.outputs);
        product(x, w.reversed_axes(), y, Update::Add, packing);
    }

    /// Overwrites the gradients by the parameters: dW = dYᵀ·X, db = Σ over the rows of dY.
    pub(crate) fn by_parameters<S: Scalar>(
        &self,
        input: &[S],
        output_gradient: &[S],
        (weight_gradient, bias_gradient): (&mut [S], &mut [S]),
        packing: &mut Packing<S>,
    ) {
        let rows = input.len() / self.inputs;
        let x = matrix(input, rows, self.inputs);
        let dy = matrix(output_gradient, rows, self.outputs);
        let dw = matrix_mut(weight_gradient, self.outputs, self.inputs);
        product(dy.reversed_axes(), x, dw, Update::Overwrite, packing);
        bias_gradient.fill(S::ZERO);
        for row in output_gradient.chunks_exact(self.outputs) {
            add(bias_gradient, row);
        }
    }

    /// The gradient by the input: dX = dY·W.
    pub(crate) fn by_input<S: Scalar>(
        &self,
        weight: &[S],
        output_gradient: &[S],
        input_gradient: &mut [S],
        update: Update,
        packing: &mut Packing<S>,
    ) {
        let rows = output_gradient.len() / self.outputs;
        let dy = matrix(output_gradient, rows, self.outputs);
        let w = matrix(weight, self.outputs, self.inputs);
        let dx = matrix_mut(input_gradient, rows, self.inputs);
        product(dy, w, dx, update, packing);
    }
}
