//! The control word of an ML module: its orders, and the word that it sleeps on.
//!
//! One atomic word holds the control, an epoch that every publish advances, and a flag by which the ML module asks to
//! be woken by publishes. Both sides write the word, so both only read-modify-write. Only the local side changes the
//! control. The word carries no data but itself, with one exception: an ML module that sees an epoch sees its publish.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::futex::{Futex, Patience, Woken};
use super::sync::Ordering;

/// The orders to an ML module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// Whether to compute.
    pub state: State,
    /// The share of its time that it may compute, in percent, at most 100.
    pub duty_percent: u8,
}

/// Whether an ML module is to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum State {
    /// Compute.
    #[default]
    Run,
    /// Sleep until told otherwise.
    Pause,
    /// Leave the loop, for good.
    Stop,
}

impl Default for Control {
    fn default() -> Control {
        Control {
            state: State::Run,
            duty_percent: 100,
        }
    }
}

// The word: 2 bits of state, 7 of duty, the flag, and 22 of epoch. The epoch wraps around. Only a sleeper between its
// look at the word and its sleep could mistake one for another, if 4 million publishes fell in between.
const STATE: u32 = 0b11;
const DUTY_SHIFT: u32 = 2;
const CONTROL: u32 = 0x1ff;
const WAITS_FOR_PUBLISH: u32 = 1 << 9;
const EPOCH: u32 = 1 << 10;

impl Control {
    fn pack(self) -> u32 {
        let state = match self.state {
            State::Run => 0,
            State::Pause => 1,
            State::Stop => 2,
        };
        state | u32::from(self.duty_percent.min(100)) << DUTY_SHIFT
    }

    fn unpack(word: u32) -> Control {
        let state = match word & STATE {
            0 => State::Run,
            1 => State::Pause,
            _ => State::Stop,
        };
        Control {
            state,
            duty_percent: ((word & CONTROL) >> DUTY_SHIFT) as u8,
        }
    }
}

/// The local BSP module's end.
pub(super) struct ControlSetter {
    futex: Arc<Futex>,
    /// The control in the word. Only this end sets it.
    control: Cell<Control>,
}

/// The ML module's end.
pub(super) struct ControlWaiter {
    futex: Arc<Futex>,
    /// The control that `control` returned last.
    told: Cell<Control>,
}

/// A control word that says `Control::default()`.
pub(super) fn control_word() -> (ControlSetter, ControlWaiter) {
    let futex = Arc::new(Futex::new(Control::default().pack()));
    let waiter = ControlWaiter {
        futex: Arc::clone(&futex),
        told: Cell::default(),
    };
    (
        ControlSetter {
            futex,
            control: Cell::default(),
        },
        waiter,
    )
}

impl ControlSetter {
    /// Sets the control and wakes the ML module if that changes it.
    pub(super) fn set(&self, control: Control) {
        let change = control.pack() ^ self.control.get().pack();
        if change == 0 {
            return;
        }
        self.control.set(Control::unpack(control.pack()));
        // Relaxed: a control makes nothing else visible. It stays a read-modify-write, which lets the Release of an
        // earlier publish pass through to the reader of this value.
        self.futex.word.fetch_xor(change, Ordering::Relaxed);
        self.futex.wake();
    }

    /// Wakes the ML module if it waits for a publish.
    pub(super) fn on_publish(&self) {
        // Release: pairs with the Acquire in wait_for_publish(): an ML module that sees this epoch sees the published
        // model. One that does not see it has set its flag before, and is woken.
        let word = self.futex.word.fetch_add(EPOCH, Ordering::Release);
        if word & WAITS_FOR_PUBLISH != 0 {
            self.futex.wake();
        }
    }
}

impl ControlWaiter {
    /// The control now.
    pub(super) fn control(&self) -> Control {
        // Relaxed: a control makes nothing else visible.
        let control = Control::unpack(self.futex.word.load(Ordering::Relaxed));
        self.told.set(control);
        control
    }

    /// Sleeps while the control is `control`, at most for `timeout`. A publish does not end the sleep.
    pub(super) fn wait_while(&self, control: Control, timeout: Option<Duration>) {
        let patience = Patience::new(timeout);
        loop {
            // Relaxed: as in control().
            let word = self.futex.word.load(Ordering::Relaxed);
            if Control::unpack(word) != control || self.futex.wait(word, &patience) == Woken::TimeIsUp {
                return;
            }
        }
    }

    /// Sleeps until `is_published` is true or the control differs from the one that `control` returned last; at most
    /// for `timeout`.
    pub(super) fn wait_for_publish(&self, is_published: impl Fn() -> bool, timeout: Option<Duration>) {
        let patience = Patience::new(timeout);
        let told = self.told.get();
        loop {
            // Acquire: pairs with the Release in on_publish(). If on_publish()'s read-modify-write comes first, the
            // published model is found below. If this one does, on_publish() finds the flag and wakes.
            let word = self.futex.word.fetch_or(WAITS_FOR_PUBLISH, Ordering::Acquire) | WAITS_FOR_PUBLISH;
            if Control::unpack(word) != told || is_published() || self.futex.wait(word, &patience) == Woken::TimeIsUp {
                break;
            }
        }
        // Relaxed: at worst it is woken once in vain.
        self.futex.word.fetch_and(!WAITS_FOR_PUBLISH, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_control_comes_out_of_the_word_as_it_went_in_whatever_the_epoch() {
        for state in [State::Run, State::Pause, State::Stop] {
            for duty_percent in 0..=100 {
                let control = Control { state, duty_percent };
                assert_eq!(control.pack() & !CONTROL, 0);
                for rest in [0, WAITS_FOR_PUBLISH, EPOCH, !CONTROL] {
                    assert_eq!(Control::unpack(control.pack() | rest), control);
                }
            }
        }
        assert_eq!(
            Control::unpack(
                Control {
                    state: State::Run,
                    duty_percent: 250
                }
                .pack()
            )
            .duty_percent,
            100
        );
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_models {
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    const PAUSE: Control = Control {
        state: State::Pause,
        duty_percent: 100,
    };
    const STOP: Control = Control {
        state: State::Stop,
        duty_percent: 100,
    };

    /// Invariant: an ML module that sleeps in a pause wakes when the control changes, whatever is published in between.
    /// A lost wake-up is a deadlock, which loom reports.
    #[test]
    fn a_control_wakes_a_sleeper_on_the_one_before() {
        loom::model(|| {
            let (setter, waiter) = control_word();
            setter.set(PAUSE);
            let sleeping = thread::spawn(move || {
                waiter.wait_while(PAUSE, None);
                assert_eq!(waiter.control(), Control::default());
            });
            setter.on_publish();
            setter.set(Control::default());
            sleeping.join().unwrap();
        });
    }

    /// Invariant: an ML module that waits for a publish wakes after it, and sees it.
    #[test]
    fn a_publish_wakes_an_ml_module_that_waits_for_it() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let (setter, waiter) = control_word();
            let published = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&published);
            let waiting = thread::spawn(move || {
                for version in 1..=2 {
                    waiter.wait_for_publish(|| seen.load(Ordering::Relaxed) >= version, None);
                    // Nobody tells it to do something else, so only the publish can have ended the wait.
                    assert!(seen.load(Ordering::Relaxed) >= version);
                }
            });
            for version in 1..=2 {
                // Relaxed: the epoch alone must make it visible.
                published.store(version, Ordering::Relaxed);
                setter.on_publish();
            }
            waiting.join().unwrap();
        });
    }

    /// Invariant: a control that comes between the last look and the sleep ends the wait, too.
    #[test]
    fn a_control_ends_a_wait_for_a_publish_that_never_comes() {
        loom::model(|| {
            let (setter, waiter) = control_word();
            let waiting = thread::spawn(move || {
                while waiter.control() != STOP {
                    waiter.wait_for_publish(|| false, None);
                }
            });
            setter.set(STOP);
            waiting.join().unwrap();
        });
    }

    /// Invariant: a control that follows a publish doesn't hide it from an ML module that sees only the later value of
    /// the word.
    #[test]
    fn a_control_after_a_publish_does_not_hide_it() {
        loom::model(|| {
            let (setter, waiter) = control_word();
            let published = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&published);
            let half = Control {
                duty_percent: 50,
                ..Control::default()
            };
            let waiting = thread::spawn(move || {
                // The control may end the wait; the next can only end by the publish.
                waiter.wait_for_publish(|| seen.load(Ordering::Relaxed) == 1, None);
                waiter.control();
                waiter.wait_for_publish(|| seen.load(Ordering::Relaxed) == 1, None);
            });
            published.store(1, Ordering::Relaxed);
            setter.on_publish();
            setter.set(half);
            waiting.join().unwrap();
        });
    }
}
