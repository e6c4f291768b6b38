//! Layers one after the other: a whole model but for its loss, and what a residual layer goes around.

mod evaluation;

use std::ops::Range;

use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::{tensor, tensor_mut};
use crate::layer::{Layer, LayerSpec, Memory, Needs, Passed, Tensor, count, shape_text};
use crate::parameters::MAX_PARAMETERS;
use crate::shape::of_batch;
use ndarray::{ArrayView4, ArrayViewMut4};

/// The most layers of a sequence: far beyond what a browser trains, and few enough that a description stays small.
pub(crate) const MAX_LAYERS: usize = 1024;

/// Why a layer that takes tokens can only be a model's first.
pub(crate) const NO_TOKENS: &str =
    "takes tokens, which only a model's input gives; make it the model's first layer, not in a residual one";

/// Which layer of a sequence doesn't fit, and why.
pub(crate) struct Misfit {
    /// Counted from 0.
    pub(crate) place: usize,
    pub(crate) problem: String,
}

/// Layers that are known to fit each other.
#[derive(Clone, Debug)]
pub(crate) struct Sequential {
    layers: Vec<Link>,
    /// The shape of one sample.
    input_shape: Vec<usize>,
    /// How many numbers it has.
    inputs: usize,
    parameter_count: usize,
    needs: Needs,
    /// The most numbers that come out of one layer for a sample.
    widest: usize,
}

/// A layer of the sequence.
#[derive(Clone, Debug)]
struct Link {
    layer: Layer,
    /// Its part of the vector of parameters.
    range: Range<usize>,
    /// The shape of one sample that comes out.
    output_shape: Vec<usize>,
    /// How many numbers it has.
    outputs: usize,
    needs: Needs,
}

impl Sequential {
    /// Fits layers to each other and to what comes in from the layer (or input) called `from`; and the tensors of their
    /// parameters, in the vector's order, named as `torch.nn.Sequential` names them.
    pub(crate) fn new(
        specs: &[LayerSpec],
        incoming: &[usize],
        from: &str,
    ) -> Result<(Sequential, Vec<Tensor>), Misfit> {
        let (mut layers, mut tensors) = (Vec::new(), Vec::new());
        let (mut shape, mut from, mut end) = (incoming.to_vec(), from, 0);
        for (place, spec) in specs.iter().enumerate() {
            let misfit = |problem| Misfit { place, problem };
            let layer = Layer::new(spec, &shape, from).map_err(misfit)?;
            if place > 0 && layer.tokens().is_some() {
                return Err(misfit(NO_TOKENS.into()));
            }
            let start = end;
            for tensor in layer.tensors() {
                let after = count(&tensor.shape).and_then(|size| size.checked_add(end));
                let Some(after) = after.filter(|after| *after <= MAX_PARAMETERS) else {
                    return Err(misfit(format!(
                        "brings the model above {MAX_PARAMETERS} parameters with its {} of {}; make it or the layers \
                         before it smaller",
                        tensor.name,
                        shape_text(&tensor.shape)
                    )));
                };
                end = after;
                tensors.push(Tensor {
                    name: format!("{place}.{}", tensor.name),
                    ..tensor
                });
            }
            (shape, from) = (layer.output_shape(), spec.kind());
            layers.push(Link {
                range: start..end,
                output_shape: shape.clone(),
                outputs: shape.iter().product(),
                needs: layer.needs(),
                layer,
            });
        }
        let widest = layers.iter().map(|link| link.outputs).max().unwrap_or(0);
        let sum = |needed: fn(&Link) -> usize| layers.iter().map(needed).fold(0, usize::saturating_add);
        let needs = Needs {
            indices: sum(|link| link.needs.indices),
            numbers: sum(|link| link.numbers()).saturating_add(widest.saturating_mul(2)),
            room: layers.iter().map(|link| link.needs.room).max().unwrap_or(0),
        };
        let sequential = Sequential {
            layers,
            input_shape: incoming.to_vec(),
            inputs: incoming.iter().product(),
            parameter_count: end,
            needs,
            widest,
        };
        Ok((sequential, tensors))
    }

    /// How many numbers one sample has.
    pub(crate) fn inputs(&self) -> usize {
        self.inputs
    }

    /// If what comes in has to be tokens, how many there are.
    pub(crate) fn tokens(&self) -> Option<usize> {
        self.layers.first().and_then(|link| link.layer.tokens())
    }

    /// The shape of one sample that comes out.
    pub(crate) fn output_shape(&self) -> &[usize] {
        self.layers.last().map_or(&self.input_shape, |last| &last.output_shape)
    }

    pub(crate) fn parameter_count(&self) -> usize {
        self.parameter_count
    }

    /// The memory that its passes work in: what comes out of each layer, what each keeps, and two gradients that change
    /// places from layer to layer.
    pub(crate) fn needs(&self) -> Needs {
        self.needs
    }

    /// Computes what comes out, to stay in the memory: see [`Sequential::output`].
    pub(crate) fn forward<S: Scalar>(&self, parameters: &[S], input: ArrayView4<'_, S>, memory: Memory<'_, S>) {
        let Memory {
            mut indices,
            mut numbers,
            room,
            packing,
            mut random,
        } = memory;
        let (batch, mut input) = (input.shape()[0], input);
        for link in &self.layers {
            let (kept, rest) = indices.split_at_mut(link.needs.indices * batch);
            let (own, others) = numbers.split_at_mut(link.numbers() * batch);
            (indices, numbers) = (rest, others);
            let (output, kept_numbers) = own.split_at_mut(link.outputs * batch);
            let shape = of_batch(batch, &link.output_shape);
            let memory = Memory {
                indices: kept,
                numbers: kept_numbers,
                room: &mut *room,
                packing: &mut *packing,
                random: random.as_deref_mut(),
            };
            link.layer.passes().forward(
                &parameters[link.range.clone()],
                input,
                tensor_mut(output, shape),
                memory,
            );
            input = tensor(output, shape);
        }
    }

    /// What came out of the last layer.
    pub(crate) fn output<'a, S>(&self, numbers: &'a [S], batch: usize) -> ArrayView4<'a, S> {
        let (outputs, before) = match self.layers.split_last() {
            Some((last, before)) => (last.outputs, before),
            None => (0, &[][..]),
        };
        let start: usize = before.iter().map(Link::numbers).sum();
        let output = &numbers[start * batch..][..outputs * batch];
        tensor(output, of_batch(batch, self.output_shape()))
    }

    /// Where the loss's gradient by what came out has to be put before [`Sequential::backward`], and what came out.
    pub(crate) fn output_and_its_gradient<'a, S>(
        &self,
        numbers: &'a mut [S],
        batch: usize,
    ) -> (ArrayView4<'a, S>, ArrayViewMut4<'a, S>) {
        let kept: usize = self.layers.iter().map(Link::numbers).sum();
        let (kept, gradients) = numbers.split_at_mut(kept * batch);
        let outputs = self.layers.last().map_or(0, |last| last.outputs);
        let output = self.output(kept, batch);
        let gradient = &mut gradients[..outputs * batch];
        (output, tensor_mut(gradient, of_batch(batch, self.output_shape())))
    }

    /// Overwrites the gradient by the parameters, and that by the input where it is wanted. The passes have to be
    /// called in turn, with the same parameters, input and memory.
    pub(crate) fn backward<S: Scalar>(
        &self,
        parameters: &[S],
        input: ArrayView4<'_, S>,
        parameter_gradient: &mut [S],
        mut input_gradient: Option<ArrayViewMut4<'_, S>>,
        memory: Memory<'_, S>,
    ) {
        let Memory {
            indices,
            numbers,
            room,
            packing,
            mut random,
        } = memory;
        let batch = input.shape()[0];
        let mut indices = &mut indices[..self.needs.indices * batch];
        let kept: usize = self.layers.iter().map(Link::numbers).sum();
        let (mut numbers, gradients) = numbers.split_at_mut(kept * batch);
        let (mut current, mut next) = gradients.split_at_mut(self.widest * batch);
        // Before the first layer with parameters nothing asks for a gradient any more, unless the input's is wanted.
        let first_trained = self.layers.iter().position(|link| !link.range.is_empty());
        let first = match input_gradient {
            Some(_) => 0,
            None => first_trained.unwrap_or(self.layers.len()),
        };
        for (place, link) in self.layers.iter().enumerate().skip(first).rev() {
            let (before, own) = numbers.split_at_mut(numbers.len() - link.numbers() * batch);
            let (indices_before, kept) = indices.split_at_mut(indices.len() - link.needs.indices * batch);
            (numbers, indices) = (before, indices_before);
            let (output, kept_numbers) = own.split_at_mut(link.outputs * batch);
            let before = place.checked_sub(1).and_then(|before| self.layers.get(before));
            let came_in = match before {
                Some(link) => {
                    let start = numbers.len() - link.numbers() * batch;
                    let output = &numbers[start..][..link.outputs * batch];
                    tensor(output, of_batch(batch, &link.output_shape))
                }
                None => input.view(),
            };
            let wanted = match before {
                Some(_) if place == first => None,
                Some(link) => Some(tensor_mut(&mut next[..link.outputs * batch], came_in.raw_dim())),
                None => input_gradient.take(),
            };
            let shape = of_batch(batch, &link.output_shape);
            let passed = Passed {
                parameters: &parameters[link.range.clone()],
                input: came_in,
                output: tensor(output, shape),
                output_gradient: tensor(&current[..link.outputs * batch], shape),
            };
            let memory = Memory {
                indices: kept,
                numbers: kept_numbers,
                room: &mut *room,
                packing: &mut *packing,
                random: random.as_deref_mut(),
            };
            link.layer
                .passes()
                .backward(passed, &mut parameter_gradient[link.range.clone()], wanted, memory);
            std::mem::swap(&mut current, &mut next);
        }
    }
}

impl Link {
    /// How many numbers it has in the sequence's memory for each sample: what comes out, and what it keeps.
    fn numbers(&self) -> usize {
        self.outputs.saturating_add(self.needs.numbers)
    }
}
