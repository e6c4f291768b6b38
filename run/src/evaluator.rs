//! Evaluation of a run's model on the held-out samples.

use std::sync::Arc;
use std::thread;

use nn::data::minibatch::MinibatchBuffer;
use nn::{Evaluation, EvaluationScratch, Model};

use crate::Run;
use crate::dataset::Dataset;
use crate::goal::Evaluated;

/// Held-out samples that are evaluated at a time, where their memory allows. The sum over the batches is part of every
/// published curve: another number here changes its last bits.
const BATCH: usize = 64;
/// Memory for the batch: four times what 64 samples of `runs/char-transformer.toml` take, the neediest run here. A
/// model that needs more for 64 samples is evaluated in smaller batches; its single sample keeps a core busy long
/// enough.
const MAX_SCRATCH_BYTES: usize = 256 << 20;

/// This many times the first model's loss, and this much at least, is the loss of a model that has diverged.
const HOPELESS: f64 = 1e6;

/// Evaluates models on a run's held-out samples. It keeps its memory from one evaluation to the next.
pub struct Evaluator {
    model: Arc<Model>,
    seed: u64,
    dataset: Arc<Dataset>,
    /// How many of the held-out samples are taken.
    samples: usize,
    batch: usize,
    scratch: EvaluationScratch,
    buffer: MinibatchBuffer,
}

impl Run {
    /// An evaluator that takes as many of the held-out samples as the run file says: `[evaluation] samples`.
    pub fn evaluator(&self) -> Evaluator {
        self.evaluator_of(self.run_file.evaluation.samples)
    }

    /// An evaluator that takes all held-out samples.
    pub fn evaluator_of_all(&self) -> Evaluator {
        self.evaluator_of(None)
    }

    /// An evaluator that takes this many of the held-out samples, evenly spread over them, if there are more.
    fn evaluator_of(&self, samples: Option<usize>) -> Evaluator {
        let Run { dataset, model, .. } = self;
        let batch = batch_for(model);
        Evaluator {
            samples: dataset.held_out_samples().min(samples.unwrap_or(usize::MAX)),
            batch,
            scratch: model.evaluation_scratch(batch),
            buffer: MinibatchBuffer::new(&dataset.format, batch),
            model: Arc::clone(model),
            seed: self.run_file.seed,
            dataset: Arc::clone(dataset),
        }
    }
}

impl Evaluator {
    /// How the parameters do on the held-out samples.
    pub fn evaluate(&mut self, parameters: &[f32]) -> Evaluated {
        evaluated(self.batches(parameters, 0, 1))
    }

    /// Whether a model that did like this may be used: its loss is finite, and not a million times that of the run's
    /// first model. Training does not come back from there.
    pub fn is_sound(&mut self, evaluated: &Evaluated) -> bool {
        // Far from there the first model needs no evaluation.
        if evaluated.loss <= HOPELESS {
            return true;
        }
        evaluated.loss.is_finite() && evaluated.loss <= HOPELESS * self.first_loss()
    }

    /// The loss of the run's first model.
    pub fn first_loss(&mut self) -> f64 {
        let first = self.model.initial_parameters(self.seed);
        self.evaluate(&first).loss
    }

    /// The same with the same bits, by several evaluators at once, each on a thread.
    pub fn evaluate_together(evaluators: &mut [Evaluator], parameters: &[f32]) -> Evaluated {
        let turns = evaluators.len();
        let mut parts: Vec<std::vec::IntoIter<Evaluation>> = thread::scope(|scope| {
            let threads = evaluators
                .iter_mut()
                .zip(0..)
                .map(|(evaluator, turn)| scope.spawn(move || evaluator.batches(parameters, turn, turns)));
            let threads: Vec<_> = threads.collect();
            // Each thread's batches come in turn; a panic there is one here.
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(batches) => batches.into_iter(),
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        });
        let most = parts.iter().map(|batches| batches.len()).max().unwrap_or(0);
        let in_order = (0..most).flat_map(|_| parts.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>());
        evaluated(in_order.collect())
    }

    /// Evaluates every `turns`th batch of the held-out samples, beginning with number `turn`.
    fn batches(&mut self, parameters: &[f32], turn: usize, turns: usize) -> Vec<Evaluation> {
        let all = self.dataset.held_out_samples();
        let (mut batches, mut number, mut position) = (Vec::new(), 0, 0);
        for shard in &self.dataset.held_out {
            let is_chosen = |_: &usize| {
                position += 1;
                is_spread(position - 1, self.samples, all)
            };
            let chosen: Vec<usize> = shard.apart().filter(is_chosen).collect();
            for batch in chosen.chunks(self.batch) {
                if number % turns == turn {
                    let minibatch = self.buffer.fill(shard, batch.len(), batch.iter().copied(), None);
                    batches.push(self.model.evaluate(parameters, &minibatch, &mut self.scratch));
                }
                number += 1;
            }
        }
        batches
    }
}

/// How many samples are evaluated at a time: [`BATCH`], or as many as the memory allows, but at least one.
fn batch_for(model: &Model) -> usize {
    let fits = |batch: &usize| model.evaluation_scratch_bytes(*batch) <= MAX_SCRATCH_BYTES;
    (1..=BATCH).rev().find(fits).unwrap_or(1)
}

/// Whether number `position` is among `chosen` of `all` that are spread evenly.
fn is_spread(position: usize, chosen: usize, all: usize) -> bool {
    let chosen_before = |position: usize| position as u128 * chosen as u128 / all.max(1) as u128;
    chosen_before(position + 1) > chosen_before(position)
}

/// What batches come to, added in their order.
fn evaluated(batches: Vec<Evaluation>) -> Evaluated {
    let (mut samples, mut loss, mut correct) = (0, 0.0, Some(0.0));
    for batch in batches {
        samples += batch.samples;
        loss += batch.loss_sum;
        correct = correct.zip(batch.correct).map(|(all, part)| all + part);
    }
    let samples = samples.max(1) as f64;
    Evaluated {
        loss: loss / samples,
        accuracy: correct.map(|correct| correct / samples),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_file::RunFile;
    use nn::ModelSpec;

    /// The beginning and the end of a transformer that has 21 million parameters with six such blocks.
    const LARGE: &str = r#"
        input = [256]
        [[layers]]
        kind = "embedding"
        tokens = 73
        width = 544
        [[layers]]
        kind = "residual"
        layers = [{ kind = "layer_norm" }, { kind = "causal_self_attention", heads = 8 }]
        [[layers]]
        kind = "residual"
        layers = [{ kind = "linear", outputs = 2176 }, { kind = "gelu" }, { kind = "linear", outputs = 544 }]
        [[layers]]
        kind = "linear"
        outputs = 73
    "#;

    #[test]
    fn every_run_is_evaluated_in_the_batches_that_its_published_curves_were() {
        let mut runs = 0;
        for folder in ["../runs", "../scenarios/runs"] {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|extension| extension == "toml") {
                    let run_file = RunFile::load(&path).unwrap();
                    assert_eq!(
                        batch_for(&Model::new(&run_file.model).unwrap()),
                        64,
                        "{}",
                        path.display()
                    );
                    runs += 1;
                }
            }
        }
        assert!(runs >= 8, "{runs}");
    }

    #[test]
    fn a_large_model_is_evaluated_in_bounded_memory() {
        let spec: ModelSpec = toml::from_str(LARGE).unwrap();
        let model = Model::new(&spec).unwrap();
        let batch = batch_for(&model);
        assert!((1..BATCH).contains(&batch), "{batch}");
        assert!(model.evaluation_scratch_bytes(batch) <= MAX_SCRATCH_BYTES);
        assert!(model.evaluation_scratch_bytes(batch + 1) > MAX_SCRATCH_BYTES);
    }

    #[test]
    fn a_limit_takes_as_many_samples_as_it_says_from_the_whole_of_them() {
        for (chosen, all) in [(1, 10), (3, 10), (7, 10), (10, 10), (64, 1797), (5, 5)] {
            let positions: Vec<usize> = (0..all).filter(|position| is_spread(*position, chosen, all)).collect();
            assert_eq!(positions.len(), chosen, "{chosen} of {all}");
            let step = all.div_ceil(chosen);
            assert!(
                positions.windows(2).all(|pair| pair[1] - pair[0] <= step),
                "{positions:?}"
            );
        }
    }

    #[test]
    fn an_evaluation_can_be_limited_and_its_turns_give_the_bits_of_the_whole() {
        let run = Run::load(None).unwrap();
        let parameters = run.model.initial_parameters(1);
        let evaluator = |samples| run.evaluator_of(samples);
        let counted = |samples| -> usize {
            let batches = evaluator(samples).batches(&parameters, 0, 1);
            batches.iter().map(|batch| batch.samples).sum()
        };
        assert_eq!([None, Some(100), Some(100_000)].map(counted), [360, 100, 360]);
        let mut together = [evaluator(None), evaluator(None), evaluator(None)];
        let whole = evaluator(None).evaluate(&parameters);
        assert_eq!(Evaluator::evaluate_together(&mut together, &parameters), whole);
    }
}
