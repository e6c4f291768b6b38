use super::affine;
use super::{Keys, Memory, Passed, Passes, Sizes, Tensor, shape_text};
use crate::fnv1a::Fnv1a;
use crate::kernel::Update;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{rows, take, take_mut};
use crate::whole::{whole, whole_if_set};
use ndarray::{ArrayView4, ArrayViewMut4};
use serde::{Deserialize, Serialize};

/// Fully connected, like `torch.nn.Linear`: Y = X·Wᵀ + b.
///
/// X: (batch, inputs), W: (outputs, inputs), b: (outputs), Y: (batch, outputs); row-major. Of a sequence, X: (batch,
/// positions, inputs), it takes each position by itself: Y: (batch, positions, outputs).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// How many numbers come out.
    #[serde(deserialize_with = "whole")]
    pub outputs: usize,
    /// How many come in, if the run file wants it checked.
    #[serde(default, deserialize_with = "whole_if_set", skip_serializing_if = "Option::is_none")]
    pub inputs: Option<usize>,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct LinearLayer {
    /// Of a sequence.
    positions: Option<usize>,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    /// With what a run file may leave out.
    pub fn new(outputs: usize) -> Linear {
        Linear { outputs, inputs: None }
    }
}

impl Keys for Linear {
    type Layer = LinearLayer;

    fn fit(&self, incoming: &[usize], from: &str) -> Result<LinearLayer, String> {
        let Linear { outputs, inputs } = *self;
        let (positions, given) = match *incoming {
            [given] => (None, given),
            [positions, given] => (Some(positions), given),
            _ => {
                return Err(format!(
                    "expects a vector or a sequence (positions, width), but {from} gives {}; put a flatten layer \
                     before it",
                    shape_text(incoming)
                ));
            }
        };
        if let Some(expected) = inputs.filter(|expected| *expected != given) {
            return Err(format!(
                "expects {expected} inputs, but {from} gives {given}; set inputs = {given}"
            ));
        }
        if outputs == 0 {
            return Err("has outputs = 0; set outputs to 1 or more".into());
        }
        Ok(LinearLayer {
            positions,
            inputs: given,
            outputs,
        })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.word(self.outputs);
    }
}

impl Sizes for LinearLayer {
    fn output_shape(&self) -> Vec<usize> {
        self.positions.into_iter().chain([self.outputs]).collect()
    }

    fn tensors(&self) -> Vec<Tensor> {
        Tensor::weight_and_bias(vec![self.outputs, self.inputs])
    }
}

impl<S: Scalar> Passes<S> for LinearLayer {
    fn forward(
        &self,
        mut parameters: &[S],
        input: ArrayView4<'_, S>,
        output: ArrayViewMut4<'_, S>,
        memory: Memory<'_, S>,
    ) {
        let weight = take(&mut parameters, (self.outputs, self.inputs));
        let bias = take(&mut parameters, self.outputs);
        let (x, y) = (rows(input, self.inputs), rows(output, self.outputs));
        affine::forward(x, weight, bias, y, memory.packing);
    }

    fn backward(
        &self,
        passed: Passed<'_, S>,
        mut parameter_gradient: &mut [S],
        input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let Passed {
            mut parameters,
            input,
            output_gradient,
            ..
        } = passed;
        let weight = take(&mut parameters, (self.outputs, self.inputs));
        let dw = take_mut(&mut parameter_gradient, (self.outputs, self.inputs));
        let db = take_mut(&mut parameter_gradient, self.outputs);
        let (x, dy) = (rows(input, self.inputs), rows(output_gradient, self.outputs));
        affine::by_parameters(x, dy, dw, db, memory.packing);
        if let Some(dx) = input_gradient {
            let dx = rows(dx, self.inputs);
            affine::by_input(weight, dy, dx, Update::Overwrite, memory.packing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Layer;
    use crate::layer::gradient_check::{check, fit, forward};

    #[test]
    fn its_gradients_are_the_central_differences() {
        for (inputs, outputs, batch) in [(1, 1, 1), (3, 2, 4), (13, 9, 5), (8, 16, 2)] {
            check(&fit(Linear::new(outputs), &[inputs]), inputs, batch);
        }
        check(&fit(Linear::new(4), &[5, 3]), 15, 2);
    }

    #[test]
    fn of_a_sequence_it_takes_each_position_by_itself() {
        let layer = fit(Linear::new(1), &[3, 2]);
        assert_eq!(layer.output_shape(), [3, 1]);
        let output = forward(&layer, &[1.0_f32, 10.0, 0.5], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1);
        assert_eq!(output, [21.5, 43.5, 65.5]);
    }

    #[test]
    fn inputs_are_those_of_one_position() {
        let keys = |inputs| Linear {
            inputs: Some(inputs),
            ..Linear::new(4)
        };
        assert!(Layer::new(&keys(3).into(), &[5, 3], "patchify").is_ok());
        assert_eq!(
            Layer::new(&keys(15).into(), &[5, 3], "patchify").unwrap_err(),
            "expects 15 inputs, but patchify gives 3; set inputs = 3"
        );
    }
}
