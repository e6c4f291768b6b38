//! A model: its description, its parameters in one vector, by name, and its gradient.

use crate::data::minibatch::{Minibatch, Targets};
use crate::kernel::scalar::Scalar;
use crate::kernel::tensor::tensor;
use crate::layer::sequential::{MAX_LAYERS, Misfit, Sequential};
use crate::layer::{MAX_ELEMENTS, Needs, count};
use crate::loss::Answers;
use crate::parameters;
use crate::random::{Generator, Purpose};
use crate::scratch::Scratch;
use crate::shape::of_batch;
use crate::spec::ModelSpec;
use ndarray::{ArrayView4, ArrayViewD};

mod data;
mod evaluation;

pub use crate::parameters::{MAX_PARAMETERS, Parameter};
pub use data::DataMisfit;
pub use evaluation::EvaluationScratch;

/// Why a description is no model: where, what comes in, what is needed, and the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The description as a whole.
    #[error("{problem}")]
    Model {
        /// What is wrong and the fix.
        problem: String,
    },
    /// One of its layers.
    #[error("layer {layer} ({kind}): {problem}")]
    Layer {
        /// Counted from 1.
        layer: usize,
        /// The layer's kind as the run file has it.
        kind: &'static str,
        /// What is wrong and the fix.
        problem: String,
    },
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
    /// How many of them were answered rightly; a sample of several answers counts by its share of right ones. `None`
    /// where answers are numbers.
    pub correct: Option<f64>,
}

/// A description whose layers are known to fit each other. With a vector of parameters it is a whole model.
///
/// ```
/// use nn::layer::{Linear, Relu};
/// use nn::{LossSpec, Minibatch, Model, ModelSpec, Targets};
///
/// let layers = vec![Linear::new(8).into(), Relu {}.into(), Linear::new(2).into()];
/// let model = Model::new(&ModelSpec { input: vec![3], layers, loss: LossSpec::SoftmaxCrossEntropy })?;
/// let mut parameters = model.initial_parameters(1);
/// let (mut gradient, mut scratch) = (vec![0.0; parameters.len()], model.scratch(2));
/// let inputs = [0.5, -1.0, 2.0, 1.5, 0.0, -0.5];
/// let batch = Minibatch { inputs: &inputs, targets: Targets::Classes(&[0, 1]), key: None };
/// let before = model.gradient(&parameters, &batch, &mut gradient, &mut scratch).loss_sum;
/// for (parameter, gradient) in parameters.iter_mut().zip(&gradient) {
///     *parameter -= 0.1 * gradient;
/// }
/// let mut scratch = model.evaluation_scratch(2);
/// assert!(model.evaluate(&parameters, &batch, &mut scratch).loss_sum < before);
/// # Ok::<(), nn::SpecError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Model {
    spec: ModelSpec,
    layers: Sequential,
    parameters: Vec<Parameter>,
    answers: Answers,
}

impl Model {
    /// Fits the layers to each other, or says which does not fit and what would fix it.
    pub fn new(spec: &ModelSpec) -> Result<Model, SpecError> {
        let error = |problem: String| SpecError::Model { problem };
        check_input(&spec.input).map_err(error)?;
        let Some(last) = spec.layers.last() else {
            return Err(error("the model has no layers; give it at least a linear one".into()));
        };
        if spec.layers.len() > MAX_LAYERS {
            return Err(error(format!(
                "the model has {} layers; {MAX_LAYERS} are the most",
                spec.layers.len()
            )));
        }
        let layers = Sequential::new(&spec.layers, &spec.input, "the model's input");
        let (layers, tensors) = layers.map_err(|Misfit { place, problem }| SpecError::Layer {
            layer: place + 1,
            kind: spec.layers[place].kind(),
            problem,
        })?;
        let answers = spec.loss.fit(layers.output_shape(), last.kind()).map_err(error)?;
        if layers.parameter_count() == 0 {
            return Err(error(
                "no layer has parameters, so there is nothing to train; add a linear layer".into(),
            ));
        }
        let mut end = 0;
        let parameters = tensors
            .into_iter()
            .map(|tensor| {
                let start = end;
                end += tensor.shape.iter().product::<usize>();
                Parameter {
                    name: tensor.name,
                    shape: tensor.shape,
                    range: start..end,
                    initial: tensor.initial,
                }
            })
            .collect();
        Ok(Model {
            spec: spec.clone(),
            layers,
            parameters,
            answers,
        })
    }

    /// The description that the model was made from.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The length of the vector.
    pub fn parameter_count(&self) -> usize {
        self.layers.parameter_count()
    }

    /// How many numbers one sample has.
    pub fn inputs(&self) -> usize {
        self.layers.inputs()
    }

    /// If the model's inputs have to be tokens, how many there are: each input is then a whole number from 0 to below
    /// it.
    pub fn tokens(&self) -> Option<usize> {
        self.layers.tokens()
    }

    /// What the model answers for one sample.
    pub fn answers(&self) -> Answers {
        self.answers
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
        let mut vector = vec![0.0; self.parameter_count()];
        parameters::fill_all(seed, &self.parameters, &mut vector);
        vector
    }

    /// Allocates what `gradient` works in, for batches of up to `max_batch` samples.
    pub fn scratch(&self, max_batch: usize) -> Scratch {
        Scratch::new(self.layers.needs(), max_batch)
    }

    /// How many bytes a scratch has; `usize::MAX` if they cannot be counted.
    pub fn scratch_bytes(&self, max_batch: usize) -> usize {
        Scratch::<f32>::bytes(self.layers.needs(), max_batch)
    }

    /// Overwrites `gradient` with the **sum** over the samples of the loss's gradient by the parameters. Allocates
    /// nothing, and the same arguments give the same bits, whatever the scratch was used for before.
    ///
    /// # Panics
    /// Where a slice has the wrong length, the batch is larger than the scratch was made for, a target is not one that
    /// the model can answer, or an input is no token where the model takes tokens: data is checked where it comes
    /// in.
    pub fn gradient(
        &self,
        parameters: &[f32],
        batch: &Minibatch<'_>,
        gradient: &mut [f32],
        scratch: &mut Scratch,
    ) -> Outcome {
        let mut random = batch.key.map(|key| key.generator(Purpose::Dropout, key.step));
        let random = random.as_mut();
        let loss_sum = self.gradient_of(parameters, batch.inputs, batch.targets, random, gradient, scratch);
        Outcome {
            samples: batch.inputs.len() / self.inputs(),
            loss_sum,
        }
    }

    /// The forward pass, after all checks; returns how many samples there are.
    fn forward<S: Scalar>(
        &self,
        parameters: &[S],
        inputs: &[S],
        targets: Targets<'_, S>,
        random: Option<&mut Generator>,
        scratch: &mut Scratch<S>,
    ) -> usize {
        let batch = self.checked_batch(parameters, inputs, targets, self.layers.needs(), scratch);
        self.layers
            .forward(parameters, self.samples(inputs), scratch.memory(random));
        batch
    }

    /// How many samples there are, after all checks; `needs` are those of the passes to come.
    fn checked_batch<S: Scalar>(
        &self,
        parameters: &[S],
        inputs: &[S],
        targets: Targets<'_, S>,
        needs: Needs,
        scratch: &Scratch<S>,
    ) -> usize {
        let batch = inputs.len() / self.inputs();
        assert_eq!(
            parameters.len(),
            self.parameter_count(),
            "the vector is not of this model"
        );
        assert_eq!(
            inputs.len(),
            batch * self.inputs(),
            "a minibatch has whole samples of this model"
        );
        assert!(
            batch <= scratch.max_batch,
            "the scratch was made for {} samples, not {batch}",
            scratch.max_batch
        );
        assert_eq!(scratch.needs, needs, "the scratch is not of this model");
        assert!(
            self.answers.takes(targets, batch),
            "the targets are not those of {:?}",
            self.answers
        );
        if let Some(tokens) = self.tokens() {
            assert!(
                inputs.iter().all(|input| is_token(input.to_f64(), tokens)),
                "a token is a whole number from 0 to below {tokens}"
            );
        }
        batch
    }

    /// Both passes, in either kind of number; returns the loss's sum.
    fn gradient_of<S: Scalar>(
        &self,
        parameters: &[S],
        inputs: &[S],
        targets: Targets<'_, S>,
        mut random: Option<&mut Generator>,
        gradient: &mut [S],
        scratch: &mut Scratch<S>,
    ) -> f64 {
        assert_eq!(
            gradient.len(),
            self.parameter_count(),
            "the gradient is not of this model"
        );
        let batch = self.forward(parameters, inputs, targets, random.as_deref_mut(), scratch);
        let (given, output_gradient) = self.layers.output_and_its_gradient(&mut scratch.numbers, batch);
        let loss_sum = self.answers.backward(given, targets, output_gradient);
        self.layers
            .backward(parameters, self.samples(inputs), gradient, None, scratch.memory(random));
        loss_sum
    }

    /// Samples in their shape.
    fn samples<'a, S>(&self, inputs: &'a [S]) -> ArrayView4<'a, S> {
        tensor(inputs, of_batch(inputs.len() / self.inputs(), &self.spec.input))
    }
}

fn is_token(input: f64, tokens: usize) -> bool {
    input >= 0.0 && input < tokens as f64 && input.trunc() == input
}

fn check_input(input: &[usize]) -> Result<(), String> {
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
        Some(elements) if elements <= MAX_ELEMENTS => Ok(()),
        _ => Err(format!(
            "input = {input:?} has more than {MAX_ELEMENTS} numbers; make it smaller"
        )),
    }
}

#[cfg(test)]
mod tests;
