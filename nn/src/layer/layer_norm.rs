use super::normalization::{backward, normalize};
use super::{Keys, Memory, Needs, Passed, Passes, Sizes, Tensor};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::sums::{add, add_products, sum_in_blocks};
use crate::kernel::tensor::{flat, rows, take, take_mut, tensor};
use ndarray::{ArrayView4, ArrayViewMut1, ArrayViewMut2, ArrayViewMut4, Zip};
use serde::{Deserialize, Serialize};

/// Normalises along the last axis, like `torch.nn.LayerNorm` (Ba, Kiros and Hinton, arXiv 1607.06450): Y = W·N + b,
/// where N has mean 0 and variance 1 in each row.
///
/// X, Y: (batch, …, width), W, b: (width).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct LayerNormLayer {
    shape: Vec<usize>,
    rows: usize,
    width: usize,
}

impl Keys for LayerNorm {
    type Layer = LayerNormLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<LayerNormLayer, String> {
        let Some((width, rows)) = incoming.split_last() else {
            return Err(format!("expects a vector or more, but {from} gives a single number"));
        };
        Ok(LayerNormLayer {
            shape: incoming.to_vec(),
            rows: rows.iter().product(),
            width: *width,
        })
    }

    fn hash(&self, _: &mut Fnv1a) {}
}

impl Sizes for LayerNormLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    fn tensors(&self) -> Vec<Tensor> {
        Tensor::scale_and_shift(self.width)
    }

    /// What is normalised, and each row's scale.
    fn needs(&self) -> Needs {
        Needs {
            numbers: (self.rows * self.width).saturating_add(self.rows),
            ..Needs::default()
        }
    }
}

/// What the forward pass keeps.
struct Kept<'a, S> {
    normalized: ArrayViewMut2<'a, S>,
    /// Each row's.
    scales: ArrayViewMut1<'a, S>,
}

impl LayerNormLayer {
    fn kept<'a, S>(&self, mut numbers: &'a mut [S], rows: usize) -> Kept<'a, S> {
        Kept {
            normalized: take_mut(&mut numbers, (rows, self.width)),
            scales: take_mut(&mut numbers, rows),
        }
    }
}

impl<S: Scalar> Passes<S> for LayerNormLayer {
    fn forward(
        &self,
        mut parameters: &[S],
        input: ArrayView4<'_, S>,
        output: ArrayViewMut4<'_, S>,
        memory: Memory<'_, S>,
    ) {
        let (weight, bias) = (take(&mut parameters, self.width), take(&mut parameters, self.width));
        let (x, mut y) = (rows(input, self.width), rows(output, self.width));
        let Kept { mut normalized, scales } = self.kept(memory.numbers, x.nrows());
        Zip::from(x.rows())
            .and(normalized.rows_mut())
            .and(y.rows_mut())
            .and(scales)
            .for_each(|x, mut normalized, y, scale| {
                *scale = normalize(x, normalized.view_mut());
                Zip::from(y)
                    .and(normalized)
                    .and(weight)
                    .and(bias)
                    .for_each(|y, n, weight, bias| *y = *n * *weight + *bias);
            });
    }

    /// dW = Σ over the rows of dY·N, db = Σ dY, dN = W·dY.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let dy = rows(passed.output_gradient, self.width);
        let Kept { normalized, scales } = self.kept(memory.numbers, dy.nrows());
        let (dw, db) = parameter_gradient.split_at_mut(self.width);
        sum_in_blocks(dy.nrows(), [dw, db], &|row, columns, [dw, db]| {
            let (dy, normalized) = (&flat(dy.row(row))[columns.clone()], &flat(normalized.row(row))[columns]);
            add_products(dw, dy, normalized);
            add(db, dy);
        });
        let Some(input_gradient) = input_gradient else { return };
        let weight = tensor(&passed.parameters[..self.width], self.width);
        Zip::from(dy.rows())
            .and(normalized.rows())
            .and(scales.view())
            .and(rows(input_gradient, self.width).rows_mut())
            .for_each(|dy, normalized, scale, mut gradient| {
                Zip::from(&mut gradient)
                    .and(dy)
                    .and(weight)
                    .for_each(|dn, dy, weight| *dn = *dy * *weight);
                backward(normalized, *scale, gradient);
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, check_many_rows, fit};

    #[test]
    fn its_gradients_are_the_central_differences() {
        for shape in [&[7][..], &[3, 5], &[2, 3, 4]] {
            check(&fit(LayerNorm {}, shape), shape.iter().product(), 3);
        }
    }

    #[test]
    fn the_gradient_of_its_bias_is_exact_over_many_rows() {
        check_many_rows(&fit(LayerNorm {}, &[262_144, 3]), 1);
    }
}
