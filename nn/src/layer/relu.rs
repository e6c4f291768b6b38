use super::activation;
use super::{Keys, Memory, Passed, Passes, Sizes};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::OnePiece;
use ndarray::{ArrayView4, ArrayViewMut4, Zip};
use serde::{Deserialize, Serialize};
use std::hint::select_unpredictable;

/// Y = max(X, 0), like `torch.nn.ReLU`; of any shape.
///
/// What is not a number stays none: a broken gradient must be seen to be refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct ReluLayer {
    shape: Vec<usize>,
}

impl Keys for Relu {
    type Layer = ReluLayer;

    fn fit(&self, incoming: &[usize], _: &str) -> Result<ReluLayer, String> {
        let shape = incoming.to_vec();
        Ok(ReluLayer { shape })
    }

    fn hash(&self, _: &mut Fnv1a) {}
}

impl Sizes for ReluLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.shape.clone()
    }
}

impl<S: Scalar> Passes<S> for ReluLayer {
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, _: Memory<'_, S>) {
        Zip::from(output.line())
            .and(input.line())
            .for_each(|y, x| *y = if *x < S::ZERO { S::ZERO } else { *x });
    }

    /// dX = dY where Y > 0, otherwise 0.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        _: Memory<'_, S>,
    ) {
        // A select, not a branch around a load: only then does the loop run in vectors.
        activation::backward(passed, input_gradient, |dy, y| {
            select_unpredictable(y > S::ZERO, dy, S::ZERO)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit, forward};

    #[test]
    fn its_gradient_is_the_central_differences() {
        check(&fit(Relu {}, &[3, 4, 5]), 60, 3);
    }

    #[test]
    fn what_is_not_a_number_stays_none() {
        let output = forward(&fit(Relu {}, &[3]), &[], &[f32::NAN, -1.0, 2.0], 1);
        assert!(output[0].is_nan() && output[1..] == [0.0, 2.0]);
    }
}
