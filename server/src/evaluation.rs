//! Evaluation on the held-out samples, on a thread of its own: the controller never waits for it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nn::minibatch::MinibatchBuffer;
use nn::{Evaluation, EvaluationScratch, Model};

use crate::controller::{ControllerHandle, Event};
use crate::dataset::Dataset;
use crate::history::EvaluationPoint;

/// Held-out samples that are evaluated at a time.
const BATCH: usize = 64;

/// Evaluates models on the held-out samples. Keeps its memory from one to the next.
pub(crate) struct Evaluator {
    model: Arc<Model>,
    dataset: Arc<Dataset>,
    scratch: EvaluationScratch,
    buffer: MinibatchBuffer,
}

impl Evaluator {
    /// An evaluator of this model on this data.
    pub(crate) fn new(model: Arc<Model>, dataset: Arc<Dataset>) -> Evaluator {
        let (scratch, buffer) = (
            model.evaluation_scratch(BATCH),
            MinibatchBuffer::new(&dataset.format, BATCH),
        );
        Evaluator {
            model,
            dataset,
            scratch,
            buffer,
        }
    }

    /// How the parameters do on all held-out samples.
    pub(crate) fn evaluate(&mut self, parameters: &[f32]) -> Evaluated {
        evaluated(self.batches(parameters, 0, 1))
    }

    /// The same with the same bits, by several evaluators at once, each on a thread.
    pub(crate) fn evaluate_together(evaluators: &mut [Evaluator], parameters: &[f32]) -> Evaluated {
        let of = evaluators.len();
        let mut parts: Vec<std::vec::IntoIter<Evaluation>> = thread::scope(|scope| {
            let turns = evaluators
                .iter_mut()
                .zip(0..)
                .map(|(evaluator, turn)| scope.spawn(move || evaluator.batches(parameters, turn, of)));
            let turns: Vec<_> = turns.collect();
            // Each thread's batches come in turn; a panic there is one here.
            let joined = turns.into_iter().map(|turn| match turn.join() {
                Ok(batches) => batches.into_iter(),
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        });
        let most = parts.iter().map(|batches| batches.len()).max().unwrap_or(0);
        let in_order = (0..most).flat_map(|_| parts.iter_mut().filter_map(Iterator::next).collect::<Vec<_>>());
        evaluated(in_order.collect())
    }

    /// Evaluates every `of`th batch of the held-out samples, beginning with number `turn`.
    fn batches(&mut self, parameters: &[f32], turn: usize, of: usize) -> Vec<Evaluation> {
        let (mut batches, mut number) = (Vec::new(), 0);
        for shard in &self.dataset.held_out {
            let mut chosen = shard.apart();
            while chosen.len() > 0 {
                let batch = chosen.len().min(BATCH);
                let of_batch = chosen.by_ref().take(batch);
                if number % of == turn {
                    let minibatch = self.buffer.fill(shard, batch, of_batch, None);
                    batches.push(self.model.evaluate(parameters, &minibatch, &mut self.scratch));
                } else {
                    of_batch.for_each(drop);
                }
                number += 1;
            }
        }
        batches
    }
}

/// What batches come to, added in their order.
fn evaluated(batches: Vec<Evaluation>) -> Evaluated {
    let (mut samples, mut loss, mut correct) = (0, 0.0, Some(0.0));
    for batch in batches {
        samples += batch.samples;
        loss += batch.loss_sum;
        correct = correct.zip(batch.correct).map(|(all, part)| all + part);
    }
    let of_all = samples.max(1) as f64;
    Evaluated {
        loss: loss / of_all,
        accuracy: correct.map(|correct| correct / of_all),
    }
}

/// How a model does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Evaluated {
    /// Mean loss of a held-out sample.
    pub(crate) loss: f64,
    /// The share of answers that are right, from 0 to 1; `None` where answers are numbers.
    pub(crate) accuracy: Option<f64>,
}

impl Evaluated {
    /// The accuracy as it is printed.
    pub(crate) fn accuracy_text(&self) -> String {
        self.accuracy
            .map_or("-".to_owned(), |accuracy| format!("{accuracy:.4}"))
    }
}

/// Evaluates the current model whenever `interval` has passed since the last time and there is a new one. Ends with the
/// controller.
pub(crate) fn evaluate_at_intervals(controller: ControllerHandle, mut evaluator: Evaluator, interval: Duration) {
    let body = move || {
        let mut last_version = None;
        loop {
            thread::sleep(interval);
            let current = controller.inspect_blocking(|controller, now| {
                let central = controller.central();
                (
                    central.stamp().version,
                    controller.samples_in_model(),
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
            let Evaluated { loss, accuracy } = evaluator.evaluate(&parameters);
            let point = EvaluationPoint {
                samples,
                elapsed_seconds: now.as_micros() as f64 / 1e6,
                version,
                accuracy,
                loss,
            };
            if controller.tell_blocking(Event::Evaluated(point)).is_err() {
                return;
            }
        }
    };
    // Without a thread there is no evaluation; the run goes on, and the log says so.
    if let Err(error) = thread::Builder::new().name("evaluation".to_owned()).spawn(body) {
        tracing::error!("no thread for evaluations: {error}");
    }
}
