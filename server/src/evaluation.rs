//! Evaluation on the held-out samples, on a thread of its own: the controller never waits for it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nn::data::minibatch::MinibatchBuffer;
use nn::{Evaluation, EvaluationScratch, Model};
use run::dataset::Dataset;
use run::goal::Evaluated;

use crate::controller::{ControllerHandle, Event};
use crate::history::{EvaluatedModel, EvaluationPoint};

/// Held-out samples that are evaluated at a time, where their memory allows. The sum over the batches is part of every
/// published curve: another number here changes its last bits.
const BATCH: usize = 64;
/// Memory for the batch: four times what 64 samples of `runs/char-transformer.toml` take, the neediest run here. A
/// model that needs more for 64 samples is evaluated in smaller batches; its single sample keeps a core busy long
/// enough.
const MAX_SCRATCH_BYTES: usize = 256 << 20;
/// After an evaluation its thread rests for at least this many times as long as it computed, so that it takes at most a
/// quarter of one core's time from the controller beside it.
const REST: u32 = 3;

/// Evaluates models on the held-out samples. Keeps its memory from one to the next.
pub(crate) struct Evaluator {
    model: Arc<Model>,
    dataset: Arc<Dataset>,
    /// How many of the held-out samples are taken.
    samples: usize,
    batch: usize,
    scratch: EvaluationScratch,
    buffer: MinibatchBuffer,
}

impl Evaluator {
    /// An evaluator of this model on this data.
    pub(crate) fn new(model: Arc<Model>, dataset: Arc<Dataset>) -> Evaluator {
        let batch = batch_for(&model);
        Evaluator {
            samples: dataset.held_out_samples(),
            batch,
            scratch: model.evaluation_scratch(batch),
            buffer: MinibatchBuffer::new(&dataset.format, batch),
            model,
            dataset,
        }
    }

    /// The same on this many of the held-out samples, evenly spread over them, if there are more.
    pub(crate) fn limited(self, samples: Option<usize>) -> Evaluator {
        let samples = self.samples.min(samples.unwrap_or(usize::MAX));
        Evaluator { samples, ..self }
    }

    /// How the parameters do on the held-out samples.
    pub(crate) fn evaluate(&mut self, parameters: &[f32]) -> Evaluated {
        evaluated(self.batches(parameters, 0, 1))
    }

    /// The same with the same bits, by several evaluators at once, each on a thread.
    pub(crate) fn evaluate_together(evaluators: &mut [Evaluator], parameters: &[f32]) -> Evaluated {
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
        let (mut batches, mut number, mut place) = (Vec::new(), 0, 0);
        for shard in &self.dataset.held_out {
            let is_chosen = |_: &usize| {
                place += 1;
                is_spread(place - 1, self.samples, all)
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

/// Whether number `place` is among `chosen` of `all` that are spread evenly.
fn is_spread(place: usize, chosen: usize, all: usize) -> bool {
    let chosen_before = |place: usize| place as u128 * chosen as u128 / all.max(1) as u128;
    chosen_before(place + 1) > chosen_before(place)
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

/// Evaluates the current model when there is a new one: first after `interval`, then whenever that has passed since the
/// last evaluation, or [`REST`] times as long as that took if it took long. Ends with the controller.
pub(crate) fn evaluate_at_intervals(controller: ControllerHandle, mut evaluator: Evaluator, interval: Duration) {
    let body = move || {
        let mut last_version = None;
        let mut rest = interval;
        loop {
            thread::sleep(rest);
            let current = controller.inspect_blocking(|controller, now| {
                let central = controller.central();
                (
                    central.stamp().version,
                    central.totals().samples_in_model,
                    now,
                    central.model().to_vec(),
                )
            });
            let Some((version, samples, now, parameters)) = current else {
                return;
            };
            if last_version == Some(version) {
                continue;
            }
            last_version = Some(version);
            let began = Instant::now();
            let Evaluated { loss, accuracy } = evaluator.evaluate(&parameters);
            rest = rest_after(began.elapsed(), interval);
            let point = EvaluationPoint {
                samples,
                elapsed_seconds: now.as_micros() as f64 / 1e6,
                version,
                accuracy,
                loss,
            };
            if controller
                .tell_blocking(Event::Evaluated(EvaluatedModel { point, parameters }))
                .is_err()
            {
                return;
            }
        }
    };
    // Without a thread there is no evaluation; the run goes on, and the log says so.
    if let Err(error) = thread::Builder::new().name("evaluation".to_owned()).spawn(body) {
        tracing::error!("no thread for evaluations: {error}");
    }
}

fn rest_after(computed: Duration, interval: Duration) -> Duration {
    interval.max(computed.saturating_mul(REST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nn::ModelSpec;
    use run::run_file::RunFile;

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
    fn an_evaluation_computes_for_a_quarter_of_the_time_at_most() {
        let seconds = Duration::from_secs;
        assert_eq!(rest_after(seconds(1), seconds(5)), seconds(5));
        assert_eq!(rest_after(seconds(20), seconds(5)), seconds(60));
    }

    #[test]
    fn a_limit_takes_as_many_samples_as_it_says_from_the_whole_of_them() {
        for (chosen, all) in [(1, 10), (3, 10), (7, 10), (10, 10), (64, 1797), (5, 5)] {
            let places: Vec<usize> = (0..all).filter(|place| is_spread(*place, chosen, all)).collect();
            assert_eq!(places.len(), chosen, "{chosen} of {all}");
            let step = all.div_ceil(chosen);
            assert!(places.windows(2).all(|pair| pair[1] - pair[0] <= step), "{places:?}");
        }
    }

    #[test]
    fn an_evaluation_can_be_limited_and_its_turns_give_the_bits_of_the_whole() {
        let run_file = RunFile::digits().unwrap();
        let dataset = Arc::new(Dataset::load(&run_file.dataset, run_file.seed).unwrap());
        let model = Arc::new(run_file.model_for(&dataset.format).unwrap());
        let parameters = model.initial_parameters(1);
        let evaluator = |samples| Evaluator::new(Arc::clone(&model), Arc::clone(&dataset)).limited(samples);
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
