//! Training: it settles contributions, closes supersteps, makes versions and sends them.

use std::cmp::Ordering;

use bytes::Bytes;

use super::ConnectionId;
use super::action::Action;
use super::admission::{Limits, admit, is_late};
use super::broadcast::Broadcast;
use super::checkpoint::{Awaited, Checkpoint};
use super::config::Config;
use super::divergence::{Divergence, DivergenceWatch};
use super::going_back::Books;
use super::lineage::Lineage;
use super::lost::{Lost, LostSamples};
use super::open_superstep::{OpenSuperstep, max_contributions};
use super::phase::Phase;
use super::policy::Receivers;
use super::sessions::Sessions;
use super::supersteps::{Arrival, Supersteps, Verdict};
use super::totals::Totals;
use super::trainer::{Diverged, RecordError, ServerOptimizer, Trainer};
use crate::combine::Admitted;
use crate::protocol::message::{Ack, Contribution, ContributionRefusal, FromCentral, Refusal, SessionId};
use crate::time::{Time, duration_micros};

/// The training of the model.
pub(super) struct Training {
    config: Config,
    phase: Phase,
    supersteps: Supersteps,
    trainer: Trainer,
    lineage: Lineage,
    broadcast: Broadcast,
    totals: Totals,
    /// Accepted samples of models that the run has gone back from.
    gone_back: u64,
    lost: Lost,
    watch: DivergenceWatch,
    divergence: Option<Divergence>,
}

impl Training {
    /// Training that begins at `now` with the model `model`, as incarnation 1, version 0.
    pub(super) fn new(now: Time, config: Config, model: Vec<f32>, optimizer: Box<dyn ServerOptimizer>) -> Training {
        let trainer = Trainer::new(&config, model, optimizer);
        Training {
            phase: Phase::Open,
            supersteps: Supersteps::new(OpenSuperstep::open_at(now), &config),
            broadcast: Broadcast::new(config.model_codec, trainer.stamp(), trainer.model()),
            totals: Totals::default(),
            gone_back: 0,
            lost: Lost::default(),
            watch: DivergenceWatch::default(),
            divergence: None,
            lineage: Lineage::default(),
            trainer,
            config,
        }
    }

    /// Training that goes on at `now` from a checkpoint, as incarnation `incarnation`. `awaited` are contributions that
    /// were accepted after it, by incarnations before.
    ///
    /// # Errors
    /// The checkpoint does not fit the run's model or its optimizer.
    pub(super) fn resumed(
        now: Time,
        config: Config,
        checkpoint: Checkpoint,
        incarnation: u32,
        optimizer: Box<dyn ServerOptimizer>,
        awaited: Vec<Awaited>,
    ) -> Result<Training, RecordError> {
        let parameters = checkpoint.trainer.model.len();
        let mut trainer = Trainer::new(&config, vec![0.0; parameters], optimizer);
        trainer.load(checkpoint.trainer, incarnation)?;
        let stamp = trainer.stamp();
        let open = OpenSuperstep::resumed(now, checkpoint.open, parameters)?;
        let broadcast = Broadcast::resumed(config.model_codec, stamp, trainer.model(), checkpoint.replica)?;
        let totals = checkpoint.totals;
        // What was accepted and is in neither: the run has gone back from it.
        let gone_back = totals.in_no_model(trainer.samples_in_model(), open.samples());
        let gone_back = gone_back.ok_or(RecordError::Totals)?;
        let awaited = checkpoint.awaited.into_iter().chain(awaited);
        Ok(Training {
            phase: Phase::Open,
            supersteps: Supersteps::new(open, &config),
            lineage: Lineage::resumed(
                checkpoint.last_versions,
                checkpoint.diverged,
                incarnation,
                stamp.version,
            ),
            broadcast,
            totals,
            gone_back,
            lost: Lost::new(awaited, now, config.session_ttl),
            watch: DivergenceWatch::default(),
            divergence: None,
            trainer,
            config,
        })
    }

    /// What a checkpoint that is made now holds, `number` in its incarnation.
    pub(super) fn make_checkpoint(&self, sessions: &mut Sessions, number: u64) -> Checkpoint {
        Checkpoint {
            number,
            trainer: self.trainer.record(),
            last_versions: self.lineage.record(),
            diverged: self.lineage.diverged().to_vec(),
            replica: self.broadcast.record(),
            open: self.supersteps.open().record(),
            sessions: sessions.make_record(),
            awaited: self.lost.record(),
            totals: self.totals,
        }
    }

    /// What the run keeps when its model goes back.
    pub(super) fn books(&self, sessions: &mut Sessions) -> Books {
        Books {
            sessions: sessions.make_record(),
            awaited: self.lost.record(),
            totals: self.totals,
            diverged: self.lineage.diverged_with_this(),
            setbacks: self.trainer.setbacks(),
        }
    }

    /// Time has passed: what has not come again for long is remembered as one number.
    pub(super) fn forget_if_due(&mut self, now: Time) {
        self.lost.forget_if_due(now);
    }

    /// Samples of contributions that were accepted, and then lost with their server, and that may still come again.
    pub(super) fn samples_awaited(&self, now: Time) -> u64 {
        self.lost.awaited_samples(now)
    }

    /// Accepted samples that no model holds, and none will.
    pub(super) fn samples_lost(&self, now: Time) -> LostSamples {
        let in_no_model = self.totals.samples - self.totals.samples_in_model - self.supersteps.open().samples();
        LostSamples {
            with_volunteers: self.lost.lost_samples(now),
            gone_back: self.gone_back,
            diverged: in_no_model - self.gone_back,
        }
    }

    /// The run's settings.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// How far the run has come.
    pub(super) fn phase(&self) -> Phase {
        self.phase
    }

    /// The open superstep, and when it closes.
    pub(super) fn supersteps(&self) -> &Supersteps {
        &self.supersteps
    }

    /// The model.
    pub(super) fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Totals so far.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }

    /// No contribution is accepted any more.
    pub(super) fn finish(&mut self) {
        self.phase = self.phase.finished();
    }

    /// How the run was found to have diverged, if it has.
    pub(super) fn divergence(&self) -> Option<Divergence> {
        self.divergence
    }

    /// Nothing follows from this model: no contribution is accepted any more. What the open superstep holds is lost.
    pub(super) fn diverge(&mut self, now: Time, divergence: Divergence, actions: &mut Vec<Action>) {
        if self.phase != Phase::Open {
            return;
        }
        self.phase = Phase::Diverged;
        self.divergence = Some(divergence);
        self.supersteps.close(now);
        actions.push(Action::Diverged(divergence));
    }

    /// The run can't go back to an earlier model.
    pub(super) fn give_up_going_back(&mut self) {
        self.config.goes_back = false;
    }

    /// A volunteer reports this many gradients that were not finite.
    pub(super) fn on_not_finite(&mut self, now: Time, gradients: u64, actions: &mut Vec<Action>) {
        self.watch.on_not_finite(gradients);
        if self.phase == Phase::Open && self.watch.suspects(now) {
            actions.push(Action::CheckGradients);
        }
    }

    /// The driver has computed gradients, and they are finite.
    pub(super) fn on_gradients_finite(&mut self, now: Time) {
        self.watch.on_denied(now);
    }

    /// So many durable contributions of a session are in no checkpoint that could be read.
    pub(super) fn on_gap(&mut self, contributions: u64) {
        self.totals.on_gap(contributions);
    }

    /// The volunteer of this session has paused or left.
    pub(super) fn on_absence(&mut self, session: SessionId) {
        self.supersteps.on_absence(session);
    }

    /// A volunteer has stored a model: the newest one may follow.
    pub(super) fn on_stored(
        &mut self,
        sessions: &mut Sessions,
        now: Time,
        session: SessionId,
        actions: &mut Vec<Action>,
    ) {
        if self.supersteps.policy().receivers() == Receivers::Everyone {
            self.send_model(sessions, now, session, actions);
        }
    }

    /// Closes the open superstep now, if it holds samples. The optimizer's step shrinks with the share of the intended
    /// samples that the superstep holds.
    pub(super) fn close_early(&mut self, sessions: &mut Sessions, now: Time, actions: &mut Vec<Action>) {
        let samples = self.supersteps.open().samples();
        if samples > 0 && !self.phase.has_diverged() {
            let share = samples as f64 / self.config.superstep_samples as f64;
            self.close(sessions, now, share.min(1.0) as f32, actions);
        }
    }

    /// A frame has come, or a connection has ended.
    pub(super) fn after_event(&mut self, sessions: &mut Sessions, now: Time, actions: &mut Vec<Action>) {
        if self.supersteps.on_event() {
            self.review(sessions, now, actions);
        }
    }

    /// A time-out has come.
    pub(super) fn on_timeout(&mut self, sessions: &mut Sessions, now: Time, actions: &mut Vec<Action>) {
        self.supersteps.on_timeout();
        self.review(sessions, now, actions);
    }

    /// Looks at all volunteers, and closes the open superstep if it is time.
    fn review(&mut self, sessions: &mut Sessions, now: Time, actions: &mut Vec<Action>) {
        match self.supersteps.review(now, sessions) {
            Verdict::Close if !self.phase.has_diverged() => self.close(sessions, now, 1.0, actions),
            Verdict::WaitAndAdapt => self.adapt_period(sessions, now, actions),
            Verdict::Close | Verdict::Wait => {}
        }
    }

    /// Makes the next version out of the open superstep. `rate_share` multiplies the learning rate.
    fn close(&mut self, sessions: &mut Sessions, now: Time, rate_share: f32, actions: &mut Vec<Action>) {
        let mut closing = self.supersteps.close(now);
        if let Err(Diverged) = self.trainer.step(closing.contributions_mut(), rate_share) {
            let version = self.trainer.stamp().version;
            self.diverge(now, Divergence::Step { version }, actions);
            return;
        }
        let stamp = self.trainer.stamp();
        self.broadcast.publish(stamp, self.trainer.model());
        sessions.on_version_made(stamp, &self.config);
        let policy = self.supersteps.policy();
        let closed = closing.summary(now, stamp.version, |staleness| policy.weight_of(staleness));
        let receivers = match policy.receivers() {
            Receivers::Everyone => sessions.by_connection(),
            Receivers::Contributors => closing.sessions(),
        };
        self.totals.on_closed(&closed);
        actions.push(Action::SuperstepClosed(closed));
        for session in receivers {
            self.send_model(sessions, now, session, actions);
        }
        self.adapt_period(sessions, now, actions);
    }

    /// Sends the newest model, unless the volunteer has it, has one on its way, or its link rests.
    pub(super) fn send_model(
        &mut self,
        sessions: &mut Sessions,
        now: Time,
        session: SessionId,
        actions: &mut Vec<Action>,
    ) {
        let (policy, config) = (self.supersteps.policy(), &self.config);
        let rest = |link: &_| policy.rest_after_model(link, config);
        let Some(due) = sessions.ask_for_model(now, session, config, rest) else {
            return;
        };
        let to = due.to;
        if config.has_local_steps {
            let through = due.settles;
            actions.push(Action::send(to, &FromCentral::NextModelSettles { through }));
        }
        let frame = self.broadcast.encode(due.stored, self.trainer.model());
        actions.push(Action::Send { to, frame });
    }

    /// Lets the period follow the volunteers' throughput, and tells the volunteers whose period has changed.
    fn adapt_period(&mut self, sessions: &mut Sessions, now: Time, actions: &mut Vec<Action>) {
        if !self.supersteps.adapt(now, sessions.activities(), &self.config) {
            return;
        }
        let period = self.supersteps.policy().period();
        for (to, period) in sessions.change_periods(period, &self.config) {
            let period_us = duration_micros(period);
            actions.push(Action::send(to, &FromCentral::ReadOutEvery { period_us }));
        }
    }

    /// Settles a contribution that has come on this connection, and acknowledges it. Numbers are settled in order,
    /// without gaps. A contribution that comes again is acknowledged again, and its payload is not read.
    ///
    /// Returns the contribution's session.
    ///
    /// # Errors
    /// The reason to turn its volunteer away: no honest volunteer sends this.
    pub(super) fn settle(
        &mut self,
        sessions: &mut Sessions,
        now: Time,
        from: ConnectionId,
        header: &Contribution,
        payload: Bytes,
        actions: &mut Vec<Action>,
    ) -> Result<SessionId, Refusal> {
        let session = sessions.on_heard(now, from, &self.config)?;
        if header.session != session {
            return Err(Refusal::AnotherSession(header.session));
        }
        let settled = sessions.settled(session);
        let (got, expected) = (header.sequence, settled + 1);
        let refused = match got.cmp(&expected) {
            Ordering::Greater => return Err(Refusal::OutOfOrder { got, expected }),
            // It was settled before the link broke; the acknowledgement was lost.
            Ordering::Less => {
                self.totals.on_duplicate();
                None
            }
            Ordering::Equal => self.settle_next(sessions, now, header, payload).err(),
        };
        let is_refused = refused.is_some();
        if let Some(reason) = refused.clone() {
            let sequence = got;
            actions.push(Action::ContributionRefused {
                session,
                sequence,
                reason,
            });
        }
        if self.config.checkpoint_interval.is_some() && got == expected && !is_refused {
            let (sequence, samples) = (got, header.samples);
            actions.push(Action::NoteAccepted(Awaited {
                session,
                sequence,
                samples,
            }));
        }
        let through = settled.max(got);
        let answer = Ack {
            through,
            durable: sessions.durable(session, &self.config),
            refused,
        };
        actions.push(Action::send(from, &FromCentral::Ack(answer)));
        if is_refused && self.supersteps.policy().receivers() == Receivers::Contributors {
            // No version follows from it, but its volunteer waits for a model.
            self.send_model(sessions, now, session, actions);
        }
        Ok(session)
    }

    /// Checks, in O(1), that no sample is lost or counted twice.
    pub(super) fn assert_consistent(&self) {
        let open = self.supersteps.open();
        open.assert_consistent();
        let held = self.totals.samples_in_model.saturating_add(open.samples());
        let counted = held.saturating_add(self.gone_back);
        // The superstep whose step diverged is in no model.
        assert!(
            self.totals.samples == counted || self.phase.has_diverged() && self.totals.samples > counted,
            "each accepted sample is in the model or in the open superstep, or the run has gone back from it"
        );
        assert_eq!(
            self.totals.samples_in_model,
            self.trainer.samples_in_model(),
            "totals and trainer count the same samples"
        );
        assert_eq!(
            self.lineage.incarnation(),
            self.trainer.stamp().incarnation,
            "the lineage ends with the trainer's incarnation"
        );
    }

    /// Accepts or refuses the next contribution of its session.
    fn settle_next(
        &mut self,
        sessions: &mut Sessions,
        now: Time,
        header: &Contribution,
        payload: Bytes,
    ) -> Result<(), ContributionRefusal> {
        let (session, stamp) = (header.session, self.trainer.stamp());
        let codec = sessions.contribution_codec(session);
        let limits = Limits {
            config: &self.config,
            lineage: &self.lineage,
            parameters: self.trainer.model().len(),
            codec,
            drops_late_ones: self.supersteps.policy().drops_late_ones(),
            is_open: self.phase == Phase::Open,
            has_room: self
                .supersteps
                .open()
                .has_room_for(session, max_contributions(self.trainer.model().len())),
        };
        let outcome = admit(header, payload, stamp, &limits);
        sessions.change(session, &self.config, |session| {
            session.numbers.settle_next(stamp.version);
            session.activity.on_report(header.report);
        });
        self.lost.on_settled(session, header.sequence);
        if self.lineage.holds(header.incarnation) {
            self.totals.on_resent();
        }
        match outcome {
            Ok((contribution, staleness)) => {
                self.watch.on_accepted();
                self.accept(sessions, now, header, contribution, staleness);
                Ok(())
            }
            Err(reason) => {
                if reason == ContributionRefusal::NotFinite {
                    self.watch.on_refused();
                }
                self.refuse(sessions, header);
                Err(reason)
            }
        }
    }

    fn accept(
        &mut self,
        sessions: &mut Sessions,
        now: Time,
        header: &Contribution,
        contribution: Admitted,
        staleness: f64,
    ) {
        let (samples, stamp) = (header.samples, self.trainer.stamp());
        let arrival = sessions.change(header.session, &self.config, |session| {
            session.tally.on_accepted(samples, staleness);
            Arrival {
                has_current: session.delivery.stored() == Some(stamp),
                follows_model: session.activity.pace.on_contribution(now, samples),
                is_late: is_late(header, stamp, &self.lineage),
            }
        });
        let weight = self.supersteps.policy().weight_of(staleness);
        self.totals.on_accepted(samples, header.gradients, staleness, weight);
        if let Some(arrival) = arrival {
            self.supersteps.on_accepted(now, contribution, header.loss_sum, arrival);
        }
    }

    fn refuse(&mut self, sessions: &mut Sessions, header: &Contribution) {
        sessions.change(header.session, &self.config, |session| {
            session.tally.on_refused();
            session.numbers.on_refused();
        });
        self.totals.on_refused();
        let is_late = is_late(header, self.trainer.stamp(), &self.lineage);
        self.supersteps.on_refused(header.session, is_late);
    }
}

#[cfg(test)]
mod tests;
