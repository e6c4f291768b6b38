//! A run that diverges: what the server does about it besides the central module.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bsp::central::{Central, Divergence};
use bsp::shared_memory::ModelStamp;
use run::goal::Evaluated;
use run::model_file::About;
use run::{Evaluator, Run};
use tokio::sync::mpsc::WeakSender;

use crate::controller::{Controller, Event};

/// Computes gradients beside the controller, when volunteers say that theirs are not finite.
pub(crate) struct GradientChecker {
    run: Run,
    /// It keeps no controller alive that nobody else needs.
    events: WeakSender<Event>,
    is_at_work: Arc<AtomicBool>,
}

impl GradientChecker {
    /// A checker of this run's gradients.
    pub(crate) fn new(run: Run, events: WeakSender<Event>) -> GradientChecker {
        GradientChecker {
            run,
            events,
            is_at_work: Arc::default(),
        }
    }

    /// Checks the current model, on a thread of its own; the answer is an event.
    pub(crate) fn check(&self, central: &Central) {
        if self.is_at_work.swap(true, Ordering::Relaxed) {
            return;
        }
        let (run, events, is_at_work) = (self.run.clone(), self.events.clone(), Arc::clone(&self.is_at_work));
        let (stamp, parameters) = (central.stamp(), central.model().to_vec());
        let body = move || {
            let are_finite = run.has_finite_gradients(&parameters);
            is_at_work.store(false, Ordering::Relaxed);
            if let Some(events) = events.upgrade() {
                // The run may have ended.
                let _ = events.blocking_send(Event::GradientsChecked { stamp, are_finite });
            }
        };
        if let Err(error) = thread::Builder::new().name("gradient-check".to_owned()).spawn(body) {
            self.is_at_work.store(false, Ordering::Relaxed);
            tracing::error!("no thread to check gradients: {error}");
        }
    }
}

/// A held-out loss this many times that of the first model, which knows nothing, is that of a model that is lost: no
/// example run came near to that at a learning rate with which it learns (docs/decisions/0072).
const LOST: f64 = 20.0;
/// So many evaluations in a row must find a model lost. An optimizer's first steps may be wild.
const LOST_EVALUATIONS: u32 = 5;

/// Judges a run by the evaluations of its models, one after the other.
#[derive(Debug, Default)]
pub(crate) struct EvaluationWatch {
    incarnation: u32,
    /// The loss of the first model, once it was wanted.
    first_loss: Option<f64>,
    /// Evaluations since the last one that did not find the model lost.
    lost: u32,
}

impl EvaluationWatch {
    /// The model `stamp` has done so. Returns how the run has diverged, if it has. `evaluator` finds out how the first
    /// model does, at the first loss that could be too high.
    pub(crate) fn on_evaluated(
        &mut self,
        stamp: ModelStamp,
        evaluated: &Evaluated,
        evaluator: &mut Evaluator,
    ) -> Option<Divergence> {
        let version = stamp.version;
        if !evaluator.is_sound(evaluated) {
            return Some(Divergence::Evaluation { version });
        }
        // A run that has gone back, or a server that has started again, begins anew.
        if stamp.incarnation != self.incarnation {
            (self.incarnation, self.lost) = (stamp.incarnation, 0);
        }
        let first = *self.first_loss.get_or_insert_with(|| evaluator.first_loss());
        self.on_loss(version, evaluated.loss, first)
    }

    fn on_loss(&mut self, version: u64, loss: f64, first: f64) -> Option<Divergence> {
        let times = loss / first.max(f64::MIN_POSITIVE);
        self.lost = if times > LOST { self.lost + 1 } else { 0 };
        (self.lost >= LOST_EVALUATIONS).then_some(Divergence::Lost {
            version,
            times: times as u64,
            evaluations: self.lost,
        })
    }
}

/// Why a run has diverged, and what helps, in a sentence.
pub(crate) fn reason(divergence: Divergence) -> String {
    let hint = match divergence {
        Divergence::Evaluation { version: 0 } | Divergence::Gradients { version: 0 } => {
            "the first model is like that already; look at the data"
        }
        _ => "lower the learning rate",
    };
    format!("{divergence}; {hint}")
}

/// The model that a run leaves, and what its file says of it. Of a run that has diverged that is the best that was
/// evaluated; if there is none, the last version if it is sound, or the first one.
pub(crate) fn result(run: &Run, controller: &Controller) -> (About, Vec<f32>) {
    let (about, parameters) = controller.result(run.run_file.name.clone());
    let is_known_good = controller.central().divergence().is_none() || controller.best().is_some();
    let is_sound = || {
        let mut evaluator = run.evaluator();
        let evaluated = evaluator.evaluate(parameters);
        evaluator.is_sound(&evaluated)
    };
    if is_known_good || is_sound() {
        return (about, parameters.to_vec());
    }
    let first = About {
        version: 0,
        samples: 0,
        ..about
    };
    (first, run.model.initial_parameters(run.run_file.seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_that_stays_far_above_the_first_is_a_divergence_and_one_that_comes_back_is_none() {
        let mut watch = EvaluationWatch::default();
        let mut judge = |losses: &[f64]| losses.iter().filter_map(|loss| watch.on_loss(7, *loss, 2.0)).last();
        assert_eq!(judge(&[3.0, 900.0, 800.0, 700.0, 600.0, 30.0, 900.0, 900.0]), None);
        assert_eq!(judge(&[1.0, 39.0, 39.0, 39.0, 39.0, 39.0, 39.0]), None);
        let lost = judge(&[2000.0, 2010.0, 1990.0, 2000.0, 2002.0]);
        assert_eq!(
            lost.map(|lost| lost.to_string()).as_deref(),
            Some(
                "the held-out loss is 1001 times that of the first model, and has been far above it for 5 \
                 evaluations, until version 7"
            )
        );
    }
}
