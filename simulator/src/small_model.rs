//! A model of a few parameters whose gradients follow from their names, and an optimizer: what runs train in which only
//! the way of the gradients matters.

use std::sync::Arc;

use bsp::central::{OptimizerMemory, RecordError, ServerOptimizer};
use bsp::ml_module::Outcome;
use bsp::ml_module::working_copy::LocalOptimizer;
use bsp::protocol::message::SessionId;

use crate::gradients::{GradientName, Gradients};
use crate::random::mix;

/// Parameters of the simulated models.
pub const PARAMETERS: usize = 5;
/// Samples of a minibatch, at most.
pub const MINIBATCH: u64 = 8;

/// The rule by which a gradient follows from its name and the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmallModel {
    /// Small whole numbers that depend on the gradient's name alone, so that every sum is exact: a read-out's payload
    /// can be compared, bit for bit, with the sum over the steps that its header lists.
    Counting,
    /// Gradients of (m − x)²/2 around samples x near 3: a model that can be learned.
    Quadratic,
    /// The same, in a run with local steps: ML modules move along them by themselves.
    Descending,
}

/// The learning rate of a local step: so low that the trace of a lost or doubled step outlasts hundreds of steps.
pub const LOCAL_RATE: f32 = 0.002;

/// Which gradient: session, ML module and step.
pub type Name = (SessionId, u16, u64);

/// A gradient's name as a tuple.
pub fn name(gradient: GradientName) -> Name {
    (gradient.session, gradient.ml_module, gradient.step)
}

fn hash((session, ml_module, step): Name) -> u64 {
    mix(session.0 ^ mix(u64::from(ml_module) ^ mix(step)))
}

/// Samples of a gradient.
pub fn samples(name: Name) -> u32 {
    1 + (hash(name) % MINIBATCH) as u32
}

impl SmallModel {
    /// Writes the sum of the minibatch's gradients, and returns the sum of its losses.
    pub fn compute(self, name: Name, model: &[f32], gradient: &mut [f32]) -> f64 {
        let (hash, samples) = (hash(name), samples(name));
        match self {
            SmallModel::Counting => {
                let values = [
                    f64::from(samples),
                    1.0,
                    (hash >> 32 & 63) as f64,
                    -((hash >> 40 & 63) as f64),
                ];
                let values = values.into_iter().chain(std::iter::repeat(1.0));
                gradient
                    .iter_mut()
                    .zip(values)
                    .for_each(|(to, value)| *to = value as f32);
                f64::from(samples) * 0.5
            }
            SmallModel::Quadratic | SmallModel::Descending => {
                let mut loss = 0.0;
                for (parameter, (to, at)) in gradient.iter_mut().zip(model).enumerate() {
                    *to = 0.0;
                    for sample in 0..u64::from(samples) {
                        let noise = mix(hash ^ mix(parameter as u64 ^ sample << 8)) as f64 / u64::MAX as f64 - 0.5;
                        let away = *at - (3.0 + 0.1 * noise) as f32;
                        *to += away;
                        loss += f64::from(away * away) / 2.0;
                    }
                }
                loss
            }
        }
    }
}

impl Gradients for SmallModel {
    type Begun = (Name, Arc<[f32]>);

    fn begin(&mut self, gradient: GradientName, model: Arc<[f32]>) -> Self::Begun {
        (name(gradient), model)
    }

    fn finish<R>(&mut self, (name, model): Self::Begun, take: impl FnOnce(&mut [f32], Outcome) -> R) -> R {
        let mut gradient = [0.0; PARAMETERS];
        let loss_sum = self.compute(name, &model, &mut gradient);
        let samples = samples(name);
        take(&mut gradient, Outcome { samples, loss_sum })
    }

    fn local_optimizer(&self) -> Option<Box<dyn LocalOptimizer>> {
        (*self == SmallModel::Descending).then(|| Box::new(Descent) as Box<dyn LocalOptimizer>)
    }
}

/// Plain descent as the inner optimizer.
struct Descent;

impl LocalOptimizer for Descent {
    fn displace(&mut self, _: &[f32], gradient: &mut [f32], samples: u32) {
        for value in gradient {
            *value *= LOCAL_RATE / samples as f32;
        }
    }
}

/// The values of a payload that is not encoded.
pub fn floats(payload: &[u8]) -> impl Iterator<Item = f32> + '_ {
    payload.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

/// Plain stochastic gradient descent.
pub struct Sgd {
    /// The learning rate.
    pub rate: f32,
}

impl ServerOptimizer for Sgd {
    fn step(&mut self, model: &mut [f32], gradient: &[f32], _: u64, rate_factor: f32) {
        for (parameter, slope) in model.iter_mut().zip(gradient) {
            *parameter -= self.rate * rate_factor * slope;
        }
    }

    fn record(&self) -> OptimizerMemory {
        OptimizerMemory::default()
    }

    fn load(&mut self, _: OptimizerMemory) -> Result<(), RecordError> {
        Ok(())
    }
}
