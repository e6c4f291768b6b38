use super::normalization::{backward, normalize};
use super::{Keys, Memory, Needs, Passed, Passes, Sizes, Tensor};
use crate::fnv1a::Fnv1a;
use crate::lanes::add;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};

/// Normalises along the last axis, like `torch.nn.LayerNorm` (Ba, Kiros and Hinton, arXiv 1607.06450): Y = W·N + b, where N has mean
/// 0 and variance 1 in each row.
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

impl<S: Scalar> Passes<S> for LayerNormLayer {
    fn forward(&self, parameters: &[S], input: &[S], output: &mut [S], memory: Memory<'_, S>) {
        let (weight, bias) = parameters.split_at(self.width);
        let (normalized, scales) = memory.numbers.split_at_mut(input.len());
        let rows = input
            .chunks_exact(self.width)
            .zip(normalized.chunks_exact_mut(self.width));
        for (((x, normalized), scale), y) in rows.zip(scales).zip(output.chunks_exact_mut(self.width)) {
            *scale = normalize(x, normalized);
            for ((y, n), (weight, bias)) in y.iter_mut().zip(normalized).zip(weight.iter().zip(bias)) {
                *y = *n * *weight + *bias;
            }
        }
    }

    /// dW = Σ over the rows of dY·N, db = Σ dY, dN = W·dY.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<&mut [S]>,
        memory: Memory<'_, S>,
    ) {
        let width = self.width;
        let (normalized, scales) = memory.numbers.split_at(passed.input.len());
        parameter_gradient.fill(S::ZERO);
        let (weight_gradient, bias_gradient) = parameter_gradient.split_at_mut(width);
        let rows = passed
            .output_gradient
            .chunks_exact(width)
            .zip(normalized.chunks_exact(width));
        for (dy, normalized) in rows {
            for ((sum, dy), n) in weight_gradient.iter_mut().zip(dy).zip(normalized) {
                *sum += *dy * *n;
            }
            add(bias_gradient, dy);
        }
        let Some(input_gradient) = input_gradient else { return };
        let weight = &passed.parameters[..width];
        let rows = passed
            .output_gradient
            .chunks_exact(width)
            .zip(normalized.chunks_exact(width));
        for (((dy, normalized), scale), gradient) in rows.zip(scales).zip(input_gradient.chunks_exact_mut(width)) {
            for ((dn, dy), weight) in gradient.iter_mut().zip(dy).zip(weight) {
                *dn = *dy * *weight;
            }
            backward(normalized, *scale, gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit};

    #[test]
    fn its_gradients_are_the_central_differences() {
        for shape in [&[7][..], &[3, 5], &[2, 3, 4]] {
            check(&fit(LayerNorm {}, shape), shape.iter().product(), 3);
        }
    }
}
