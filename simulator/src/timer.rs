//! The one timer of a state machine: when it wants to be called next.

use bsp::time::Time;

/// So often a state machine may be woken at one instant; more often it asks for ever.
const MOST_AT_ONCE: u32 = 5;

/// An timer. Only the one that was set last rings; one that is set anew to the same instant stays as it is, which keeps the
/// queue of events short.
#[derive(Default)]
pub(crate) struct Timer {
    number: u64,
    set_to: Option<Time>,
    last_rung: Time,
    times: u32,
}

impl Timer {
    /// Sets it, or takes it back; when which number has to ring, if that is something new.
    pub(crate) fn set(&mut self, at: Option<Time>, now: Time) -> Option<(Time, u64)> {
        let at = at.map(|at| at.max(now));
        if at == self.set_to {
            return None;
        }
        self.set_to = at;
        self.number += 1;
        at.map(|at| (at, self.number))
    }

    /// An timer of this number rings now; whether it is the one that was set last.
    ///
    /// # Panics
    /// When `who` asks again and again to be woken now.
    pub(crate) fn rings(&mut self, number: u64, now: Time, who: &str) -> bool {
        if number != self.number {
            return false;
        }
        self.set_to = None;
        self.times = if self.last_rung == now { self.times + 1 } else { 1 };
        self.last_rung = now;
        assert!(self.times < MOST_AT_ONCE, "{who} asks again and again to be woken now");
        true
    }
}
