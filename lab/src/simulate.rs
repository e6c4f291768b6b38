//! `superstep simulate`: whole runs in virtual time. The state machines, the model and its gradients are real; the
//! volunteers are made up from a seed. See the crate `simulator`, and `scenarios/README.md`.

mod chart;
mod report;
mod scenario;

use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bsp::central;
use bsp::protocol::message::RunId;
use bsp::time::Time;
use run::central::{ServerOptimizer, central_config};
use run::goal::Evaluated;
use run::{Evaluator, Run, out_folder};
use simulator::engine::{Engine, Task};
use simulator::random::{Fingerprint, mix};
use simulator::run::{Point, Stop, run};
use simulator::volunteers::populate;
use simulator::{Nobody, RunStats, World};

use crate::output::print;
use crate::sequential::SequentialTraining;
use scenario::{Scenario, Variant};

/// One variant with one draw of the volunteers, from its beginning to its end.
struct FinishedRun {
    /// The variant's place in the scenario.
    variant: usize,
    /// Counted from 1.
    draw: u64,
    /// `None` for the sequential baseline, which has no volunteers.
    stats: Option<RunStats>,
    /// Its evaluations.
    points: Vec<Point<Evaluated>>,
    /// Samples in the model, and virtual seconds, at the evaluation that found the aim reached.
    reached: Option<(u64, f64)>,
    end: End,
}

/// Where a run stood at its end.
struct End {
    /// Samples in the model.
    samples: u64,
    /// Virtual time.
    took: Duration,
    has_diverged: bool,
    /// Of the model's bits.
    fingerprint: Fingerprint,
}

/// Runs a scenario and prints a table of its runs. It writes the table, all runs as CSV and a chart as SVG into `out`.
/// Gradients are computed on this many threads, by default as many as there are cores; they change no result.
///
/// # Errors
/// A scenario or a run that can't be loaded, and reports that can't be written.
pub fn simulate(scenario: &Path, out: Option<&Path>, threads: Option<usize>) -> Result<()> {
    let scenario = Scenario::load(scenario)?;
    let threads = threads.filter(|threads| *threads > 0).unwrap_or_else(|| {
        // A machine that does not say how many cores it has computes on one thread.
        thread::available_parallelism().map_or(1, usize::from)
    });
    if let Some(directory) = out {
        out_folder::probe(directory, 0)
            .map_err(|error| anyhow!("{error}: {}; choose another folder with --out", error.source))?;
    }
    let finished = finish(&scenario, threads)?;
    let mut table = report::table(&scenario, &finished);
    table += &format!("\nfingerprint {:016x}\n", fingerprint(&finished));
    // The files are written, even if this can't be printed.
    let printed = print(&table);
    if let Some(directory) = out {
        let place = || directory.display().to_string();
        std::fs::create_dir_all(directory).with_context(place)?;
        let [md, csv, svg] = ["md", "csv", "svg"].map(|kind| directory.join(format!("{}.{kind}", scenario.name)));
        std::fs::write(&md, &table).with_context(|| md.display().to_string())?;
        std::fs::write(&csv, report::csv(&scenario, &finished)?).with_context(|| csv.display().to_string())?;
        std::fs::write(&svg, chart::svg(&scenario, &finished)?).with_context(|| svg.display().to_string())?;
        tracing::info!("wrote {} and {}", csv.display(), svg.display());
    }
    Ok(printed?)
}

/// All variants with all draws, in this order.
fn finish(scenario: &Scenario, threads: usize) -> Result<Vec<FinishedRun>> {
    finish_on(Run::new(scenario.run.clone())?, scenario, threads)
}

/// The same, on a run that is loaded already.
fn finish_on(run: Run, scenario: &Scenario, threads: usize) -> Result<Vec<FinishedRun>> {
    let mut evaluators: Vec<Evaluator> = (0..threads).map(|_| run.evaluator()).collect();
    let simulation = Simulation { threads, scenario, run };
    let mut finished = Vec::new();
    for (number, variant) in scenario.variants.iter().enumerate() {
        let began = Instant::now();
        if variant.is_sequential {
            finished.append(&mut simulation.train_all_sequentially(number, variant, &mut evaluators)?);
            tracing::info!("{}: computed in {:.1} s", variant.name, began.elapsed().as_secs_f64());
            continue;
        }
        for draw in 1..=scenario.draws {
            let began = Instant::now();
            let one = simulation.train(number, variant, draw, &mut evaluators)?;
            tracing::info!(
                "{} {draw}/{}: {} samples in {:.0} virtual seconds, computed in {:.1} s{}",
                variant.name,
                scenario.draws,
                one.end.samples,
                one.end.took.as_secs_f64(),
                began.elapsed().as_secs_f64(),
                if one.end.has_diverged { "; it has diverged" } else { "" }
            );
            finished.push(one);
        }
    }
    Ok(finished)
}

/// What all runs of a scenario share.
struct Simulation<'a> {
    threads: usize,
    scenario: &'a Scenario,
    run: Run,
}

impl Simulation<'_> {
    /// The run of a variant in a draw: each draw has other first parameters and minibatches too, on the same data.
    fn run_of(&self, variant: &Variant, draw: u64) -> Run {
        let mut run_file = variant.run.clone();
        run_file.seed = run_file.seed.wrapping_add(draw - 1);
        Run {
            run_file,
            ..self.run.clone()
        }
    }

    /// A run with volunteers. There is an evaluator for each thread.
    fn train(&self, number: usize, variant: &Variant, draw: u64, evaluators: &mut [Evaluator]) -> Result<FinishedRun> {
        let Run {
            run_file,
            dataset,
            model,
        } = self.run_of(variant, draw);
        let task = Task {
            model: Arc::clone(&model),
            format: dataset.format.clone(),
            shards: Arc::clone(&dataset.shards),
            run_seed: run_file.seed,
            minibatch: run_file.training.minibatch,
            local_steps: run_file.training.local_steps.clone(),
        };
        let engine = Engine::new(&task, self.threads).context("a thread can't be started")?;
        let parameters = model.initial_parameters(run_file.seed);
        let optimizer = Box::new(ServerOptimizer::new(&run_file, parameters.len()));
        // Sessions of closed tabs expire late. Here they must not use up the room of new ones, however often tabs come
        // and go.
        let config = central::Config {
            max_sessions: usize::MAX,
            ..central_config(&run_file, model.spec().hash(), RunId(1))
        };
        // All variants get the same draws.
        let seed = mix(self.scenario.seed ^ mix(draw));
        let mut world = World::new(seed, config, parameters, optimizer, engine, Nobody);
        populate(&mut world, &self.scenario.volunteers);
        let course = &self.scenario.course;
        let stop = Stop {
            samples: course.stop_samples,
            at: Time::ZERO + course.stop_after,
        };
        let points = run(
            &mut world,
            stop,
            course.evaluate_every_samples,
            |model| Evaluator::evaluate_together(evaluators, model),
            |evaluated| course.is_goal_reached_by(evaluated),
        );
        let reached = points.last().filter(|last| course.is_goal_reached_by(&last.evaluated));
        Ok(FinishedRun {
            variant: number,
            draw,
            stats: Some(world.stats()),
            reached: reached.map(|last| (last.samples, seconds(last.at))),
            points,
            end: End {
                samples: world.samples_in_model(),
                took: world.now.since(Time::ZERO),
                has_diverged: world.central.phase().has_diverged(),
                fingerprint: fingerprint_of(world.central.model()),
            },
        })
    }

    /// The sequential baseline of all draws. As many run at a time as there are threads.
    fn train_all_sequentially(
        &self,
        number: usize,
        variant: &Variant,
        evaluators: &mut [Evaluator],
    ) -> Result<Vec<FinishedRun>> {
        let mut finished = Vec::new();
        let draws: Vec<u64> = (1..=self.scenario.draws).collect();
        for draws in draws.chunks(evaluators.len()) {
            let together = thread::scope(|scope| {
                let trainings = draws.iter().zip(evaluators.iter_mut());
                let trainings = trainings.map(|(draw, evaluator)| {
                    scope.spawn(move || self.train_sequentially(number, variant, *draw, evaluator))
                });
                let trainings: Vec<_> = trainings.collect();
                let joined = trainings.into_iter().map(|training| match training.join() {
                    Ok(one) => one,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
                joined.collect::<Result<Vec<FinishedRun>>>()
            });
            finished.append(&mut together?);
        }
        Ok(finished)
    }

    /// The sequential baseline, with the batch that a superstep aims at and the same evaluations.
    fn train_sequentially(
        &self,
        number: usize,
        variant: &Variant,
        draw: u64,
        evaluator: &mut Evaluator,
    ) -> Result<FinishedRun> {
        let run = self.run_of(variant, draw);
        let (course, batch) = (&self.scenario.course, run.run_file.training.superstep_samples);
        let every = course.evaluate_every_samples;
        let mut sequential = SequentialTraining::new(&run);
        let mut points: Vec<Point<Evaluated>> = Vec::new();
        let (mut next, mut reached, mut has_diverged) = (every, None, false);
        for version in 1.. {
            sequential.step(batch)?;
            let samples = sequential.trained();
            let is_over = samples >= course.stop_samples;
            if samples < next && !is_over {
                continue;
            }
            next = samples - samples % every + every;
            let evaluated = evaluator.evaluate(sequential.parameters());
            points.push(Point {
                samples,
                at: Time::ZERO,
                version,
                evaluated,
            });
            has_diverged = sequential.parameters().iter().any(|parameter| !parameter.is_finite());
            if course.is_goal_reached_by(&evaluated) {
                reached = Some((samples, f64::NAN));
            }
            if is_over || has_diverged || reached.is_some() {
                break;
            }
        }
        Ok(FinishedRun {
            variant: number,
            draw,
            stats: None,
            points,
            reached,
            end: End {
                samples: sequential.trained(),
                took: Duration::ZERO,
                has_diverged,
                fingerprint: fingerprint_of(sequential.parameters()),
            },
        })
    }
}

fn fingerprint_of(model: &[f32]) -> Fingerprint {
    let mut fingerprint = Fingerprint::default();
    fingerprint.add_model(model);
    fingerprint
}

fn seconds(at: Time) -> f64 {
    at.since(Time::ZERO).as_secs_f64()
}

/// Two machines get the same number only if every run gave the same bits on both.
fn fingerprint(finished: &[FinishedRun]) -> u64 {
    let mut all = Fingerprint::default();
    for one in finished {
        all.add(one.end.fingerprint.value());
        all.add(one.end.samples);
        all.add(one.end.took.as_micros() as u64);
        for point in &one.points {
            all.add(point.samples);
            all.add(point.at.as_micros());
            all.add(point.version);
            all.add_f64(point.evaluated.loss);
            all.add_f64(point.evaluated.accuracy.unwrap_or(-1.0));
        }
        if let Some(stats) = &one.stats {
            for count in [
                stats.computed,
                stats.accepted,
                stats.refused,
                stats.lost,
                stats.supersteps,
                stats.bytes_up,
                stats.bytes_down,
            ] {
                all.add(count);
            }
            all.add_f64(stats.staleness_sum);
            all.add_f64(stats.weight_sum);
            all.add_f64(stats.alone);
        }
    }
    all.value()
}

#[cfg(test)]
mod fingerprints;
#[cfg(test)]
mod tests;
