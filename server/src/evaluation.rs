//! Evaluation on the held-out samples, on a thread of its own: the controller never waits for it.

use std::thread;
use std::time::{Duration, Instant};

use run::Evaluator;
use run::goal::Evaluated;

use crate::controller::{ControllerHandle, Event};
use crate::divergence::EvaluationWatch;
use crate::history::{EvaluatedModel, EvaluationPoint};

/// After an evaluation its thread rests for at least this many times as long as it computed, so that it takes at most a
/// quarter of one core's time from the controller beside it.
const REST: u32 = 3;

/// Evaluates the current model when there is a new one: first after `interval`, then whenever that has passed since the
/// last evaluation, or [`REST`] times as long as that took if it took long. Ends with the controller.
pub(crate) fn evaluate_at_intervals(controller: ControllerHandle, mut evaluator: Evaluator, interval: Duration) {
    let body = move || {
        let mut last = None;
        let mut rest = interval;
        let mut watch = EvaluationWatch::default();
        loop {
            thread::sleep(rest);
            let current = controller.inspect_blocking(|controller, now| {
                let central = controller.central();
                (
                    central.stamp(),
                    central.totals().samples_in_model,
                    now,
                    central.model().to_vec(),
                )
            });
            let Some((stamp, samples, now, parameters)) = current else {
                return;
            };
            if last == Some(stamp) {
                continue;
            }
            last = Some(stamp);
            let began = Instant::now();
            let evaluated = evaluator.evaluate(&parameters);
            let divergence = watch.on_evaluated(stamp, &evaluated, &mut evaluator);
            let Evaluated { loss, accuracy } = evaluated;
            rest = rest_after(began.elapsed(), interval);
            let point = EvaluationPoint {
                samples,
                elapsed_seconds: now.as_micros() as f64 / 1e6,
                version: stamp.version,
                accuracy,
                loss,
            };
            if controller
                .tell_blocking(Event::Evaluated {
                    model: EvaluatedModel { point, parameters },
                    incarnation: stamp.incarnation,
                    divergence,
                })
                .is_err()
            {
                return;
            }
        }
    };
    // Without a thread there is no evaluation; the run goes on, and the log says so.
    if let Err(error) = thread::Builder::new().name("evaluation".to_owned()).spawn(body) {
        tracing::error!("no thread for evaluations: {error}");
    }
}

fn rest_after(computed: Duration, interval: Duration) -> Duration {
    interval.max(computed.saturating_mul(REST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_evaluation_computes_for_a_quarter_of_the_time_at_most() {
        let seconds = Duration::from_secs;
        assert_eq!(rest_after(seconds(1), seconds(5)), seconds(5));
        assert_eq!(rest_after(seconds(20), seconds(5)), seconds(60));
    }
}
