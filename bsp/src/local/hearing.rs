//! What the central module says, and what follows: models, what is settled, refusals.

use super::{Action, End, LinkState, Local};
use crate::codec::Codec;
use crate::message::{FrameError, FromCentral, FromVolunteer, ModelEncoding, Refusal, Settled, StoreModel, Welcome};
use crate::shared_memory::ModelStamp;
use crate::time::Time;

impl Local {
    pub(super) fn on_message(
        &mut self,
        now: Time,
        message: FromCentral,
        payload: &[u8],
        actions: &mut Vec<Action>,
    ) -> Result<(), FrameError> {
        match message {
            FromCentral::Welcome(welcome) => self.on_welcome(now, &welcome, actions),
            FromCentral::Refused(refusal) => self.on_refused(refusal, actions),
            FromCentral::StoreModel(model) => return self.on_model(now, &model, payload, actions),
            FromCentral::NextModelSettles { through } => self.settling.next_model_settles = through,
            FromCentral::ReadOutEvery { period_us } => self.set_period(now, period_us),
            FromCentral::Settled(settled) => self.on_settled(now, &settled, actions),
        }
        Ok(())
    }

    fn on_model(
        &mut self,
        now: Time,
        model: &StoreModel,
        payload: &[u8],
        actions: &mut Vec<Action>,
    ) -> Result<(), FrameError> {
        if let ModelEncoding::Differences { from, .. } = model.encoding {
            let needed = ModelStamp {
                version: from,
                ..model.stamp
            };
            if self.memory.published() != Some(needed) {
                let incarnation = needed.incarnation;
                return Err(FrameError::LeadsOnFrom { incarnation, from });
            }
        }
        model.check(payload, self.memory.parameters())?;
        self.incarnation = Some(model.stamp.incarnation);
        self.model_since = now;
        let settled_read_outs = self.settling.on_model();
        self.memory.publish(model.stamp, settled_read_outs, |before, slot| {
            model.store(payload, before, slot);
        });
        self.keep_step(now);
        self.send(now, &FromVolunteer::Stored(model.stamp), actions);
        Ok(())
    }

    fn on_welcome(&mut self, now: Time, welcome: &Welcome, actions: &mut Vec<Action>) {
        let is_new = self.session.is_none();
        self.session = Some((welcome.session, welcome.token));
        self.link.on_welcomed(now);
        self.codec = welcome.codec;
        if self.codec != Codec::F32 && self.error.is_empty() {
            self.error = vec![0.0; self.memory.parameters()].into_boxed_slice();
        }
        self.set_period(now, welcome.period_us);
        if is_new {
            actions.push(Action::SessionOpened(welcome.session));
        }
        self.settle(now, welcome.settled, welcome.durable, true);
        self.send_next_kept(now, actions);
    }

    fn on_settled(&mut self, now: Time, settled: &Settled, actions: &mut Vec<Action>) {
        self.settle(now, settled.through, settled.durable, settled.refused.is_none());
        self.send_next_kept(now, actions);
    }

    fn on_refused(&mut self, refusal: Refusal, actions: &mut Vec<Action>) {
        let end = match refusal {
            Refusal::AnotherRun | Refusal::AnotherModel | Refusal::SessionOver(_) => End::StartAfresh(refusal),
            refusal => End::Refused(refusal),
        };
        self.end(end, actions);
    }

    /// What is settled was accepted, or refused, once and for all; what is durable need not be kept.
    fn settle(&mut self, now: Time, through: u64, durable: u64, is_accepted: bool) {
        for kept in self
            .kept
            .iter()
            .filter(|kept| kept.sequence > self.settled && kept.sequence <= through)
        {
            self.accepted_samples += if is_accepted { kept.samples } else { 0 };
        }
        self.settled = through;
        if !is_accepted {
            self.let_go_of_refused(through);
        }
        self.link.on_settled(now);
        while let Some(kept) = self.kept.pop_front_if(|kept| kept.sequence <= durable) {
            self.spare.push(kept.frame);
        }
    }

    /// Under local steps a refused update leaves the working copies when a model is published that settles it. The next one may
    /// never come, if all that is computed on what was refused is refused as well: so the one that is here is published again.
    fn let_go_of_refused(&mut self, sequence: u64) {
        let settled_read_outs = self.settling.on_refused(sequence);
        if let (Some(read_outs), Some(stamp), true) =
            (settled_read_outs, self.memory.published(), self.config.has_local_steps)
        {
            self.memory
                .publish(stamp, read_outs, |before, slot| slot.copy_from_slice(before));
        }
    }

    /// Sends the first contribution that is not settled, if there is one.
    pub(super) fn send_next_kept(&mut self, now: Time, actions: &mut Vec<Action>) {
        let next = self.settled + 1;
        if self.link.state() == LinkState::Welcomed && self.kept.iter().any(|kept| kept.sequence == next) {
            self.link.on_sent(now);
            self.link.contribution_on_its_way = Some(now);
            actions.push(Action::SendReadOut { sequence: next });
        }
    }
}
