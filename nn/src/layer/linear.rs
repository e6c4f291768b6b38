use super::{Keys, Memory, Passed, Passes, Sizes, Tensor, shape_text};
use crate::fnv1a::Fnv1a;
use crate::kernel::{Update, product};
use crate::lanes::add;
use crate::scalar::Scalar;
use crate::tensor::{matrix, matrix_mut};
use serde::{Deserialize, Serialize};

/// Fully connected, like `torch.nn.Linear`: Y = X·Wᵀ + b.
///
/// X: (batch, inputs), W: (outputs, inputs), b: (outputs), Y: (batch, outputs); row-major.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// How many numbers come out.
    pub outputs: usize,
    /// How many come in, if the run file wants it checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<usize>,
}

/// Fitted to what comes in.
#[derive(Clone, Debug)]
pub(crate) struct LinearLayer {
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
        let [given] = *incoming else {
            return Err(format!(
                "expects a vector, but {from} gives {}; put a flatten layer before it",
                shape_text(incoming)
            ));
        };
        if let Some(expected) = inputs.filter(|expected| *expected != given) {
            return Err(format!(
                "expects {expected} inputs, but {from} gives {given}; set inputs = {given}"
            ));
        }
        if outputs == 0 {
            return Err("has outputs = 0; set outputs to 1 or more".into());
        }
        Ok(LinearLayer { inputs: given, outputs })
    }

    fn hash(&self, hash: &mut Fnv1a) {
        hash.word(self.outputs);
    }
}

impl Sizes for LinearLayer {
    fn output_shape(&self) -> Vec<usize> {
        vec![self.outputs]
    }

    fn tensors(&self) -> Vec<Tensor> {
        Tensor::weight_and_bias(vec![self.outputs, self.inputs])
    }
}

impl LinearLayer {
    fn split<'a, S>(&self, parameters: &'a [S]) -> (&'a [S], &'a [S]) {
        parameters.split_at(self.outputs * self.inputs)
    }
}

impl<S: Scalar> Passes<S> for LinearLayer {
    fn forward(&self, parameters: &[S], input: &[S], output: &mut [S], memory: Memory<'_, S>) {
        let (weight, bias) = self.split(parameters);
        let batch = input.len() / self.inputs;
        for row in output.chunks_exact_mut(self.outputs) {
            row.copy_from_slice(bias);
        }
        let x = matrix(input, batch, self.inputs);
        let w = matrix(weight, self.outputs, self.inputs);
        product(
            x,
            w.reversed_axes(),
            matrix_mut(output, batch, self.outputs),
            Update::Add,
            memory.packing,
        );
    }

    /// dW = dYᵀ·X, db = Σ over the batch of dY, dX = dY·W.
    fn backward(
        &self,
        passed: Passed<'_, S>,
        parameter_gradient: &mut [S],
        input_gradient: Option<&mut [S]>,
        memory: Memory<'_, S>,
    ) {
        let (weight, _) = self.split(passed.parameters);
        let (weight_gradient, bias_gradient) = parameter_gradient.split_at_mut(self.outputs * self.inputs);
        let batch = passed.input.len() / self.inputs;
        let x = matrix(passed.input, batch, self.inputs);
        let dy = matrix(passed.output_gradient, batch, self.outputs);
        let dw = matrix_mut(weight_gradient, self.outputs, self.inputs);
        product(dy.reversed_axes(), x, dw, Update::Overwrite, memory.packing);
        bias_gradient.fill(S::ZERO);
        for row in passed.output_gradient.chunks_exact(self.outputs) {
            add(bias_gradient, row);
        }
        if let Some(input_gradient) = input_gradient {
            let w = matrix(weight, self.outputs, self.inputs);
            let dx = matrix_mut(input_gradient, batch, self.inputs);
            product(dy, w, dx, Update::Overwrite, memory.packing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::gradient_check::{check, fit};

    #[test]
    fn its_gradients_are_the_central_differences() {
        for (inputs, outputs, batch) in [(1, 1, 1), (3, 2, 4), (13, 9, 5), (8, 16, 2)] {
            check(&fit(Linear::new(outputs), &[inputs]), inputs, batch);
        }
    }
}
