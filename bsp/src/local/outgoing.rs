//! What the tab says to the central module: hellos, heartbeats, contributions.

use super::{Action, LinkState, Local};
use crate::protocol::message::{FromVolunteer, Report};
use crate::time::Time;

impl Local {
    pub(super) fn say_hello(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.modules.has_dead() {
            return;
        }
        let (published, durable) = (self.modules.published(), self.contributions.durable());
        let hello = self.membership.hello(published, durable, self.report());
        self.link.on_greeting(now);
        self.contributions.on_new_link();
        self.is_closing = false;
        self.send(now, &FromVolunteer::Hello(hello), actions);
    }

    /// Says that it is here, and how it is doing.
    pub(super) fn send_heartbeat(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.link.state() == LinkState::Welcomed {
            self.send(now, &FromVolunteer::Heartbeat(self.report()), actions);
        }
    }

    /// All frames but contributions leave here. After an ML module's death none leaves: encoding takes memory.
    pub(super) fn send(&mut self, now: Time, message: &FromVolunteer, actions: &mut Vec<Action>) {
        if !self.modules.has_dead() {
            self.link.on_sent(now);
            actions.push(Action::Send(message.encode()));
        }
    }

    /// Sends the first contribution that is not acknowledged, if it was not sent; before a close, and after an ML
    /// module's death, all of them: no acknowledgement is waited for then.
    pub(super) fn send_unsettled(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.link.state() != LinkState::Welcomed {
            return;
        }
        if self.contributions.are_on_their_way() {
            // The next answer is awaited from here on.
            self.link.on_contribution_sent(now);
        }
        let waits_for_nothing = self.is_closing || self.modules.has_dead();
        while let Some(sequence) = self.contributions.next_to_send()
            && (waits_for_nothing || !self.contributions.are_on_their_way())
        {
            self.link.on_contribution_sent(now);
            self.contributions.on_sent(sequence);
            actions.push(Action::SendContribution { sequence });
        }
    }

    pub(super) fn report(&self) -> Report {
        self.link.report(self.modules.report())
    }
}
