use super::{Keys, Memory, Needs, Passed, Passes, Sizes};
use crate::fnv1a::Fnv1a;
use crate::kernel::elementwise::map;
use crate::kernel::lanes::Lanes;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{flat, flat_mut};
use ndarray::{ArrayView4, ArrayViewMut4};
use serde::{Deserialize, Serialize};

/// Y = X · Φ(X), where Φ is the normal distribution's, like `torch.nn.GELU` (Hendrycks and Gimpel, arXiv 1606.08415);
/// of any shape. Not the approximation by a hyperbolic tangent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gelu {}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct GeluLayer {
    shape: Vec<usize>,
}

impl Keys for Gelu {
    type Layer = GeluLayer;

    fn fit(&self, incoming: &[usize], _: &str) -> Result<GeluLayer, String> {
        let shape = incoming.to_vec();
        Ok(GeluLayer { shape })
    }

    fn hash(&self, _: &mut Fnv1a) {}
}

impl Sizes for GeluLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.shape.clone()
    }

    /// The slope Φ(X) + X · φ(X), which has most of its work in common with Y.
    fn needs(&self) -> Needs {
        Needs {
            numbers: self.shape.iter().product(),
            ..Needs::default()
        }
    }
}

impl<S: Scalar> Passes<S> for GeluLayer {
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, memory: Memory<'_, S>) {
        map([flat(input)], [flat_mut(output), memory.numbers], |[x]| {
            let (distribution, density) = S::normal_lanes(x);
            [x.mul(distribution), distribution.add(x.mul(density))]
        });
    }

    /// dX = dY · (Φ(X) + X · φ(X)), where φ is the normal density.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let Some(input_gradient) = input_gradient else { return };
        map(
            [flat(passed.output_gradient), memory.numbers],
            [flat_mut(input_gradient)],
            |[dy, slope]| [dy.mul(slope)],
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit, forward};

    #[test]
    fn its_gradient_is_the_central_differences() {
        check(&fit(Gelu {}, &[3, 4, 5]), 60, 3);
    }

    #[test]
    fn its_values_are_pytorchs() {
        let output = forward(&fit(Gelu {}, &[5]), &[], &[f64::NAN, -1.0, 0.0, 0.5, 3.0], 1);
        let expected = [-0.158_655_253_931_457, 0.0, 0.345_731_230_637_007, 2.995_950_305_905_11];
        assert!(output[0].is_nan());
        for (ours, theirs) in output[1..].iter().zip(expected) {
            assert!((ours - theirs).abs() < 1e-12, "{ours} for {theirs}");
        }
    }
}
