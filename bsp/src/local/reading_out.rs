//! When the tab's gradients are read out of the shared memory, and when more of them would count for nothing.

use super::{Action, LinkState, Local};
use crate::protocol::message::SessionId;
use crate::time::Time;

impl Local {
    /// Whether it has a session, and nothing can be sent.
    pub(super) fn is_away(&self) -> bool {
        let has_link = matches!(self.link.state(), LinkState::Welcomed | LinkState::Ended);
        self.session().is_some() && !has_link && !self.modules.has_dead()
    }

    /// Without a link, gradients are read out when more of them in one contribution would weigh no more.
    pub(super) fn keep_for_later(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.read_out.is_under_way() || (self.has_enough_gradients() && self.can_read_out()) {
            self.read_out(now, actions);
        }
    }

    fn has_enough_gradients(&self) -> bool {
        self.modules.new_gradients() >= self.membership.max_read_out_gradients()
    }

    /// Whether more gradients would count for nothing: the next contribution has as many as weigh, and there is no room
    /// to keep it, or no link while the last one is outstanding.
    pub(super) fn is_full(&self) -> bool {
        let is_stuck = !self.contributions.has_room() || (self.is_away() && !self.can_read_out());
        is_stuck && !self.modules.has_dead() && self.has_enough_gradients()
    }

    /// Whether a read-out may begin: no contribution is on its way, and there is room to keep one more. (After a death
    /// it does not wait for an acknowledgement.)
    ///
    /// Under local steps the last contribution must have come back in a model, too. (A volunteer that leaves does not
    /// wait for that: it computes on no further model. A tab that may end at any moment waits for nothing.)
    pub(super) fn can_read_out(&self) -> bool {
        let is_awaited = self.membership.has_local_steps() && self.in_model.is_outstanding() && self.shutdown.is_none();
        let is_under_way = self.link.has_contribution_on_its_way() || is_awaited;
        let is_in_order = !self.membership.has_local_steps() || self.in_model.has_room();
        let waits_for_nothing = self.modules.has_dead() || (self.is_closing && is_in_order);
        (!is_under_way || waits_for_nothing) && self.contributions.has_room()
    }

    /// Reads out all ML modules. Those that are in the middle of an add follow at the next turn.
    pub(super) fn read_out(&mut self, now: Time, actions: &mut Vec<Action>) {
        if !self.read_out.is_under_way() {
            self.schedule.advance(now);
            if !self.has_something_to_read() {
                return self.schedule.put_off(now);
            }
            let Some(frame) = self.contributions.take_frame() else {
                return;
            };
            self.schedule.on_read_out(now);
            self.read_out.begin(frame, &mut self.modules);
        }
        let Some(mut frame) = self.read_out.merge(&mut self.modules) else {
            return;
        };
        if self.read_out.is_empty() {
            return self.contributions.give_back(frame);
        }
        let sequence = self.contributions.next_sequence();
        let (session, report) = (self.session().unwrap_or(SessionId(0)), self.report());
        self.read_out.seal(&mut frame, session, sequence, report);
        self.in_model.on_read_out(sequence, self.modules.read_outs());
        self.contributions.keep(self.read_out.samples(), frame);
        self.send_unsettled(now, actions);
    }

    /// Whether there are gradients to read out; in a baseline, whether every ML module has added its one gradient.
    pub(super) fn has_something_to_read(&self) -> bool {
        let is_ending = self.modules.is_paused() || self.shutdown.is_some();
        self.modules.have_new(self.schedule.has_barrier() && !is_ending)
    }
}
