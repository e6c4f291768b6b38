use super::{Keys, Memory, Passed, Passes, Sizes, Tensor, shape_text};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{flat, flat_mut, rows, tensor, tensor_mut};
use crate::parameters::Initial;
use crate::whole::whole;
use ndarray::{ArrayView4, ArrayViewMut4};
use serde::{Deserialize, Serialize};

/// The most tokens: as far as an `f32`, which is what inputs are, counts without gaps.
const MAX_TOKENS: usize = 1 << 24;

/// A row of numbers for each token, like `torch.nn.Embedding`: for each position p, Yₚ is row Xₚ of W.
///
/// X: (batch, positions), whole numbers from 0 to below `tokens`, W: (tokens, width), Y: (batch, positions, width).
///
/// The model's first layer, and nowhere else: no layer gives tokens, and there is no gradient by them. Where data comes
/// in, tokens are checked to be below [`Model::tokens`](crate::Model::tokens).
///
/// It starts from uniform numbers with the standard deviation of GPT-2's embeddings, 0.02 (Radford et al., "Language
/// Models are Unsupervised Multitask Learners", 2019; the number is in the code published with it). PyTorch's normal
/// numbers of deviation 1 are as large as what a normalisation gives: a transformer's blocks then add little to them
/// for long, and where the same weight gives the logits too, these start far too large.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedding {
    /// How many tokens there are.
    #[serde(deserialize_with = "whole")]
    pub tokens: usize,
    /// How many numbers each becomes.
    #[serde(deserialize_with = "whole")]
    pub width: usize,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct EmbeddingLayer {
    positions: usize,
    tokens: usize,
    width: usize,
}

impl Keys for Embedding {
    type Layer = EmbeddingLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<EmbeddingLayer, String> {
        let Embedding { tokens, width } = *self;
        let [positions] = *incoming else {
            return Err(format!(
                "expects a vector of tokens, but {from} gives {}; set the model's input to [positions]",
                shape_text(incoming)
            ));
        };
        for (name, size) in [("tokens", tokens), ("width", width)] {
            if size == 0 {
                return Err(format!("has {name} = 0; set {name} to 1 or more"));
            }
        }
        if tokens > MAX_TOKENS {
            return Err(format!("has tokens = {tokens}; set tokens to {MAX_TOKENS} or less"));
        }
        Ok(EmbeddingLayer {
            positions,
            tokens,
            width,
        })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.word(self.tokens);
        hash.word(self.width);
    }
}

impl Sizes for EmbeddingLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.positions, self.width]
    }

    fn tensors(&self) -> Vec<Tensor> {
        vec![Tensor {
            name: "weight".to_owned(),
            shape: vec![self.tokens, self.width],
            initial: Initial::Embedding,
        }]
    }

    fn tokens(&self) -> Option<usize> {
        Some(self.tokens)
    }
}

/// Which row of the weight is a token's. The model has checked that it is one.
fn row<S: Scalar>(token: S) -> usize {
    token.to_f64() as usize
}

impl<S: Scalar> Passes<S> for EmbeddingLayer {
    fn forward(&self, weight: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, _: Memory<'_, S>) {
        let weight = tensor(weight, (self.tokens, self.width));
        for (mut y, token) in rows(output, self.width).rows_mut().into_iter().zip(flat(input)) {
            y.assign(&weight.row(row(*token)));
        }
    }

    /// Each dY is added to its token's dW, in the order of the positions. There is no gradient by tokens: where one is
    /// wanted it is zero.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        _: Memory<'_, S>,
    ) {
        let mut dw = tensor_mut(parameter_gradient, (self.tokens, self.width));
        dw.fill(S::ZERO);
        let dy = rows(passed.output_gradient, self.width);
        for (dy, token) in dy.rows().into_iter().zip(flat(passed.input)) {
            let mut dw = dw.row_mut(row(*token));
            dw += &dy;
        }
        if let Some(input_gradient) = input_gradient {
            flat_mut(input_gradient).fill(S::ZERO);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{backward, central_differences, fit, forward, numbers};

    const TOKENS: [f64; 8] = [3.0, 0.0, 3.0, 5.0, 4.0, 3.0, 0.0, 1.0];

    #[test]
    fn its_gradient_is_the_central_differences_and_tokens_have_none() {
        let layer = fit(Embedding { tokens: 6, width: 5 }, &[4]);
        let (weight, outer) = (numbers(30, 1), numbers(40, 500));
        let (gradient, by_input) = backward(&layer, &weight, &TOKENS, &outer, 2);
        central_differences(&weight, &gradient, |weight| {
            let output = forward(&layer, weight, &TOKENS, 2);
            output.iter().zip(&outer).map(|(y, outer)| y * outer).sum()
        });
        assert_eq!(by_input, [0.0; 8]);
    }

    #[test]
    fn each_position_gives_its_tokens_row() {
        let layer = fit(Embedding { tokens: 3, width: 2 }, &[4]);
        let output = forward(
            &layer,
            &[0.0_f32, 1.0, 10.0, 11.0, 20.0, 21.0],
            &[2.0, 0.0, 2.0, 1.0],
            1,
        );
        assert_eq!(output, [20.0, 21.0, 0.0, 1.0, 20.0, 21.0, 10.0, 11.0]);
        assert_eq!((layer.output_shape(), layer.tokens()), (vec![4, 2], Some(3)));
    }

    #[test]
    fn what_is_no_vector_of_tokens_and_more_than_can_be_named_are_refused() {
        let misfit = |tokens, width, incoming: &[usize]| {
            Layer::new(&Embedding { tokens, width }.into(), incoming, "the model's input").unwrap_err()
        };
        assert_eq!(
            misfit(65, 128, &[1, 8, 8]),
            "expects a vector of tokens, but the model's input gives (1, 8, 8); set the model's input to [positions]"
        );
        assert!(misfit(0, 128, &[8]).contains("set tokens to 1 or more"));
        assert!(misfit(65, 0, &[8]).contains("set width to 1 or more"));
        assert_eq!(
            misfit((1 << 24) + 1, 1, &[8]),
            "has tokens = 16777217; set tokens to 16777216 or less"
        );
        assert!(misfit(65, usize::MAX, &[8]).contains("make it smaller"));
    }
}
