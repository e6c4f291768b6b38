//! What computes gradients in a simulation: it begins one, virtual time passes, and it finishes it.

use std::sync::{Arc, Weak};

use bsp::ml_module::Outcome;
use bsp::ml_module::working_copy::LocalOptimizer;
use bsp::protocol::message::SessionId;
use bsp::shared_memory::ModelStamp;

/// Which gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GradientName {
    /// Whose.
    pub session: SessionId,
    /// Of which of its ML modules.
    pub ml_module: u16,
    /// In which of that one's steps.
    pub step: u64,
}

/// What computes gradients. What comes out follows from a gradient's name and model alone.
pub trait Gradients {
    /// A gradient that has begun. One whose tab is closed is dropped.
    type Begun;

    /// Begins a gradient.
    fn begin(&mut self, name: GradientName, model: Arc<[f32]>) -> Self::Begun;

    /// Finishes it: `take` gets the sum over its samples, which it may change, and what they were.
    fn finish<R>(&mut self, begun: Self::Begun, take: impl FnOnce(&mut [f32], Outcome) -> R) -> R;

    /// How the gradients of an ML module move its working copy, if the run has local steps.
    fn local_optimizer(&self) -> Option<Box<dyn LocalOptimizer>> {
        None
    }
}

/// The models that gradients are being computed on, each once, however many compute on it.
#[derive(Default)]
pub(crate) struct Models(Vec<(ModelStamp, Weak<[f32]>)>);

impl Models {
    pub(crate) fn share(&mut self, stamp: ModelStamp, model: &[f32]) -> Arc<[f32]> {
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
