//! Central differences in `f64`: what every layer's backward pass is checked against.

use super::{Layer, LayerSpec, Memory, Passed, count};
use crate::kernel::Packing;
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{tensor, tensor_mut};
use crate::random::{Generator, Purpose};
use crate::shape::of_batch;
use std::ops::Deref;

/// How far a number is moved to either side: small against what tells two [`numbers`] apart, large against rounding.
const STEP: f64 = 1e-6;

/// Numbers between −1 and 1, no two of them nearer to each other or to zero than many steps, so that no maximum
/// changes hands.
pub(crate) fn numbers(count: usize, seed: usize) -> Vec<f64> {
    let prime = 100_003;
    assert!(count < prime / 2);
    (1..=count)
        .map(|index| ((index + seed) * 31_607 % prime) as f64 / prime as f64 * 2.0 - 1.0)
        .collect()
}

/// What every buffer is filled with at first: a layer that forgets to overwrite it fails the check.
fn not_a_number<S: Scalar>() -> S {
    (S::ZERO - S::ONE).ln()
}

/// A layer, and the shape of the samples that it was fitted to.
pub(crate) struct Fitted {
    layer: Layer,
    incoming: Vec<usize>,
}

impl Deref for Fitted {
    type Target = Layer;

    fn deref(&self) -> &Layer {
        &self.layer
    }
}

/// A layer for what comes in.
pub(crate) fn fit(keys: impl Into<LayerSpec>, incoming: &[usize]) -> Fitted {
    Fitted {
        layer: Layer::new(&keys.into(), incoming, "the input").unwrap(),
        incoming: incoming.to_vec(),
    }
}

/// Memory of a layer, filled with what must not matter.
struct Buffers<S> {
    indices: Vec<u32>,
    numbers: Vec<S>,
    room: Vec<S>,
    packing: Packing<S>,
    random: Generator,
}

impl<S: Scalar> Buffers<S> {
    fn new(layer: &Layer, batch: usize) -> Self {
        let needs = layer.needs();
        Buffers {
            indices: vec![u32::MAX; batch * needs.indices],
            numbers: vec![not_a_number(); batch * needs.numbers],
            room: vec![not_a_number(); needs.room],
            packing: Packing::new(),
            random: Generator::of_run(1, Purpose::Dropout, 0),
        }
    }

    fn memory(&mut self) -> Memory<'_, S> {
        Memory {
            indices: &mut self.indices,
            numbers: &mut self.numbers,
            room: &mut self.room,
            packing: &mut self.packing,
            random: Some(&mut self.random),
        }
    }
}

fn forward_in<S: Scalar>(
    layer: &Fitted,
    parameters: &[S],
    input: &[S],
    batch: usize,
    buffers: &mut Buffers<S>,
) -> Vec<S> {
    let mut output = vec![not_a_number(); batch * count(&layer.output_shape()).unwrap()];
    let y = tensor_mut(&mut output, of_batch(batch, &layer.output_shape()));
    let x = tensor(input, of_batch(batch, &layer.incoming));
    layer.passes().forward(parameters, x, y, buffers.memory());
    output
}

/// What comes out of a layer.
pub(crate) fn forward<S: Scalar>(layer: &Fitted, parameters: &[S], input: &[S], batch: usize) -> Vec<S> {
    forward_in(layer, parameters, input, batch, &mut Buffers::new(layer, batch))
}

/// The gradients by parameters and input, given that by the output.
pub(crate) fn backward<S: Scalar>(
    layer: &Fitted,
    parameters: &[S],
    input: &[S],
    output_gradient: &[S],
    batch: usize,
) -> (Vec<S>, Vec<S>) {
    let mut buffers = Buffers::new(layer, batch);
    let output = forward_in(layer, parameters, input, batch, &mut buffers);
    let mut parameter_gradient = vec![not_a_number(); parameters.len()];
    let mut input_gradient = vec![not_a_number(); input.len()];
    let (incoming, outgoing) = (of_batch(batch, &layer.incoming), of_batch(batch, &layer.output_shape()));
    let passed = Passed {
        parameters,
        input: tensor(input, incoming),
        output: tensor(&output, outgoing),
        output_gradient: tensor(output_gradient, outgoing),
    };
    let by_input = tensor_mut(&mut input_gradient, incoming);
    layer
        .passes()
        .backward(passed, &mut parameter_gradient, Some(by_input), buffers.memory());
    (parameter_gradient, input_gradient)
}

/// Checks a layer's gradients by parameters and input, for the sum of its outputs, each times a number of its own.
pub(crate) fn check(layer: &Fitted, inputs: usize, batch: usize) {
    let parameters = layer.tensors().iter().map(|tensor| count(&tensor.shape).unwrap()).sum();
    let (parameters, input) = (numbers(parameters, 1), numbers(batch * inputs, 70));
    let weights = numbers(batch * count(&layer.output_shape()).unwrap(), 500);
    let value = |parameters: &[f64], input: &[f64]| -> f64 {
        forward(layer, parameters, input, batch)
            .iter()
            .zip(&weights)
            .map(|(output, weight)| output * weight)
            .sum()
    };
    let (parameter_gradient, input_gradient) = backward(layer, &parameters, &input, &weights, batch);
    central_differences(&parameters, &parameter_gradient, |parameters| value(parameters, &input));
    central_differences(&input, &input_gradient, |input| value(&parameters, input));
}

/// Checks that the gradient of a layer's last bias is as exact a sum over very many rows as over a few: without its
/// blocks an `f32` comes to 2.5 thousandths less.
pub(crate) fn check_many_rows(layer: &Fitted, batch: usize) {
    let parameters: usize = layer.tensors().iter().map(|tensor| count(&tensor.shape).unwrap()).sum();
    let outputs = batch * count(&layer.output_shape()).unwrap();
    let inputs = batch * count(&layer.incoming).unwrap();
    let (gradient, _) = backward(
        layer,
        &vec![0.5_f32; parameters],
        &vec![0.5; inputs],
        &vec![0.1; outputs],
        batch,
    );
    let bias = *layer.tensors().last().unwrap().shape.last().unwrap();
    let expected = f64::from(0.1_f32) * outputs as f64 / bias as f64;
    let sum = f64::from(gradient[parameters - 1]);
    assert!((sum / expected - 1.0).abs() < 1e-4, "{sum} for {expected}");
}

/// Compares a gradient with the central differences of the function that it is said to be of.
pub(crate) fn central_differences(at: &[f64], gradient: &[f64], function: impl Fn(&[f64]) -> f64) {
    assert_eq!(at.len(), gradient.len());
    let mut moved = at.to_vec();
    for (index, gradient) in gradient.iter().enumerate() {
        moved[index] = at[index] + STEP;
        let above = function(&moved);
        moved[index] = at[index] - STEP;
        let below = function(&moved);
        moved[index] = at[index];
        let difference = (above - below) / (2.0 * STEP);
        let error = (difference - gradient).abs();
        assert!(
            error <= 1e-7 * difference.abs().max(1.0),
            "number {index}: {gradient}, but differences {difference}"
        );
    }
}
