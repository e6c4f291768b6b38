//! How well a model does, in memory for the forward pass alone.

use super::{Evaluation, Model};
use crate::data::minibatch::Minibatch;
use crate::scratch::Scratch;

/// The memory that [`Model::evaluate`] works in: two layers' outputs instead of all of them and their gradients. Made
/// by [`Model::evaluation_scratch`]; what it holds from one call never shows in the next.
#[derive(Debug)]
pub struct EvaluationScratch(Scratch);

impl Model {
    /// Allocates what `evaluate` works in, for batches of up to `max_batch` samples.
    pub fn evaluation_scratch(&self, max_batch: usize) -> EvaluationScratch {
        EvaluationScratch(Scratch::new(self.layers.evaluation_needs(), max_batch))
    }

    /// How many bytes an evaluation scratch has; `usize::MAX` if they cannot be counted.
    pub fn evaluation_scratch_bytes(&self, max_batch: usize) -> usize {
        Scratch::<f32>::bytes(self.layers.evaluation_needs(), max_batch)
    }

    /// The samples' loss and how many of them are answered rightly. Allocates nothing.
    ///
    /// # Panics
    /// As [`Model::gradient`].
    pub fn evaluate(&self, parameters: &[f32], batch: &Minibatch<'_>, scratch: &mut EvaluationScratch) -> Evaluation {
        let EvaluationScratch(scratch) = scratch;
        let needs = self.layers.evaluation_needs();
        let samples = self.checked_batch(parameters, batch.inputs, batch.targets, needs, scratch);
        let memory = scratch.memory(None);
        let given = self.layers.evaluate(parameters, self.samples(batch.inputs), memory);
        let (loss_sum, correct) = self.answers.evaluate(given, batch.targets);
        Evaluation {
            samples,
            loss_sum,
            correct,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::layer::{Gelu, LayerNorm, Linear, Residual};
    use crate::{LayerSpec, LossSpec, Minibatch, Model, ModelSpec, Targets};

    /// Blocks of a transformer's perceptron, 64 numbers wide, with 256 between.
    fn perceptron(blocks: usize) -> Model {
        let block: LayerSpec = Residual {
            layers: vec![
                LayerNorm {}.into(),
                Linear::new(256).into(),
                Gelu {}.into(),
                Linear::new(64).into(),
            ],
            projection: None,
        }
        .into();
        let mut layers = vec![block; blocks];
        layers.push(Linear::new(3).into());
        Model::new(&ModelSpec {
            input: vec![64],
            layers,
            loss: LossSpec::default(),
        })
        .unwrap()
    }

    #[test]
    fn an_evaluation_takes_no_more_memory_for_more_layers() {
        let (two, twenty) = (perceptron(2), perceptron(20));
        assert_eq!(two.evaluation_scratch_bytes(64), twenty.evaluation_scratch_bytes(64));
        assert!(twenty.scratch_bytes(64) > 5 * two.scratch_bytes(64));
    }

    #[test]
    fn an_evaluation_gives_the_bits_of_the_forward_pass_of_a_gradient() {
        let model = perceptron(3);
        let parameters = model.initial_parameters(1);
        let inputs: Vec<f32> = (0..5 * 64).map(|index| (index % 37) as f32 / 37.0 - 0.5).collect();
        let batch = Minibatch {
            inputs: &inputs,
            targets: Targets::Classes(&[0, 1, 2, 1, 0]),
            key: None,
        };
        let mut gradient = vec![0.0; parameters.len()];
        let outcome = model.gradient(&parameters, &batch, &mut gradient, &mut model.scratch(5));
        // A scratch for more samples, twice: nothing depends on what is in it.
        let mut scratch = model.evaluation_scratch(7);
        for _ in 0..2 {
            let evaluation = model.evaluate(&parameters, &batch, &mut scratch);
            assert_eq!(evaluation.loss_sum.to_bits(), outcome.loss_sum.to_bits());
        }
    }
}
