//! A model: its description, its parameters' names and places in one vector, and its gradient.

use crate::initial;
use crate::layer::{Layer, MAX_ELEMENTS, Memory, Passed, count, shape_text};
use crate::loss;
use crate::scalar::Scalar;
use crate::scratch::Scratch;
use crate::spec::ModelSpec;
use ndarray::ArrayViewD;
use std::ops::Range;

/// The most parameters of a model. One vector is then 256 MiB, and a tab with a single ML module needs nine of them
/// and what is not durable yet: no more fit into the 4 GiB that it can address.
pub const MAX_PARAMETERS: usize = 1 << 26;

/// The most layers of a model: far beyond what a browser trains, and few enough that a description stays small.
pub const MAX_LAYERS: usize = 1024;

/// Why a description is no model: where, what comes in, what is needed, and the mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The description as a whole.
    #[error("{problem}")]
    Model {
        /// What is wrong and the mend.
        problem: String,
    },
    /// One of its layers.
    #[error("layer {layer} ({kind}): {problem}")]
    Layer {
        /// Counted from 1.
        layer: usize,
        /// The layer's kind as the run file has it.
        kind: &'static str,
        /// What is wrong and the mend.
        problem: String,
    },
}

/// One tensor of a model's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// As `torch.nn.Sequential` of the same layers names it: the layer's place counted from 0, and its own name.
    pub name: String,
    /// As PyTorch has it: (outputs, inputs) or (filters, channels, height, width) for a weight, one size for a bias.
    pub shape: Vec<usize>,
    /// Where it lies in the vector, row-major.
    pub range: Range<usize>,
    /// How many inputs one output of its layer is a sum over.
    pub(crate) fan_in: usize,
}

/// Samples to compute a gradient of, or to evaluate.
#[derive(Clone, Copy, Debug)]
pub struct Minibatch<'a> {
    /// (batch, inputs), row-major.
    pub inputs: &'a [f32],
    /// (batch), each below the number of classes.
    pub labels: &'a [u32],
}

/// What a gradient was computed of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// How many samples.
    pub samples: usize,
    /// The sum of their losses.
    pub loss_sum: f64,
}

/// How well a model does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// How many samples.
    pub samples: usize,
    /// The sum of their losses.
    pub loss_sum: f64,
    /// How many of them were classified rightly.
    pub correct: usize,
}

/// A description whose layers are known to fit each other. With a vector of parameters it is a whole model.
#[derive(Clone, Debug)]
pub struct Model {
    spec: ModelSpec,
    layers: Vec<Layer>,
    /// Each layer's part of the vector.
    ranges: Vec<Range<usize>>,
    parameters: Vec<Parameter>,
    parameter_count: usize,
    inputs: usize,
    classes: usize,
}

impl Model {
    /// Fits the layers to each other, or says which does not fit and what would mend it.
    pub fn new(spec: &ModelSpec) -> Result<Model, SpecError> {
        let error = |problem: String| SpecError::Model { problem };
        let inputs = input_elements(&spec.input).map_err(error)?;
        if spec.layers.is_empty() {
            return Err(error("the model has no layers; give it at least a linear one".into()));
        }
        if spec.layers.len() > MAX_LAYERS {
            return Err(error(format!(
                "the model has {} layers; {MAX_LAYERS} are the most",
                spec.layers.len()
            )));
        }
        let (mut layers, mut ranges, mut parameters) = (Vec::new(), Vec::new(), Vec::new());
        let (mut shape, mut from, mut end) = (spec.input.clone(), "the model's input", 0);
        for (place, layer_spec) in spec.layers.iter().enumerate() {
            let kind = layer_spec.kind();
            let error = |problem: String| SpecError::Layer {
                layer: place + 1,
                kind,
                problem,
            };
            let layer = Layer::new(layer_spec, &shape, from).map_err(error)?;
            let start = end;
            for tensor in layer.tensors() {
                let after = count(&tensor.shape).and_then(|size| size.checked_add(end));
                let Some(after) = after.filter(|after| *after <= MAX_PARAMETERS) else {
                    return Err(error(format!(
                        "brings the model above {MAX_PARAMETERS} parameters with its {} of {}; make it or the layers \
                         before it smaller",
                        tensor.name,
                        shape_text(&tensor.shape)
                    )));
                };
                parameters.push(Parameter {
                    name: format!("{place}.{}", tensor.name),
                    shape: tensor.shape,
                    range: end..after,
                    fan_in: layer.fan_in(),
                });
                end = after;
            }
            ranges.push(start..end);
            (shape, from) = (layer.output_shape(), kind);
            layers.push(layer);
        }
        let classes = match *shape {
            [classes] if classes >= 2 => classes,
            [classes] => {
                return Err(error(format!(
                    "the last layer ({from}) gives {classes} class; a loss needs 2 or more: raise outputs"
                )));
            }
            _ => {
                return Err(error(format!(
                    "the last layer ({from}) gives {}, but the loss needs a vector of classes; end with a flatten and \
                     a linear layer",
                    shape_text(&shape)
                )));
            }
        };
        if end == 0 {
            return Err(error(
                "no layer has parameters, so there is nothing to train; add a linear layer".into(),
            ));
        }
        Ok(Model {
            spec: spec.clone(),
            layers,
            ranges,
            parameters,
            parameter_count: end,
            inputs,
            classes,
        })
    }

    /// The description that the model was made from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The length of the vector.
    pub fn parameter_count(&self) -> usize {
        self.parameter_count
    }

    /// How many numbers one sample has.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// How many classes the model tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The tensors of the vector, in its order, without gaps.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// One tensor of a vector of parameters or of their gradients; `None` if the vector is too short to hold it.
    pub fn view<'a>(&self, parameter: &Parameter, vector: &'a [f32]) -> Option<ArrayViewD<'a, f32>> {
        let values = vector.get(parameter.range.clone())?;
        ArrayViewD::from_shape(parameter.shape.as_slice(), values).ok()
    }

    /// The vector that a run with this seed starts from: each tensor as PyTorch distributes it, with the same bits on
    /// every machine.
    pub fn initial_parameters(&self, seed: u64) -> Vec<f32> {
        let mut vector = vec![0.0; self.parameter_count];
        initial::parameters(seed, &self.parameters, &mut vector);
        vector
    }

    /// Allocates what `gradient` and `evaluate` work in, for batches of up to `max_batch` samples.
    pub fn scratch(&self, max_batch: usize) -> Scratch {
        Scratch::new(&self.layers, max_batch)
    }

    /// How many bytes a scratch has; `usize::MAX` if they cannot be counted.
    pub fn scratch_bytes(&self, max_batch: usize) -> usize {
        Scratch::<f32>::bytes(&self.layers, max_batch)
    }

    /// Overwrites `gradient` with the **sum** over the samples of the loss's gradient by the parameters. Allocates
    /// nothing, and the same arguments give the same bits, whatever the scratch was used for before.
    ///
    /// # Panics
    /// Where a slice has the wrong length, the batch is larger than the scratch was made for, or a label is not below
    /// the number of classes: whoever takes data in has to check it there.
    pub fn gradient(
        &self,
        parameters: &[f32],
        batch: &Minibatch<'_>,
        gradient: &mut [f32],
        scratch: &mut Scratch,
    ) -> Outcome {
        let loss_sum = self.gradient_of(parameters, batch.inputs, batch.labels, gradient, scratch);
        Outcome {
            samples: batch.labels.len(),
            loss_sum,
        }
    }

    /// The samples' loss and how many of them are classified rightly. Allocates nothing.
    ///
    /// # Panics
    /// As [`Model::gradient`].
    pub fn evaluate(&self, parameters: &[f32], batch: &Minibatch<'_>, scratch: &mut Scratch) -> Evaluation {
        self.forward(parameters, batch.inputs, batch.labels, scratch);
        let samples = batch.labels.len();
        let logits = scratch
            .activations
            .last()
            .map_or(&[][..], |logits| &logits[..samples * self.classes]);
        let (loss_sum, correct) = loss::evaluate(logits, batch.labels);
        Evaluation {
            samples,
            loss_sum,
            correct,
        }
    }

    /// Fills the scratch's activations, after all checks.
    fn forward<S: Scalar>(&self, parameters: &[S], inputs: &[S], labels: &[u32], scratch: &mut Scratch<S>) {
        let batch = labels.len();
        assert_eq!(
            parameters.len(),
            self.parameter_count,
            "the vector is not of this model"
        );
        assert_eq!(
            inputs.len(),
            batch * self.inputs,
            "a minibatch has a label for each sample of its inputs"
        );
        assert!(
            batch <= scratch.max_batch,
            "the scratch was made for {} samples, not {batch}",
            scratch.max_batch
        );
        assert_eq!(
            scratch.activations.len(),
            self.layers.len(),
            "the scratch is not of this model"
        );
        assert!(
            labels.iter().all(|label| (*label as usize) < self.classes),
            "a label is below {}",
            self.classes
        );
        for (place, layer) in self.layers.iter().enumerate() {
            let (before, after) = scratch.activations.split_at_mut(place);
            let input = before
                .last()
                .map_or(inputs, |output| &output[..self.outputs(place - 1) * batch]);
            let memory = Memory {
                kept: &mut scratch.kept[place][..layer.kept_per_sample() * batch],
                unfolded: &mut scratch.unfolded,
                packing: &mut scratch.packing,
            };
            let output = &mut after[0][..self.outputs(place) * batch];
            layer
                .passes()
                .forward(&parameters[self.ranges[place].clone()], input, output, memory);
        }
    }

    /// Both passes, in either kind of number; returns the loss's sum.
    fn gradient_of<S: Scalar>(
        &self,
        parameters: &[S],
        inputs: &[S],
        labels: &[u32],
        gradient: &mut [S],
        scratch: &mut Scratch<S>,
    ) -> f64 {
        assert_eq!(
            gradient.len(),
            self.parameter_count,
            "the gradient is not of this model"
        );
        self.forward(parameters, inputs, labels, scratch);
        let batch = labels.len();
        let [current, next] = &mut scratch.gradients;
        let (mut current, mut next) = (current, next);
        let logits = scratch
            .activations
            .last()
            .map_or(&[][..], |logits| &logits[..batch * self.classes]);
        let loss_sum = loss::backward(logits, labels, &mut current[..batch * self.classes]);
        // Before the first layer with parameters nothing asks for a gradient any more.
        let first = self.ranges.iter().position(|range| !range.is_empty()).unwrap_or(0);
        for (place, layer) in self.layers.iter().enumerate().skip(first).rev() {
            let before = place.checked_sub(1);
            let elements = before.map_or(self.inputs, |before| self.outputs(before));
            let input = before.map_or(inputs, |before| &scratch.activations[before][..elements * batch]);
            let outputs = self.outputs(place) * batch;
            let range = self.ranges[place].clone();
            let passed = Passed {
                parameters: &parameters[range.clone()],
                input,
                output: &scratch.activations[place][..outputs],
                output_gradient: &current[..outputs],
            };
            let memory = Memory {
                kept: &mut scratch.kept[place][..layer.kept_per_sample() * batch],
                unfolded: &mut scratch.unfolded,
                packing: &mut scratch.packing,
            };
            let input_gradient = (place > first).then(|| &mut next[..elements * batch]);
            layer
                .passes()
                .backward(passed, &mut gradient[range], input_gradient, memory);
            std::mem::swap(&mut current, &mut next);
        }
        loss_sum
    }

    /// How many numbers come out of a layer for one sample.
    fn outputs(&self, place: usize) -> usize {
        self.layers[place].outputs()
    }
}

fn input_elements(input: &[usize]) -> Result<usize, String> {
    if !matches!(input.len(), 1 | 3) {
        return Err(format!(
            "input = {input:?} has {} sizes; give [features] or [channels, height, width]",
            input.len()
        ));
    }
    if input.contains(&0) {
        return Err(format!(
            "input = {input:?} has a size of 0; every size must be 1 or more"
        ));
    }
    match count(input) {
        Some(elements) if elements <= MAX_ELEMENTS => Ok(elements),
        _ => Err(format!(
            "input = {input:?} has more than {MAX_ELEMENTS} numbers; make it smaller"
        )),
    }
}

#[cfg(test)]
mod tests;
