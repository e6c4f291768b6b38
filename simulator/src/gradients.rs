//! The computing of gradients in a simulation: one begins, virtual time passes, and it finishes.

use std::sync::{Arc, Weak};

use bsp::ml_module::Outcome;
use bsp::ml_module::training_loop::Parameters;
use bsp::ml_module::working_copy::LocalOptimizer;
use bsp::protocol::message::SessionId;
use bsp::shared_memory::ModelStamp;

/// The name of a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GradientName {
    /// The session.
    pub session: SessionId,
    /// The ML module of the session.
    pub ml_module: u16,
    /// The step of the ML module.
    pub step: u64,
}

/// Computes gradients. The result follows from a gradient's name and model alone.
pub trait Gradients {
    /// A gradient that has begun. It is dropped if its tab is closed.
    type Begun;

    /// Begins a gradient.
    fn begin(&mut self, name: GradientName, model: Arc<[f32]>) -> Self::Begun;

    /// Finishes a gradient: `take` gets the sum over its samples, which it may change, and its outcome.
    fn finish<R>(&mut self, begun: Self::Begun, take: impl FnOnce(&mut [f32], Outcome) -> R) -> R;

    /// The optimizer that moves an ML module's working copy, if the run has local steps.
    fn local_optimizer(&self) -> Option<Box<dyn LocalOptimizer>> {
        None
    }
}

/// The computing of gradients, and the models that they are computed on.
pub(crate) struct Computing<G> {
    pub(crate) gradients: G,
    models: Models,
}

impl<G: Gradients> Computing<G> {
    /// No gradient has begun yet.
    pub(crate) fn new(gradients: G) -> Computing<G> {
        Computing {
            gradients,
            models: Models::default(),
        }
    }

    /// Begins a gradient on these parameters.
    pub(crate) fn begin(&mut self, name: GradientName, parameters: &Parameters<'_>) -> G::Begun {
        let model = match parameters {
            Parameters::Held(model) => self.models.share(model.stamp(), model),
            Parameters::Own(parameters) => Arc::from(*parameters),
        };
        self.gradients.begin(name, model)
    }
}

/// The models on which gradients are computed. Each is stored once.
#[derive(Default)]
struct Models(Vec<(ModelStamp, Weak<[f32]>)>);

impl Models {
    fn share(&mut self, stamp: ModelStamp, model: &[f32]) -> Arc<[f32]> {
        let newest_first = self.0.iter().rev();
        let known = newest_first
            .filter(|(known, _)| *known == stamp)
            .find_map(|(_, model)| model.upgrade());
        known.unwrap_or_else(|| {
            let shared: Arc<[f32]> = model.into();
            self.0.retain(|(_, model)| model.strong_count() > 0);
            self.0.push((stamp, Arc::downgrade(&shared)));
            shared
        })
    }
}
