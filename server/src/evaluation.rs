//! Evaluation on the held-out samples, on a thread of its own: the controller never waits for it.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nn::Model;
use nn::model::{Evaluation, Minibatch};
use nn::scratch::Scratch;

use crate::controller::{ControllerHandle, Event};
use crate::dataset::Dataset;
use crate::history::EvaluationPoint;

/// Held-out samples that are evaluated at a time.
const BATCH: usize = 64;

/// Evaluates models on the held-out samples. Keeps its memory from one to the next.
pub(crate) struct Evaluator {
    model: Arc<Model>,
    dataset: Arc<Dataset>,
    scratch: Scratch,
    inputs: Vec<f32>,
    labels: Vec<u32>,
}

impl Evaluator {
    /// An evaluator of this model on this data.
    pub(crate) fn new(model: Arc<Model>, dataset: Arc<Dataset>) -> Evaluator {
        let scratch = model.scratch(BATCH);
        Evaluator {
            model,
            dataset,
            scratch,
            inputs: Vec::new(),
            labels: Vec::new(),
        }
    }

    /// How the parameters do on all held-out samples.
    pub(crate) fn evaluate(&mut self, parameters: &[f32]) -> Evaluation {
        let Dataset {
            format,
            test_inputs,
            test_labels,
            ..
        } = &*self.dataset;
        let mut total = Evaluation {
            samples: 0,
            loss_sum: 0.0,
            correct: 0,
        };
        for (bytes, labels) in test_inputs
            .chunks(BATCH * format.elements())
            .zip(test_labels.chunks(BATCH))
        {
            self.inputs.clear();
            self.inputs.extend(bytes.iter().map(|byte| format.input(*byte)));
            self.labels.clear();
            self.labels.extend(labels.iter().map(|label| u32::from(*label)));
            let batch = Minibatch {
                inputs: &self.inputs,
                labels: &self.labels,
                key: None,
            };
            let part = self.model.evaluate(parameters, &batch, &mut self.scratch);
            total.samples += part.samples;
            total.loss_sum += part.loss_sum;
            total.correct += part.correct;
        }
        total
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
            let evaluation = evaluator.evaluate(&parameters);
            let of_all = evaluation.samples.max(1) as f64;
            let point = EvaluationPoint {
                samples,
                elapsed_seconds: now.as_micros() as f64 / 1e6,
                version,
                accuracy: evaluation.correct as f64 / of_all,
                loss: evaluation.loss_sum / of_all,
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
