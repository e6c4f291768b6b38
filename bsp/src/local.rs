//! The local BSP module (103) of a tab or of a native volunteer.
//!
//! A state machine without I/O over the tab's shared memory (104). Its driver hands in frames, the link's ups and downs
//! and time-outs, and does the actions that come out, in order. The ML modules (105) run on other threads. Neither side
//! waits for the other.
//!
//! It reads out at the central module's period, and at most one contribution on its link is not acknowledged. (A tab
//! that may end at any moment sends all that it has, one right behind the other.) It keeps
//! contributions until they are durable, as bytes, and sends the same bytes again after a reconnect. When it can keep
//! no more it stops reading out. Gradients then collect in the shared memory, so that a slow link makes fewer, larger
//! contributions and never a queue. Reading out allocates nothing.
//!
//! # Example: a hello, a read-out, an acknowledgement
//!
//! ```
//! # use bsp::local::{Action, Config, Local};
//! # use bsp::protocol::message::{Ack, FromCentral, Mode, RunId, SessionId, Token, Welcome};
//! # use bsp::shared_memory::{Gradient, ModelStamp, shared_memory};
//! # let (now, mut actions) = (bsp::time::Time::ZERO, Vec::new());
//! # let (run, mode) = (RunId(1), Mode::Decoupled);
//! # let (max_read_out_gradients, jitter_seed) = (64, 3);
//! # let config = Config { run, spec_hash: 2, mode, has_local_steps: false, max_read_out_gradients, jitter_seed };
//! let (memory, mut ml_modules) = shared_memory(4, 1);
//! let mut local = Local::new(now, config, memory);
//! local.on_open(now, &mut actions); // says hello
//! let (session, token, codec, is_last_refused) = (SessionId(5), Token(6), Default::default(), false);
//! let welcome = Welcome { session, token, period_us: 50_000, settled: 0, durable: 0, is_last_refused, codec };
//! local.on_frame(now, &FromCentral::Welcome(welcome).encode(), &mut actions)?;
//! let stamp = ModelStamp { incarnation: 1, version: 0 };
//! local.on_frame(now, &FromCentral::encode_model(stamp, &[1.0; 4]), &mut actions)?;
//!
//! ml_modules[0].add(&[8.0; 4], Gradient { stamp, step: 0, samples: 32, loss_sum: 9.0 })?;
//! let due = local.next_timeout(now);
//! local.on_timeout(due, &mut actions);
//! assert_eq!(actions.last(), Some(&Action::SendContribution { sequence: 1 }));
//! let ack = Ack { through: 1, durable: 1, refused: None };
//! local.on_frame(due, &FromCentral::Ack(ack).encode(), &mut actions)?;
//! assert_eq!(local.accepted_samples(), 32);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::protocol::frame::{FrameError, Received};
use crate::protocol::message::{Ack, FromCentral, FromVolunteer, Refusal, SessionId, StoreModel, Welcome};
use crate::shared_memory::LocalSide;
use crate::time::Time;

mod absence;
mod action;
mod config;
mod contributions;
mod in_model;
mod link;
mod membership;
mod ml_modules;
mod outgoing;
mod read_out;
mod reading_out;
mod schedule;
mod shutdown;

use absence::Absence;
pub use absence::Return;
pub use action::Action;
pub use config::Config;
use contributions::Contributions;
pub use contributions::kept_contributions;
use in_model::InModel;
pub(crate) use link::HEARTBEAT;
use link::Link;
pub use link::LinkState;
use membership::Membership;
use ml_modules::MlModules;
use read_out::ReadOutBuffer;
use schedule::{ASK_AGAIN, Schedule};
pub use shutdown::End;
use shutdown::Shutdown;

/// Without a link, the time between two looks at how much was computed.
const LOOK_WHILE_AWAY: Duration = Duration::from_millis(250);

/// The local BSP module.
pub struct Local {
    membership: Membership,
    link: Link,
    modules: MlModules,
    read_out: ReadOutBuffer,
    contributions: Contributions,
    schedule: Schedule,
    in_model: InModel,
    absence: Absence,
    /// The tab may end at any moment, and not all that it has is sent.
    is_closing: bool,
    shutdown: Option<Shutdown>,
}

impl Local {
    /// A local BSP module over its side of the shared memory. All its ML modules are told to run.
    pub fn new(now: Time, config: Config, memory: LocalSide) -> Local {
        let parameters = memory.parameters();
        Local {
            membership: Membership::new(config),
            link: Link::new(now, config.jitter_seed),
            modules: MlModules::new(memory),
            read_out: ReadOutBuffer::new(parameters, config.has_local_steps, config.blank_header()),
            contributions: Contributions::new(parameters),
            schedule: Schedule::new(now, config.mode.has_barrier()),
            in_model: InModel::default(),
            absence: Absence::default(),
            is_closing: false,
            shutdown: None,
        }
    }

    // Events in.

    /// The link is open.
    pub fn on_open(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.has_ended() {
            return;
        }
        self.link.on_heard(now);
        self.say_hello(now, actions);
        self.turn(now, actions);
    }

    /// The link could not be opened, or has closed.
    pub fn on_closed(&mut self, now: Time, actions: &mut Vec<Action>) {
        // After a freeze a closed link may be the first that is heard.
        self.lose_link(now, self.frozen_since(now).unwrap_or(now));
        self.turn(now, actions);
    }

    /// A frame has arrived. A frame that can't be read, or a model that can't be stored, ends the link, which is then
    /// opened anew.
    ///
    /// After an ML module's death no frame is read: reading takes memory, and its content would not be used.
    ///
    /// # Errors
    /// Why the frame can't be used, for the log.
    pub fn on_frame(&mut self, now: Time, frame: &Bytes, actions: &mut Vec<Action>) -> Result<(), FrameError> {
        if self.has_ended() || self.modules.has_dead() {
            return Ok(());
        }
        self.link.on_heard(now);
        self.notice_freeze(now, actions);
        let decoded = FromCentral::decode(frame);
        let used = decoded.and_then(|Received { message, payload }| self.on_message(now, message, &payload, actions));
        if used.is_err() {
            self.break_link(now, actions);
        }
        self.turn(now, actions);
        used
    }

    /// The time is [`Local::next_timeout`], or later.
    pub fn on_timeout(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.turn(now, actions);
    }

    /// An ML module's worker raised an error event or was terminated. (Silence is no sign of a death: a frozen tab is
    /// silent, too.) The others are read out without allocating, since the dead ML module may hold the allocator's
    /// lock. Then the tab starts afresh, with new memory and a new session.
    pub fn on_ml_module_died(&mut self, now: Time, ml_module: usize, actions: &mut Vec<Action>) {
        if self.has_ended() || !self.modules.on_died(ml_module, self.read_out.is_under_way()) {
            return;
        }
        self.begin_shutdown(now, End::MlModuleDied);
        self.send_unsettled(now, actions);
        self.turn(now, actions);
    }

    /// The volunteer pauses: the ML modules finish their minibatch and sleep; what they have added is read out.
    pub fn pause(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.set_paused(now, true, actions);
    }

    /// The volunteer goes on.
    pub fn resume(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.set_paused(now, false, actions);
    }

    /// The first `active` ML modules compute, the others sleep.
    pub fn set_active_ml_modules(&mut self, now: Time, active: usize, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.modules.set_active(active);
        self.send_heartbeat(now, actions);
        self.turn(now, actions);
    }

    /// The ML modules compute for `percent` of their time, from 1 to 100, and rest for the remainder.
    pub fn set_duty(&mut self, now: Time, percent: u8, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.modules.set_duty(percent);
        self.turn(now, actions);
    }

    /// The tab may end at any moment: what is added by now is read out, whatever the period, and all that was not sent
    /// is sent at once, without waiting for acknowledgements. A tab that lives on has lost nothing by it. In a baseline
    /// there is nothing to hurry: gradients are read out as they are added.
    pub fn on_closing(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.is_closing = self.link.state() == LinkState::Welcomed && !self.schedule.has_barrier();
        self.turn(now, actions);
    }

    /// The volunteer leaves: the ML modules stop after their minibatch, their gradients are read out and acknowledged,
    /// and the membership ends.
    pub fn leave(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.begin_shutdown(now, End::Left);
        self.turn(now, actions);
    }

    // Queries.

    /// The time at which `on_timeout` wants to be called next.
    pub fn next_timeout(&self, now: Time) -> Time {
        // After a death the link is not opened again.
        let mut next = match self.modules.has_dead() {
            true => Time::from_micros(u64::MAX),
            false => self.link.next_timeout(),
        };
        if let Some(shutdown) = &self.shutdown {
            // It waits for its ML modules, which don't wake it.
            next = next.min(shutdown.until).min(now + ASK_AGAIN);
        } else if self.is_away() && !self.modules.is_resting() {
            next = next.min(now + LOOK_WHILE_AWAY);
        } else if self.link.state() == LinkState::Welcomed {
            next = next.min(self.link.heartbeat_due());
            if self.read_out.is_under_way() {
                next = next.min(now + ASK_AGAIN);
            } else if self.can_read_out() {
                next = next.min(self.schedule.due());
            }
        }
        next.max(now)
    }

    /// The frame of a contribution that is kept here.
    pub fn contribution_frame(&self, sequence: u64) -> Option<&[u8]> {
        self.contributions.frame(sequence)
    }

    /// The shared memory, for pages and logs.
    pub fn memory(&self) -> &LocalSide {
        self.modules.memory()
    }

    /// Samples in contributions that were accepted.
    pub fn accepted_samples(&self) -> u64 {
        self.contributions.accepted_samples()
    }

    /// Contributions that had been accepted before a restart of the server, and were sent again because it had lost
    /// them.
    pub fn contributions_sent_again(&self) -> u64 {
        self.contributions.sent_again()
    }

    /// Whether the ML modules sleep because nothing more can be kept of what they compute.
    pub fn is_resting(&self) -> bool {
        self.modules.is_resting()
    }

    /// Whether the central module has said that it stops and will be back, and is not back yet.
    pub fn is_back_soon(&self) -> bool {
        self.link.is_back_soon()
    }

    /// Whether the central module has had no room for this session when it came back, and has not had any since.
    pub fn has_no_room(&self) -> bool {
        self.link.has_no_room()
    }

    /// The last absence that was worth a word.
    pub fn last_return(&self) -> Option<Return> {
        self.absence.last()
    }

    /// The state of the link.
    pub fn link_state(&self) -> LinkState {
        self.link.state()
    }

    /// Whether the volunteer has paused.
    pub fn is_paused(&self) -> bool {
        self.modules.is_paused()
    }

    /// The session, once there is one.
    pub fn session(&self) -> Option<SessionId> {
        self.membership.session()
    }

    // The effects of a message.

    fn on_message(
        &mut self,
        now: Time,
        message: FromCentral,
        payload: &[u8],
        actions: &mut Vec<Action>,
    ) -> Result<(), FrameError> {
        match message {
            FromCentral::Welcome(welcome) => self.on_welcome(now, &welcome, actions),
            FromCentral::Refused(Refusal::Full { .. }) if self.session().is_some() => self.on_no_room(now, actions),
            FromCentral::Refused(refusal) => self.end(End::of_refusal(refusal), actions),
            FromCentral::StoreModel(model) => return self.on_model(now, &model, payload, actions),
            FromCentral::NextModelSettles { through } => self.in_model.on_next_model_settles(through),
            FromCentral::ReadOutEvery { period_us } => self.schedule.set_period(now, period_us),
            FromCentral::Ack(ack) => self.on_ack(now, &ack, actions),
            FromCentral::Durable { through } => self.contributions.forget(through),
            FromCentral::BackSoon => self.link.on_back_soon(),
        }
        Ok(())
    }

    fn on_welcome(&mut self, now: Time, welcome: &Welcome, actions: &mut Vec<Action>) {
        let is_new = self.membership.on_welcomed(welcome.session, welcome.token);
        self.link.on_welcomed(now);
        self.read_out.set_codec(welcome.codec);
        self.schedule.set_period(now, welcome.period_us);
        if is_new {
            actions.push(Action::SessionOpened(welcome.session));
        }
        self.contributions.settle(welcome.settled, !welcome.is_last_refused);
        self.contributions.forget(welcome.durable);
        self.link.on_settled(now);
        self.absence.end(now, &self.contributions);
        self.send_unsettled(now, actions);
    }

    fn on_model(
        &mut self,
        now: Time,
        model: &StoreModel,
        payload: &[u8],
        actions: &mut Vec<Action>,
    ) -> Result<(), FrameError> {
        self.modules.check(model, payload)?;
        let settled_read_outs = self.in_model.on_model();
        self.modules.publish(model.stamp, settled_read_outs, |before, slot| {
            model.store(payload, before, slot);
        });
        self.schedule.on_model(now);
        self.send(now, &FromVolunteer::Stored(model.stamp), actions);
        Ok(())
    }

    fn on_ack(&mut self, now: Time, ack: &Ack, actions: &mut Vec<Action>) {
        let is_accepted = ack.refused.is_none();
        if !is_accepted {
            self.release_refused(ack.through);
        }
        self.contributions.settle(ack.through, is_accepted);
        self.contributions.forget(ack.durable);
        self.link.on_settled(now);
        self.absence.on_settled(&self.contributions);
        self.send_unsettled(now, actions);
    }

    /// Others have come while it was away, as many as the central module takes. What is kept here is nobody else's, so
    /// it comes again, ever more seldom.
    fn on_no_room(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.link.on_no_room();
        self.break_link(now, actions);
    }

    /// Under local steps a refused update leaves the working copies with a published model that settles it. The next
    /// model may never come, if everything computed on top of the refused update is refused as well. So the current
    /// model is published again.
    fn release_refused(&mut self, sequence: u64) {
        let settled_read_outs = self.in_model.on_refused(sequence);
        if let (Some(read_outs), true) = (settled_read_outs, self.membership.has_local_steps()) {
            self.modules.publish_again(read_outs);
        }
    }

    // The effects of time.

    /// Does what is due now. Every event ends with this.
    fn turn(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.link.is_overdue(now) {
            let since = self.link.waiting_since().unwrap_or(now);
            self.link.on_overdue();
            self.lose_link(now, since);
            actions.push(Action::Disconnect);
        }
        if !self.modules.has_dead() && self.link.connect_if_due(now) {
            actions.push(Action::Connect);
        }
        if self.link.state() == LinkState::Welcomed {
            let is_due = self.is_closing || now >= self.schedule.due();
            if self.read_out.is_under_way() || (self.can_read_out() && is_due) {
                self.read_out(now, actions);
            }
            if self.is_closing && !self.read_out.is_under_way() {
                self.send_unsettled(now, actions);
                self.is_closing = false;
            }
            if now >= self.link.heartbeat_due() {
                self.send_heartbeat(now, actions);
            }
        }
        if self.is_away() {
            self.keep_for_later(now, actions);
        }
        self.modules.set_resting(self.is_full());
        self.end_if_due(now, actions);
        self.schedule.set_wake_by(self.next_timeout(now));
    }

    fn set_paused(&mut self, now: Time, is_paused: bool, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.modules.set_paused(is_paused);
        self.schedule.set_due_now(now);
        self.send_heartbeat(now, actions);
        self.turn(now, actions);
    }

    // The end.

    fn has_ended(&self) -> bool {
        self.link.state() == LinkState::Ended
    }

    /// Closes the link. It is opened again after a wait.
    fn break_link(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.lose_link(now, now);
        actions.push(Action::Disconnect);
    }

    /// The link is closed, and nothing has come over it since then.
    fn lose_link(&mut self, now: Time, since: Time) {
        if self.session().is_some() {
            self.absence.begin(since);
        }
        self.link.on_closed(now);
        self.is_closing = false;
    }

    /// The ML modules stop; the membership ends when all is settled.
    fn begin_shutdown(&mut self, now: Time, end: End) {
        if self.shutdown.is_none() && !self.has_ended() {
            self.shutdown = Some(Shutdown::new(now, end));
            self.modules.stop();
        }
    }

    /// Ends when all contributions are acknowledged, or when that takes too long.
    ///
    /// After a death it waits for the other ML modules only: reading an acknowledgement takes memory.
    fn end_if_due(&mut self, now: Time, actions: &mut Vec<Action>) {
        let Some(shutdown) = &self.shutdown else { return };
        let is_dying = self.modules.has_dead();
        if now < shutdown.until {
            self.schedule.set_due_now(now);
            let is_read_out = !self.read_out.is_under_way() && !self.has_something_to_read();
            let is_settled = self.contributions.are_settled() || is_dying;
            // Without a link the others' gradients are lost: no frame is read that could open one.
            let is_lost = is_dying && self.link.state() != LinkState::Welcomed;
            if !(self.modules.have_stopped() && (is_read_out && is_settled || is_lost)) {
                return;
            }
        }
        let Some(Shutdown { end, .. }) = self.shutdown.take() else {
            return;
        };
        if self.link.state() == LinkState::Welcomed {
            self.send(now, &FromVolunteer::Leave, actions);
        }
        self.end(end, actions);
    }

    /// Ends the membership now.
    fn end(&mut self, end: End, actions: &mut Vec<Action>) {
        self.modules.stop();
        self.shutdown = None;
        self.link.on_ended();
        actions.push(Action::Disconnect);
        actions.push(Action::Ended(end));
    }
}
