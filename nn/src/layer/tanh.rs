use super::activation;
use super::{Keys, Memory, Passed, Passes, Sizes};
use crate::fnv1a::Fnv1a;
use crate::kernel::elementwise::map;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{flat, flat_mut};
use ndarray::{ArrayView4, ArrayViewMut4};
use serde::{Deserialize, Serialize};

/// Y = tanh(X), like `torch.nn.Tanh`; of any shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tanh {}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct TanhLayer {
    shape: Vec<usize>,
}

impl Keys for Tanh {
    type Layer = TanhLayer;

    fn fit(&self, incoming: &[usize], _: &str) -> Result<TanhLayer, String> {
        let shape = incoming.to_vec();
        Ok(TanhLayer { shape })
    }

    fn hash(&self, _: &mut Fnv1a) {}
}

impl Sizes for TanhLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.shape.clone()
    }
}

impl<S: Scalar> Passes<S> for TanhLayer {
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, _: Memory<'_, S>) {
        map([flat(input)], [flat_mut(output)], |[x]| [S::tanh_lanes(x)]);
    }

    /// dX = dY · (1 − Y²).
    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        _: Memory<'_, S>,
    ) {
        activation::backward(passed, input_gradient, |dy, y| dy * (S::ONE - y * y));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit, forward};

    #[test]
    fn its_gradient_is_the_central_differences() {
        check(&fit(Tanh {}, &[3, 4, 5]), 60, 3);
    }

    #[test]
    fn it_stays_within_one_and_keeps_what_is_not_a_number() {
        let output = forward(&fit(Tanh {}, &[4]), &[], &[f32::NAN, -100.0, 0.0, 100.0], 1);
        assert!(output[0].is_nan() && output[1..] == [-1.0, 0.0, 1.0]);
    }
}
