use super::sequence::sequence;
use super::{Keys, Memory, Passed, Passes, Sizes, Tensor};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::sums::sum_rows;
use crate::kernel::tensor::{flat, flat_mut, rows, tensor};
use crate::parameters::Initial;
use ndarray::{ArrayView4, ArrayViewMut4, Axis, Zip};
use serde::{Deserialize, Serialize};

/// Adds to each position a row of numbers of its own, so that layers that treat all positions alike can tell them
/// apart: Yₚ = Xₚ + Wₚ, the learned position embeddings of Vaswani et al., arXiv 1706.03762, table 3, as GPT-2 has
/// them.
///
/// X, Y: (batch, positions, width), W: (positions, width), which starts as an [`Embedding`](super::Embedding)'s. In
/// PyTorch it is an `Embedding` of the numbers of the positions, added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PositionalEmbedding {}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct PositionalEmbeddingLayer {
    shape: [usize; 2],
}

impl Keys for PositionalEmbedding {
    type Layer = PositionalEmbeddingLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<PositionalEmbeddingLayer, String> {
        let shape = sequence(incoming, from)?;
        Ok(PositionalEmbeddingLayer { shape })
    }

    fn hash(&self, _: &mut Fnv1a) {}
}

impl Sizes for PositionalEmbeddingLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.shape.to_vec()
    }

    fn tensors(&self) -> Vec<Tensor> {
        vec![Tensor {
            name: "weight".to_owned(),
            shape: self.shape.to_vec(),
            initial: Initial::Embedding,
        }]
    }
}

impl<S: Scalar> Passes<S> for PositionalEmbeddingLayer {
    fn forward(&self, weight: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, _: Memory<'_, S>) {
        let weight = tensor(weight, self.shape);
        let (mut y, x) = (output.index_axis_move(Axis(1), 0), input.index_axis_move(Axis(1), 0));
        for (y, x) in y.outer_iter_mut().zip(x.outer_iter()) {
            Zip::from(y).and(x).and(weight).for_each(|y, x, w| *y = *x + *w);
        }
    }

    /// dW = Σ over the batch of dY, dX = dY.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        _: Memory<'_, S>,
    ) {
        let dy = rows(passed.output_gradient, parameter_gradient.len());
        sum_rows(dy, parameter_gradient.into());
        if let Some(input_gradient) = input_gradient {
            flat_mut(input_gradient).copy_from_slice(flat(dy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{check, fit};

    #[test]
    fn its_gradients_are_the_central_differences() {
        check(&fit(PositionalEmbedding {}, &[4, 5]), 20, 3);
    }

    #[test]
    fn what_is_no_sequence_is_refused() {
        assert_eq!(
            Layer::new(&PositionalEmbedding {}.into(), &[3, 8, 8], "conv2d").unwrap_err(),
            "expects a sequence (positions, width), but conv2d gives (3, 8, 8); put an embedding layer before it, or \
             a patchify layer where the input is an image"
        );
    }
}
