//! The shared memory module (104), between the local BSP module (103) and the ML modules (105) of one tab.
//!
//! # The protocol
//!
//! One writer on each side; no side waits for the other.
//!
//! | what | written by | when | visible to the other side by |
//! |---|---|---|---|
//! | model slot | local | it is neither current nor pinned | `current` (Release store, Acquire load) |
//! | `current` | local | the slot is whole | itself |
//! | pin of each ML module | ML | between its two looks at `current` | a SeqCst fence on each side |
//! | active buffer | ML | under the lease | giving it back (Release), a look after the flip (Acquire) |
//! | retired buffer | local | flipped, and not leased any more | flip (Release), lease (Acquire) |
//! | lease word: counter | ML | lease: to odd; giving back: to even | itself; only read-modify-writes write it |
//! | lease word: index of the active buffer | local | flip | itself; only read-modify-writes write it |
//! | control word: state, duty, epoch | local | any time | itself; the epoch (Release, Acquire) shows the publish |
//! | control word: flag | ML | while it waits for a publish | itself |
//! | progress | ML | any time | Relaxed; nothing depends on it |
//!
//! The promises that follow, each checked by the loom models of the named file:
//!
//! - A reader always sees one whole version; a publish never waits (`model_slots.rs`).
//! - A read-out holds whole gradients only, its header says exactly which, and each gradient is in exactly one
//!   read-out (`aggregate.rs`).
//! - A buffer that an ML module died in is discarded and counted, never read (`aggregate.rs`).
//! - A sleeper wakes when the event happens that it waits for (`control.rs`).
//!
//! The module holds no pointers into itself. State that two threads share lies behind an `Arc`. Each side is an owned
//! value, which moves to its thread, or in the browser travels as the address of a `Box`. A side that died with its
//! thread is never dropped, so its memory stays; the tab then starts afresh.

mod aggregate;
mod control;
mod finite;
mod futex;
mod header;
mod model_slots;
mod progress;
mod sync;

#[cfg(all(test, not(feature = "loom")))]
mod threads;

use std::sync::Arc;
use std::time::Duration;

pub use self::aggregate::Taken;
pub use self::control::{Control, State};
pub use self::header::{Gradient, Header, MAX_RUNS, StepRun};
pub use self::model_slots::{ModelStamp, PinnedModel};
pub use self::progress::{Phase, PhaseTimes, Progress};

use self::aggregate::{Adder, Discarded, Taker, aggregate};
use self::control::{ControlSetter, ControlWaiter, control_word};
use self::finite::all_finite;
use self::model_slots::{Publisher, Reader, model_slots};
use self::progress::Counters;

/// The local BSP module's side of the shared memory of all ML modules of its tab. It belongs to one thread at a time.
///
/// When it is dropped, its ML modules are told to stop.
pub struct LocalSide {
    parameters: usize,
    publisher: Publisher,
    modules: Vec<LocalModule>,
}

/// The local side's ends of one ML module's memory.
struct LocalModule {
    taker: Taker,
    control: ControlSetter,
    counters: Arc<Counters>,
}

/// An ML module's side of the shared memory. It belongs to one thread at a time.
pub struct MlSide {
    ml_module: usize,
    parameters: usize,
    reader: Reader,
    adder: Adder,
    control: ControlWaiter,
    counters: Arc<Counters>,
}

/// A gradient was refused, and counted: it, or its loss, is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFinite {
    /// The gradient.
    #[error("step {step}: parameter {parameter} of the gradient is not finite; it was not added")]
    Gradient {
        /// Its step.
        step: u64,
        /// The first parameter that is not finite.
        parameter: usize,
    },
    /// The loss.
    #[error("step {step}: the loss is not finite; its gradient was not added")]
    Loss {
        /// Its step.
        step: u64,
    },
}

/// The shared memory of one tab with `ml_modules` ML modules, for a model of `parameters` parameters.
///
/// It is allocated here, once: `parameters` · 4 bytes · (3 · `ml_modules` + 2).
pub fn shared_memory(parameters: usize, ml_modules: usize) -> (LocalSide, Vec<MlSide>) {
    let (publisher, readers) = model_slots(parameters, ml_modules);
    let mut modules = Vec::with_capacity(ml_modules);
    let mut ml_sides = Vec::with_capacity(ml_modules);
    for (ml_module, reader) in readers.into_iter().enumerate() {
        let (adder, taker) = aggregate(parameters);
        let (setter, waiter) = control_word();
        let counters = Arc::new(Counters::default());
        modules.push(LocalModule {
            taker,
            control: setter,
            counters: Arc::clone(&counters),
        });
        ml_sides.push(MlSide {
            ml_module,
            parameters,
            reader,
            adder,
            control: waiter,
            counters,
        });
    }
    (
        LocalSide {
            parameters,
            publisher,
            modules,
        },
        ml_sides,
    )
}

impl LocalSide {
    /// Parameters of the model.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// How many ML modules there are.
    pub fn ml_modules(&self) -> usize {
        self.modules.len()
    }

    /// Stores the local model, for all ML modules, and wakes those that wait for one. Never waits, never allocates.
    ///
    /// `write` gets the model that was published last, empty if there is none, and a slot of `parameters` values, which
    /// hold an older model, or zeros. It must write the whole slot. See [`PinnedModel::settled_read_outs`] for
    /// `settled_read_outs`.
    pub fn publish(&mut self, stamp: ModelStamp, settled_read_outs: u64, write: impl FnOnce(&[f32], &mut [f32])) {
        self.publisher.publish(stamp, settled_read_outs, write);
        for module in &self.modules {
            module.control.on_publish();
        }
    }

    /// The model that was published last.
    pub fn published(&self) -> Option<ModelStamp> {
        self.publisher.published()
    }

    /// Begins a read-out of an ML module, unless one has begun that wasn't taken yet. Gradients go to its other buffer
    /// from now on.
    pub fn flip(&mut self, module: usize) {
        self.modules[module].taker.flip();
    }

    /// The number of the last read-out of an ML module that `flip` has begun.
    pub fn read_outs(&self, module: usize) -> u64 {
        self.modules[module].taker.flips()
    }

    /// Whether a read-out of an ML module has begun that can't be taken yet: it came in the middle of an add.
    pub fn is_pending(&self, module: usize) -> bool {
        self.modules[module].taker.is_pending()
    }

    /// Reads out the aggregate of an ML module that `flip` has retired, and empties it. Never waits, never allocates.
    ///
    /// `read` gets the header and the sum of the gradients: zeros if there are none.
    pub fn take<R>(&mut self, module: usize, read: impl FnOnce(&Header, &[f32]) -> R) -> Taken<R> {
        self.modules[module].taker.take(read)
    }

    /// An ML module is dead: its worker raised an error event, or was terminated. Never waits, never allocates.
    ///
    /// If it died while it added a gradient, the buffer is given up, and the result counts the gradients that are lost
    /// with it. A read-out that had begun before, on the other buffer, can still be taken; after that `flip` does
    /// nothing. If it died elsewhere, nothing is lost: `flip` and `take` read out its gradients as usual.
    ///
    /// This is sound even if it still runs, as a terminated worker may for a moment: only the gradients that it then
    /// adds can be lost. If a read-out of it stays pending, it took one more lease before its end: call this again.
    pub(crate) fn drain_dead(&mut self, module: usize) -> Discarded {
        self.modules[module].taker.drain_dead()
    }

    /// Sets the control of an ML module, and wakes it if the control has changed.
    pub fn set_control(&self, module: usize, control: Control) {
        self.modules[module].control.set(control);
    }

    /// The progress of an ML module.
    pub fn progress(&self, module: usize) -> Progress {
        self.modules[module].counters.progress()
    }
}

impl Drop for LocalSide {
    fn drop(&mut self) {
        // No other thread is left to wake a sleeper.
        for module in &self.modules {
            module.control.set(Control {
                state: State::Stop,
                ..Control::default()
            });
        }
    }
}

impl Drop for MlSide {
    fn drop(&mut self) {
        self.counters.on_stop();
    }
}

impl MlSide {
    /// Parameters of the model.
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The number of this ML module in its tab.
    pub fn ml_module(&self) -> usize {
        self.ml_module
    }

    /// The current model, if one is published. It isn't overwritten until this is called again, and the local side
    /// doesn't wait for that. Starts over only when a publish came in between.
    pub fn model(&mut self) -> Option<PinnedModel<'_>> {
        self.reader.model()
    }

    /// The model that `model` returned last.
    pub(crate) fn held_model(&self) -> Option<PinnedModel<'_>> {
        self.reader.held()
    }

    /// Whether the current model is another than the one that `model` returned last.
    pub(crate) fn has_newer_model(&self) -> bool {
        self.reader.has_newer()
    }

    /// Adds a finished gradient to the aggregate. `values` is the sum over its samples. Returns the number of the
    /// read-out that will hold it; read-outs count from 1, the empty ones too. Never waits, never allocates.
    ///
    /// # Errors
    ///
    /// The gradient or its loss is not finite. Then nothing is added, and the refusal is counted.
    ///
    /// # Panics
    ///
    /// The gradient hasn't one value for each parameter.
    pub fn add(&mut self, values: &[f32], gradient: Gradient) -> Result<u64, NotFinite> {
        assert_eq!(
            values.len(),
            self.parameters,
            "a gradient has one value for each parameter"
        );
        let step = gradient.step;
        if !all_finite(values) {
            self.counters.count_not_finite();
            let parameter = values.iter().position(|value| !value.is_finite()).unwrap_or_default();
            return Err(NotFinite::Gradient { step, parameter });
        }
        if !gradient.loss_sum.is_finite() {
            self.counters.count_not_finite();
            return Err(NotFinite::Loss { step });
        }
        let read_out = self.adder.add(values, &gradient);
        self.counters.count_gradient(gradient.samples);
        Ok(read_out)
    }

    /// The control of this ML module.
    pub fn control(&self) -> Control {
        self.control.control()
    }

    /// Sleeps while the control is `control`, at most for `timeout`.
    pub(crate) fn wait_while(&self, control: Control, timeout: Option<Duration>) {
        self.control.wait_while(control, timeout);
    }

    /// Sleeps until a newer model than the held one is published, or until the control differs from the one that
    /// `control` returned last; at most for `timeout`.
    pub(crate) fn wait_for_publish(&self, timeout: Option<Duration>) {
        self.control.wait_for_publish(|| self.has_newer_model(), timeout);
    }

    /// Counts time spent.
    pub(crate) fn account(&self, phase: Phase, duration_us: u64) {
        self.counters.account(phase, duration_us);
    }
}
