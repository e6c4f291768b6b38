use super::{Keys, Memory, Passed, Passes, Sizes};
use crate::fnv1a::Fnv1a;
use crate::scalar::Scalar;
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Y = X · Φ(X), where Φ is the normal distribution's, like `torch.nn.GELU` (Hendrycks and Gimpel, arXiv 1606.08415); of any
/// shape. Not the approximation by a hyperbolic tangent.
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
}

/// Φ(x) = (1 + erf(x / √2)) / 2.
fn normal_distribution<S: Scalar>(x: S) -> S {
    S::from_f64(0.5) * (S::ONE + (x * S::from_f64(FRAC_1_SQRT_2)).erf())
}

impl<S: Scalar> Passes<S> for GeluLayer {
    fn forward(&self, _: &[S], input: &[S], output: &mut [S], _: Memory<'_, S>) {
        for (y, x) in output.iter_mut().zip(input) {
            *y = *x * normal_distribution(*x);
        }
    }

    /// dX = dY · (Φ(X) + X · φ(X)), where φ is the normal density.
    fn backward(&self, passed: Passed<'_, S>, _: &mut [S], input_gradient: Option<&mut [S]>, _: Memory<'_, S>) {
        let Some(input_gradient) = input_gradient else { return };
        let scale = S::from_f64(1.0 / (2.0 * PI).sqrt());
        for ((dx, dy), x) in input_gradient.iter_mut().zip(passed.output_gradient).zip(passed.input) {
            let density = scale * (S::from_f64(-0.5) * *x * *x).exp();
            *dx = *dy * (normal_distribution(*x) + *x * density);
        }
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
