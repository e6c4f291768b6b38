use super::{Memory, Passed, Passes};
use crate::scalar::Scalar;

/// Takes (batch, channels, height, width) for (batch, elements), like `torch.nn.Flatten`.
///
/// Samples lie in one piece in either shape, so both passes only copy: too little of a step to treat it specially.
#[derive(Clone, Debug)]
pub(crate) struct Flatten {
    pub(crate) elements: usize,
}

impl Flatten {
    pub(crate) fn new(incoming: &[usize]) -> Flatten {
        Flatten {
            elements: incoming.iter().product(),
        }
    }
}

impl<S: Scalar> Passes<S> for Flatten {
    fn forward(&self, _: &[S], input: &[S], output: &mut [S], _: Memory<'_, S>) {
        output.copy_from_slice(input);
    }

    fn backward(&self, passed: Passed<'_, S>, _: &mut [S], input_gradient: Option<&mut [S]>, _: Memory<'_, S>) {
        if let Some(input_gradient) = input_gradient {
            input_gradient.copy_from_slice(passed.output_gradient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::check;

    #[test]
    fn its_gradient_is_the_central_differences() {
        let layer = Flatten::new(&[2, 3, 4]);
        assert_eq!(layer.elements, 24);
        check(&Layer::Flatten(layer), 24, 2);
    }
}
