//! The gradient of a step, computed by `nn` on the CPU.

use std::sync::Arc;

use bsp::ml_module::{Engine, Outcome};
use bsp::protocol::message::Mode;
use nn::Model;
use nn::data::minibatch::MinibatchBuffer;
use nn::data::samples::Samples;
use nn::scratch::Scratch;

/// The engine of one ML module. It allocates nothing after the first step.
pub struct CpuEngine {
    model: Arc<Model>,
    samples: Arc<Samples>,
    ml_module: u32,
    minibatch: usize,
    mode: Mode,
    buffer: MinibatchBuffer,
    scratch: Scratch,
}

impl CpuEngine {
    /// The engine of ML module `ml_module`.
    pub fn new(model: Arc<Model>, samples: Arc<Samples>, ml_module: u32, minibatch: usize, mode: Mode) -> CpuEngine {
        let scratch = model.scratch(minibatch);
        let buffer = MinibatchBuffer::new(samples.format(), minibatch);
        CpuEngine {
            model,
            samples,
            ml_module,
            minibatch,
            mode,
            buffer,
            scratch,
        }
    }
}

impl Engine for CpuEngine {
    fn next_step(&mut self, step: u64) -> Option<u64> {
        let next = self.samples.next_drawable(self.ml_module, step);
        // A baseline is compared with sequential training, which leaves no step out; it waits for its samples.
        next.filter(|next| self.mode == Mode::Decoupled || *next == step)
    }

    fn gradient(&mut self, parameters: &[f32], step: u64, gradient: &mut [f32]) -> Outcome {
        let key = self.samples.key(self.ml_module, step);
        let Some(minibatch) = self.samples.draw(&key, self.minibatch, &mut self.buffer) else {
            // `next_step` names only steps whose samples are there; without them there is nothing to add.
            gradient.fill(0.0);
            return Outcome {
                samples: 0,
                loss_sum: 0.0,
            };
        };
        let outcome = self.model.gradient(parameters, &minibatch, gradient, &mut self.scratch);
        Outcome {
            samples: outcome.samples as u32,
            loss_sum: outcome.loss_sum,
        }
    }
}
