//! The loop of an ML module without its engine: a state machine over its side of the shared memory. A thread, a tab's
//! worker and a simulation, in which time passes between the two halves of a step, all run this same loop.

use std::ops::Deref;

use super::Outcome;
use super::working_copy::{LocalOptimizer, WorkingCopy};
use crate::protocol::message::Mode;
use crate::shared_memory::{Control, Gradient, MlSide, ModelStamp, NotFinite, PinnedModel, State};

/// The next thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Leave the loop, for good.
    Stop,
    /// Sleep while this is the control.
    Pause(Control),
    /// Sleep until a newer model is published: there is none yet, or in a baseline the barrier is not passed.
    AwaitModel,
    /// Compute a gradient on [`TrainingLoop::model`], then call [`TrainingLoop::finish`].
    Compute(Control),
}

/// The parameters that a gradient is computed on.
pub enum Parameters<'a> {
    /// The model as it was published.
    Held(PinnedModel<'a>),
    /// The ML module's working copy.
    Own(&'a [f32]),
}

impl Deref for Parameters<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Parameters::Held(model) => model,
            Parameters::Own(parameters) => parameters,
        }
    }
}

/// The loop of one ML module.
pub struct TrainingLoop {
    memory: MlSide,
    mode: Mode,
    working_copy: Option<WorkingCopy>,
    next_step: u64,
    /// It has added its one gradient on the model that it holds. (In a baseline no other is due.)
    is_done_with_model: bool,
}

impl TrainingLoop {
    /// A loop that begins with step 0. With `local_steps` the ML module also moves along its own gradients.
    pub fn new(memory: MlSide, mode: Mode, local_steps: Option<Box<dyn LocalOptimizer>>) -> TrainingLoop {
        let working_copy = local_steps.map(|optimizer| WorkingCopy::new(optimizer, memory.parameters()));
        TrainingLoop {
            memory,
            mode,
            working_copy,
            next_step: 0,
            is_done_with_model: false,
        }
    }

    /// Says what to do now. Reads the newest model first.
    pub fn begin(&mut self) -> Next {
        let control = self.memory.control();
        match control.state {
            State::Stop => return Next::Stop,
            State::Pause => return Next::Pause(control),
            State::Run => {}
        }
        if self.memory.has_newer_model() {
            let before = self.stamp();
            match &mut self.working_copy {
                Some(working_copy) => working_copy.follow(&mut self.memory),
                None => self.memory.model().map_or((), drop),
            }
            // After a reconnect the same model may come again.
            self.is_done_with_model &= self.stamp() == before;
        }
        let is_held_back = self.mode.has_barrier() && self.is_done_with_model;
        if is_held_back || self.memory.held_model().is_none() {
            return Next::AwaitModel;
        }
        Next::Compute(control)
    }

    /// The next step, unless its samples are missing.
    pub fn next_step(&self) -> u64 {
        self.next_step
    }

    /// The parameters to compute on; none before the first model.
    pub fn model(&self) -> Parameters<'_> {
        match (&self.working_copy, self.memory.held_model()) {
            (Some(working_copy), _) => Parameters::Own(working_copy.parameters()),
            (None, Some(model)) => Parameters::Held(model),
            (None, None) => Parameters::Own(&[]),
        }
    }

    /// The model that is held. A working copy began from it.
    pub fn stamp(&self) -> Option<ModelStamp> {
        self.memory.held_model().map(|model| model.stamp())
    }

    /// The gradient of step `step` is finished. Under local steps it becomes the displacement that is added.
    ///
    /// # Errors
    /// The gradient is not finite: it was refused, and counted. In a baseline one is still due on this model, or all
    /// would wait for ever.
    pub fn finish(&mut self, step: u64, outcome: Outcome, values: &mut [f32]) -> Result<(), NotFinite> {
        self.next_step = step + 1;
        let gradient = Gradient {
            stamp: self.stamp().unwrap_or_default(),
            step,
            samples: outcome.samples,
            loss_sum: outcome.loss_sum,
        };
        match &mut self.working_copy {
            Some(working_copy) => working_copy.step(&mut self.memory, gradient, values)?,
            None => self.memory.add(values, gradient).map(|_read_out| ())?,
        }
        self.is_done_with_model = true;
        Ok(())
    }

    /// Its side of the shared memory.
    pub fn memory(&self) -> &MlSide {
        &self.memory
    }
}
