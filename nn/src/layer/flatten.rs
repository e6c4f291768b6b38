use super::{Keys, Memory, Passed, Passes, Sizes};
use crate::fnv1a::Fnv1a;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{flat, flat_mut};
use ndarray::{ArrayView4, ArrayViewMut4};
use serde::{Deserialize, Serialize};

/// Takes (batch, channels, height, width), or any other shape, for (batch, elements), like `torch.nn.Flatten`.
///
/// Samples lie in one piece in either shape, so both passes only copy: too little of a step to treat it specially.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flatten {}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct FlattenLayer {
    elements: usize,
}

impl Keys for Flatten {
    type Layer = FlattenLayer;

    fn fit(&self, incoming: &[usize], _: &str) -> Result<FlattenLayer, String> {
        let elements = incoming.iter().product();
        Ok(FlattenLayer { elements })
    }

    fn hash(&self, _: &mut Fnv1a) {}
}

impl Sizes for FlattenLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.elements]
    }
}

impl<S: Scalar> Passes<S> for FlattenLayer {
    fn forward(&self, _: &[S], input: ArrayView4<'_, S>, output: ArrayViewMut4<'_, S>, _: Memory<'_, S>) {
        flat_mut(output).copy_from_slice(flat(input));
    }

    fn backward(
        &self,
        passed: Passed<'_, S>,
        _: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        _: Memory<'_, S>,
    ) {
        if let Some(input_gradient) = input_gradient {
            flat_mut(input_gradient).copy_from_slice(flat(passed.output_gradient));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit};

    #[test]
    fn its_gradient_is_the_central_differences() {
        let layer = fit(Flatten {}, &[2, 3, 4]);
        assert_eq!(layer.output_shape(), [24]);
        check(&layer, 24, 2);
    }
}
