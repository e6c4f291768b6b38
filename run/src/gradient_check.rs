//! Whether anybody can still compute gradients of a model: asked when volunteers say that theirs are not finite.

use std::time::{Duration, Instant};

use bsp::ml_module::working_copy::LocalOptimizer;
use nn::data::draw::draw;
use nn::data::minibatch::MinibatchBuffer;
use nn::random::MinibatchKey;
use volunteer::local_steps::InnerOptimizer;

use crate::Run;

/// Minibatches that are drawn.
const MINIBATCHES: u64 = 16;
/// No further one is drawn after this time.
const WITHIN: Duration = Duration::from_secs(10);
/// A contribution sums many gradients. Where a value is larger than this, the sum of a million of them overflows.
const LARGEST: f32 = f32::MAX / (1 << 20) as f32;
/// A session that no volunteer has: minibatches of its own.
const SESSION: u64 = 0;

impl Run {
    /// Whether at least half of the gradients of a few minibatches are finite, so are their losses, and their sum
    /// will be. Under local steps a
    /// working copy moves from one to the next, as a volunteer's does.
    pub fn has_finite_gradients(&self, parameters: &[f32]) -> bool {
        let Run {
            run_file,
            dataset,
            model,
        } = self;
        let training = &run_file.training;
        let mut buffer = MinibatchBuffer::new(&dataset.format, training.minibatch);
        let mut scratch = model.scratch(training.minibatch);
        let mut gradient = vec![0.0; parameters.len()];
        let mut parameters = parameters.to_vec();
        let local_steps = training.local_steps.as_ref();
        let mut inner = local_steps.map(|spec| InnerOptimizer::new(spec, parameters.len()));
        let began = Instant::now();
        let (mut finite, mut drawn) = (0, 0);
        for step in 0..MINIBATCHES {
            let key = MinibatchKey {
                run_seed: run_file.seed,
                session: SESSION,
                ml_module: 0,
                step,
            };
            let Some(minibatch) = draw(&key, &dataset.shards, training.minibatch, &mut buffer) else {
                return true;
            };
            let outcome = model.gradient(&parameters, &minibatch, &mut gradient, &mut scratch);
            drawn += 1;
            if outcome.loss_sum.is_finite() && gradient.iter().all(|value| value.abs() <= LARGEST) {
                finite += 1;
                if let Some(inner) = &mut inner {
                    let samples = u32::try_from(outcome.samples).unwrap_or(u32::MAX);
                    inner.displace(&parameters, &mut gradient, samples);
                    parameters
                        .iter_mut()
                        .zip(&gradient)
                        .for_each(|(own, moved)| *own -= moved);
                }
            }
            if began.elapsed() > WITHIN {
                break;
            }
        }
        2 * finite >= drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_huge_parameters_has_no_finite_gradients_and_a_fresh_one_has() {
        let run = Run::load(None).unwrap();
        let mut parameters = run.model.initial_parameters(1);
        assert!(run.has_finite_gradients(&parameters));
        parameters.iter_mut().for_each(|parameter| *parameter *= 1e30);
        assert!(!run.has_finite_gradients(&parameters));
    }
}
