//! The one timer of a state machine: the time at which it wants to be called next.

use bsp::time::Time;

/// A state machine that is woken this often at one instant would go on for ever.
const MOST_AT_ONCE: u32 = 5;

/// A timer. Only its last setting fires. A timer that is set again to the same instant stays as it is, which keeps the
/// queue of events short.
#[derive(Default)]
pub(crate) struct Timer {
    number: u64,
    set_to: Option<Time>,
    last_fired: Time,
    times: u32,
}

impl Timer {
    /// Sets the timer, or clears it. Returns the instant and the number of the new setting, if there is one.
    pub(crate) fn set(&mut self, at: Option<Time>, now: Time) -> Option<(Time, u64)> {
        let at = at.map(|at| at.max(now));
        if at == self.set_to {
            return None;
        }
        self.set_to = at;
        self.number += 1;
        at.map(|at| (at, self.number))
    }

    /// The setting of this number is due. Returns whether it is the last one.
    ///
    /// # Panics
    /// `owner` asks again and again to be woken now.
    pub(crate) fn fire(&mut self, number: u64, now: Time, owner: &str) -> bool {
        if number != self.number {
            return false;
        }
        self.set_to = None;
        self.times = if self.last_fired == now { self.times + 1 } else { 1 };
        self.last_fired = now;
        assert!(
            self.times < MOST_AT_ONCE,
            "{owner} asks again and again to be woken now"
        );
        true
    }
}
