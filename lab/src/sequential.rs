//! The sequential baseline: one model, one optimizer, and every gradient computed on the newest model.

use std::sync::Arc;

use anyhow::{Context, Result};
use bsp::central::ServerOptimizer as _;
use nn::data::minibatch::MinibatchBuffer;
use nn::data::samples::draw;
use nn::random::MinibatchKey;
use nn::{Model, Scratch};
use run::Run;
use run::central::ServerOptimizer;
use run::dataset::Dataset;

/// The minibatches are those of the first volunteer's first ML module, so that lockstep agrees bit for bit.
const SESSION: u64 = 1;
const ML_MODULE: u32 = 0;

/// A run without a BSP system.
pub(crate) struct SequentialTraining {
    model: Arc<Model>,
    dataset: Arc<Dataset>,
    run_seed: u64,
    minibatch: usize,
    optimizer: ServerOptimizer,
    parameters: Vec<f32>,
    scratch: Scratch,
    buffer: MinibatchBuffer,
    gradient: Vec<f32>,
    sum: Vec<f32>,
    next_step: u64,
    trained: u64,
}

impl SequentialTraining {
    /// The beginning of a run.
    pub(crate) fn new(run: &Run) -> SequentialTraining {
        let (run_file, model, dataset) = (&run.run_file, Arc::clone(&run.model), Arc::clone(&run.dataset));
        let minibatch = run_file.training.minibatch;
        let parameters = model.initial_parameters(run_file.seed);
        SequentialTraining {
            run_seed: run_file.seed,
            minibatch,
            optimizer: ServerOptimizer::new(run_file, parameters.len()),
            scratch: model.scratch(minibatch),
            buffer: MinibatchBuffer::new(&dataset.format, minibatch),
            gradient: vec![0.0; parameters.len()],
            sum: vec![0.0; parameters.len()],
            parameters,
            model,
            dataset,
            next_step: 0,
            trained: 0,
        }
    }

    /// The model.
    pub(crate) fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The number of samples that it was trained on.
    pub(crate) fn trained(&self) -> u64 {
        self.trained
    }

    /// One step of the optimizer along the mean gradient of `batch` samples, rounded down to whole minibatches.
    pub(crate) fn step(&mut self, batch: u64) -> Result<()> {
        let minibatches = (batch / self.minibatch as u64).max(1);
        for part in 0..minibatches {
            let key = MinibatchKey {
                run_seed: self.run_seed,
                session: SESSION,
                ml_module: ML_MODULE,
                step: self.next_step,
            };
            let drawn = draw(&key, &self.dataset.shards, self.minibatch, &mut self.buffer)
                .context("the run has no training samples")?;
            self.model
                .gradient(&self.parameters, &drawn, &mut self.gradient, &mut self.scratch);
            let (sum, gradient) = (&mut self.sum, &self.gradient);
            if part == 0 {
                sum.copy_from_slice(gradient);
            } else {
                sum.iter_mut().zip(gradient).for_each(|(sum, value)| *sum += value);
            }
            self.next_step += 1;
        }
        let batch = minibatches * self.minibatch as u64;
        let scale = (1.0 / batch as f64) as f32;
        self.sum.iter_mut().for_each(|value| *value *= scale);
        self.trained += batch;
        self.optimizer.step(&mut self.parameters, &self.sum, self.trained, 1.0);
        Ok(())
    }
}
