//! The sequential baseline: one model, one optimizer, and every gradient computed on the newest model.

use anyhow::{Context, Result};
use bsp::central::ServerOptimizer as _;
use nn::Scratch;
use nn::data::draw::draw;
use nn::data::minibatch::MinibatchBuffer;
use nn::random::MinibatchKey;
use run::Run;
use run::central::ServerOptimizer;

/// The minibatches are those of the first volunteer's first ML module, so that lockstep agrees bit for bit.
const SESSION: u64 = 1;
const ML_MODULE: u32 = 0;

/// A run without a BSP system.
pub(crate) struct SequentialTraining {
    run: Run,
    optimizer: ServerOptimizer,
    parameters: Vec<f32>,
    /// The mean gradient of a step's samples, once it is whole.
    mean: Vec<f32>,
    workspace: Workspace,
    /// The number of the next minibatch.
    next_minibatch: u64,
    /// Samples that the model was trained on.
    trained: u64,
}

/// Memory for one minibatch and its gradient.
struct Workspace {
    buffer: MinibatchBuffer,
    scratch: Scratch,
    gradient: Vec<f32>,
}

impl SequentialTraining {
    /// The beginning of a run.
    pub(crate) fn new(run: &Run) -> SequentialTraining {
        let Run {
            run_file,
            dataset,
            model,
        } = run;
        let minibatch = run_file.training.minibatch;
        let parameters = model.initial_parameters(run_file.seed);
        SequentialTraining {
            optimizer: ServerOptimizer::new(run_file, parameters.len()),
            mean: vec![0.0; parameters.len()],
            workspace: Workspace {
                buffer: MinibatchBuffer::new(&dataset.format, minibatch),
                scratch: model.scratch(minibatch),
                gradient: vec![0.0; parameters.len()],
            },
            parameters,
            next_minibatch: 0,
            trained: 0,
            run: run.clone(),
        }
    }

    /// The model: a value for each parameter, in the model's order.
    pub(crate) fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The number of samples that the model was trained on.
    pub(crate) fn trained(&self) -> u64 {
        self.trained
    }

    /// One step of the optimizer along the mean gradient of `batch` samples, rounded down to whole minibatches, but at
    /// least one.
    ///
    /// # Errors
    /// A run without training samples.
    pub(crate) fn step(&mut self, batch: u64) -> Result<()> {
        let minibatch = self.run.run_file.training.minibatch as u64;
        let minibatches = (batch / minibatch).max(1);
        for part in 0..minibatches {
            self.compute_gradient()?;
            let (mean, gradient) = (&mut self.mean, &self.workspace.gradient);
            if part == 0 {
                mean.copy_from_slice(gradient);
            } else {
                mean.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
            }
        }
        let batch = minibatches * minibatch;
        let scale = (1.0 / batch as f64) as f32;
        self.mean.iter_mut().for_each(|value| *value *= scale);
        self.trained += batch;
        self.optimizer.step(&mut self.parameters, &self.mean, self.trained, 1.0);
        Ok(())
    }

    /// Computes the gradient of the next minibatch, summed over its samples.
    fn compute_gradient(&mut self) -> Result<()> {
        let Run {
            run_file,
            dataset,
            model,
        } = &self.run;
        let Workspace {
            buffer,
            scratch,
            gradient,
        } = &mut self.workspace;
        let key = MinibatchKey {
            run_seed: run_file.seed,
            session: SESSION,
            ml_module: ML_MODULE,
            step: self.next_minibatch,
        };
        let drawn = draw(&key, &dataset.shards, run_file.training.minibatch, buffer)
            .context("the run has no training samples")?;
        model.gradient(&self.parameters, &drawn, gradient, scratch);
        self.next_minibatch += 1;
        Ok(())
    }
}
