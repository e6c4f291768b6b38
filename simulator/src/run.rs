//! A run to its end, with evaluations on the way.

use bsp::time::Time;

use crate::gradients::Gradients;
use crate::observer::Observer;
use crate::world::World;

/// The end of a run that does not reach its aim before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stop {
    /// The samples in the model at the end.
    pub samples: u64,
    /// The time of the end.
    pub at: Time,
}

/// An evaluation of the model at some time; `E` is its result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point<E> {
    /// Samples in the model.
    pub samples: u64,
    /// The time.
    pub at: Time,
    /// The model's version.
    pub version: u64,
    /// The result.
    pub evaluated: E,
}

/// Lets a run go on until `is_aim` is true of an evaluation, or until its end. The model is evaluated at each superstep
/// that passes a multiple of `every_samples`, and at the end. Evaluating takes no virtual time.
pub fn run<G, O, E>(
    world: &mut World<G, O>,
    stop: Stop,
    every_samples: u64,
    mut evaluate: impl FnMut(&[f32]) -> E,
    is_aim: impl Fn(&E) -> bool,
) -> Vec<Point<E>>
where
    G: Gradients + 'static,
    O: Observer + 'static,
{
    let every_samples = every_samples.max(1);
    let mut points: Vec<Point<E>> = Vec::new();
    let mut next = every_samples;
    let mut point = |world: &World<G, O>| Point {
        samples: world.samples_in_model(),
        at: world.now,
        version: world.central.stamp().version,
        evaluated: evaluate(world.central.model()),
    };
    while !world.central.phase().has_diverged() && world.samples_in_model() < stop.samples {
        if !world.step(stop.at) {
            world.now = stop.at;
            break;
        }
        let samples = world.samples_in_model();
        if samples >= next {
            next = samples - samples % every_samples + every_samples;
            points.push(point(world));
            if points.last().is_some_and(|last| is_aim(&last.evaluated)) {
                return points;
            }
        }
    }
    let version = world.central.stamp().version;
    if points.last().is_none_or(|last| last.version != version) {
        points.push(point(world));
    }
    points
}
