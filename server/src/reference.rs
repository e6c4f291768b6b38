//! `superstep reference`: the sequential baseline. It trains with the same model, data, minibatches and optimizer on
//! one thread, without a BSP system. Runs are measured against it. In lockstep, with one volunteer of one ML module, a
//! run must agree with it bit for bit.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, ensure};
use run::Run;

use crate::cli::ReferenceArguments;
use crate::evaluation::Evaluator;
use crate::model_file::{About, model_file, write_whole};
use crate::sequential::SequentialTraining;

/// Trains, and prints a line for each evaluation.
pub(crate) fn reference(arguments: &ReferenceArguments) -> Result<()> {
    let Run {
        run_file,
        dataset,
        model,
    } = Run::load(arguments.run.as_deref())?;
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

    let mut sequential = SequentialTraining::new(&run_file, Arc::clone(&model), Arc::clone(&dataset));
    let mut evaluator = Evaluator::new(Arc::clone(&model), Arc::clone(&dataset)).limited(run_file.evaluation.samples);
    let began = Instant::now();
    let mut evaluated = 0;
    println!("samples\tseconds\tloss\taccuracy");
    for version in 1.. {
        sequential.step(batch)?;
        let trained = sequential.trained();
        let is_last = arguments.steps.is_some_and(|steps| version >= steps);
        if !is_last && trained - evaluated < arguments.evaluate_every {
            continue;
        }
        evaluated = trained;
        let evaluation = evaluator.evaluate(sequential.parameters());
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
                write_whole(
                    path,
                    &model_file(&model, sequential.parameters(), dataset.legend.as_ref(), &about)?,
                )?;
            }
            return Ok(());
        }
    }
    Ok(())
}
