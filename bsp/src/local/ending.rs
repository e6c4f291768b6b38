//! Leaving, dying, and the end.

use std::time::Duration;

use super::{Action, End, LinkState, Local};
use crate::message::FromVolunteer;
use crate::shared_memory::{Control, State};
use crate::time::Time;

/// A leaving volunteer waits at most so long for its last contribution to settle.
const FAREWELL: Duration = Duration::from_secs(5);

/// Whether an ML module lives, and if not, whether its aggregate can still hold something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It lives.
    Living,
    /// It died while a read-out was under way: what it added after that one's flip comes with the next.
    DiedInReadOut,
    /// It is dead: the next read-out is its last.
    Dead,
    /// It is dead, and all that it had is read out, or discarded.
    Drained,
}

#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub(super) until: Time,
    pub(super) end: End,
}

impl Local {
    /// The volunteer leaves: the ML modules stop after their minibatch, the rest is read out and settled, then it ends.
    pub fn leave(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.end_soon(now, End::Left);
        self.turn(now, actions);
    }

    /// An ML module's worker raised an error event or was terminated. (Never said because of a silence: a frozen tab looks
    /// the same.) The others are read out, without allocating, since the dead one may hold the allocator's lock; then the
    /// tab starts afresh, with new memory and a new session.
    pub fn on_ml_module_died(&mut self, now: Time, ml_module: usize, actions: &mut Vec<Action>) {
        if self.has_ended() || self.life.get(ml_module) != Some(&Life::Living) {
            return;
        }
        self.life[ml_module] = if self.reading.is_some() {
            Life::DiedInReadOut
        } else {
            Life::Dead
        };
        self.discarded += self.memory.bury(ml_module).gradients;
        self.end_soon(now, End::MlModuleDied);
        self.turn(now, actions);
    }

    pub(super) fn is_dying(&self) -> bool {
        matches!(
            &self.leaving,
            Some(Leaving {
                end: End::MlModuleDied,
                ..
            })
        )
    }

    pub(super) fn end_soon(&mut self, now: Time, end: End) {
        if self.leaving.is_none() && !self.has_ended() {
            self.leaving = Some(Leaving {
                until: now + FAREWELL,
                end,
            });
            self.apply_control();
        }
    }

    /// Ends when everything is settled, or when that takes too long.
    ///
    /// After a death nothing is waited for but the other ML modules: to hear that something is settled takes memory.
    pub(super) fn end_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        let Some(Leaving { until, end }) = &self.leaving else {
            return;
        };
        let (until, end, is_dying) = (*until, end.clone(), self.is_dying());
        if now < until {
            self.read_out_due = now;
            let have_stopped = self
                .started()
                .all(|ml_module| self.memory.progress(ml_module).has_stopped);
            let is_settled = self.kept.iter().all(|kept| kept.sequence <= self.settled);
            if !have_stopped || self.reading.is_some() || self.has_something_to_read() || !(is_settled || is_dying) {
                return;
            }
        }
        if self.link.state() == LinkState::Welcomed && !is_dying {
            actions.push(Action::Send(FromVolunteer::Leave.encode()));
        }
        self.end(end, actions);
    }

    /// The living ML modules that somebody may have started. A tab has room for more than it is allowed to run; those never
    /// say that they have stopped.
    fn started(&self) -> impl Iterator<Item = usize> + '_ {
        living(&self.life)
            .filter(|ml_module| *ml_module < self.active_ml_modules || self.memory.progress(*ml_module).steps > 0)
    }

    pub(super) fn end(&mut self, end: End, actions: &mut Vec<Action>) {
        for ml_module in 0..self.memory.ml_modules() {
            self.memory.set_control(
                ml_module,
                Control {
                    state: State::Stop,
                    duty_percent: 100,
                },
            );
        }
        self.leaving = None;
        self.link.on_ended();
        actions.push(Action::Disconnect);
        actions.push(Action::Ended(end));
    }
}

pub(super) fn living(life: &[Life]) -> impl Iterator<Item = usize> + '_ {
    (0..life.len()).filter(|ml_module| life[*ml_module] == Life::Living)
}
