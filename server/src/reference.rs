//! `superstep reference`: the same model, data, minibatches and optimizer on one thread, without any BSP system: the
//! textbook's loop. A run is measured against it; in lockstep, with one volunteer of one ML module, it must agree bit for bit.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bsp::central::ServerOptimizer as _;
use nn::Minibatch;
use nn::minibatch::MinibatchBuffer;
use nn::samples::Samples;

use crate::cli::ReferenceArguments;
use crate::dataset::Dataset;
use crate::evaluation::Evaluator;
use crate::model_file::{About, model_file, write_whole};
use crate::optimizer::ServerOptimizer;
use crate::run_file::RunFile;

/// The minibatches are those of the first volunteer's first ML module.
const SESSION: u64 = 1;
const ML_MODULE: u32 = 0;

/// Trains, and prints a line for each evaluation.
pub(crate) fn reference(arguments: &ReferenceArguments) -> Result<()> {
    let run_file = match &arguments.run {
        Some(path) => RunFile::load(path)?,
        None => RunFile::digits()?,
    };
    let dataset = Arc::new(Dataset::load(&run_file.dataset, run_file.seed)?);
    let model = Arc::new(run_file.model_for(&dataset.format)?);
    let minibatch = run_file.training.minibatch;
    let goal = run_file.goal();
    ensure!(
        arguments.steps.is_some() || goal.is_some(),
        "the run has no target: say with --steps when to stop"
    );
    let batch = arguments.batch.unwrap_or(run_file.training.superstep_samples);
    ensure!(
        batch > 0 && batch.is_multiple_of(minibatch as u64),
        "--batch {batch}: must be a multiple of the run's minibatch, {minibatch}"
    );

    let samples = Samples::new(dataset.format.clone(), dataset.shards.len(), run_file.seed, SESSION);
    for (index, shard) in dataset.shards.iter().enumerate() {
        samples.set(index, shard.clone())?;
    }
    let mut parameters = model.initial_parameters(run_file.seed);
    let mut optimizer = ServerOptimizer::new(&run_file, parameters.len());
    let mut evaluator = Evaluator::new(Arc::clone(&model), Arc::clone(&dataset));
    let mut scratch = model.scratch(minibatch);
    let mut buffer = MinibatchBuffer::new(&dataset.format, minibatch);
    let mut gradient = vec![0.0; parameters.len()];
    let mut sum = vec![0.0; parameters.len()];

    let began = Instant::now();
    let (mut step, mut trained, mut evaluated) = (0, 0, 0);
    println!("samples\tseconds\tloss\taccuracy");
    for version in 1.. {
        for part in 0..batch / minibatch as u64 {
            let key = samples.key(ML_MODULE, step);
            let drawn: Minibatch<'_> = samples
                .draw(&key, minibatch, &mut buffer)
                .context("the run has no training samples")?;
            model.gradient(&parameters, &drawn, &mut gradient, &mut scratch);
            if part == 0 {
                sum.copy_from_slice(&gradient);
            } else {
                sum.iter_mut().zip(&gradient).for_each(|(sum, value)| *sum += value);
            }
            step += 1;
        }
        let scale = (1.0 / batch as f64) as f32;
        sum.iter_mut().for_each(|value| *value *= scale);
        optimizer.step(&mut parameters, &sum, trained, 1.0);
        trained += batch;
        let is_last = arguments.steps.is_some_and(|steps| version >= steps);
        if !is_last && trained - evaluated < arguments.evaluate_every {
            continue;
        }
        evaluated = trained;
        let evaluation = evaluator.evaluate(&parameters);
        let seconds = began.elapsed().as_secs_f64();
        println!(
            "{trained}\t{seconds:.1}\t{:.4}\t{}",
            evaluation.loss,
            evaluation.accuracy_text()
        );
        ensure!(
            evaluation.loss.is_finite(),
            "the model has diverged after {trained} samples; lower the learning rate"
        );
        if is_last || (arguments.steps.is_none() && goal.is_some_and(|goal| goal.is_reached_by(&evaluation))) {
            if let Some(path) = &arguments.model {
                let about = About {
                    run: run_file.name.clone(),
                    version,
                    samples: trained,
                };
                write_whole(path, &model_file(&model, &parameters, dataset.legend.as_ref(), &about)?)?;
            }
            return Ok(());
        }
    }
    Ok(())
}
