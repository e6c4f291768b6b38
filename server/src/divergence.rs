//! A run that diverges: what the server does about it besides the central module.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bsp::central::{Central, Divergence};
use run::Run;
use run::model_file::About;
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
