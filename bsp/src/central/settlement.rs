//! Settling: a contribution is told apart by its number, judged, and counted, once and for all.

use std::cmp::Ordering;

use bytes::Bytes;

use super::ConnectionId;
use super::admission::{Limits, admit, is_late};
use super::config::Config;
use super::phase::Phase;
use super::sessions::Sessions;
use super::supersteps::{Arrival, Supersteps};
use super::totals::Totals;
use super::trainer::Trainer;
use crate::combine::Admitted;
use crate::message::{ContributionRefusal, ReadOut, Refusal, SessionId, Settled};
use crate::time::Time;

/// The parts that settling touches.
pub(super) struct Settlement<'a> {
    pub(super) config: &'a Config,
    pub(super) phase: Phase,
    pub(super) trainer: &'a Trainer,
    pub(super) sessions: &'a mut Sessions,
    pub(super) supersteps: &'a mut Supersteps,
    pub(super) totals: &'a mut Totals,
}

impl Settlement<'_> {
    /// Settles a contribution that has come on this connection: its session, and what to answer. Numbers are settled in order,
    /// without gaps; a contribution that comes again is answered, and not read.
    ///
    /// # Errors
    /// Why its volunteer is turned away: no honest one sends this.
    pub(super) fn settle(
        &mut self,
        now: Time,
        from: ConnectionId,
        header: &ReadOut,
        payload: Bytes,
    ) -> Result<(SessionId, Settled), Refusal> {
        let session = self.sessions.on_heard(now, from, self.config)?;
        if header.session != session {
            return Err(Refusal::AnotherSession(header.session));
        }
        let settled = self.sessions.settled(session);
        let (got, expected) = (header.sequence, settled + 1);
        let refused = match got.cmp(&expected) {
            Ordering::Greater => return Err(Refusal::OutOfOrder { got, expected }),
            // It was settled before the link broke; the volunteer did not hear of it.
            Ordering::Less => None,
            Ordering::Equal => self.judge(now, header, payload).err(),
        };
        let through = settled.max(got);
        let answer = Settled {
            through,
            durable: through,
            refused,
        };
        Ok((session, answer))
    }

    /// Accepts or refuses the next contribution of its session.
    fn judge(&mut self, now: Time, header: &ReadOut, payload: Bytes) -> Result<(), ContributionRefusal> {
        let (session, stamp) = (header.session, self.trainer.stamp());
        let codec = self.sessions.contribution_codec(session);
        let limits = Limits {
            config: self.config,
            parameters: self.trainer.model().len(),
            codec,
            drops_late_ones: self.supersteps.policy().drops_late_ones(),
            is_open: self.phase == Phase::Open,
            has_room: self.supersteps.open().has_room_for(session),
        };
        let outcome = admit(header, payload, stamp, &limits);
        self.sessions.change(session, self.config, |session| {
            session.numbers.settle_next(stamp.version);
            session.activity.on_report(header.report);
        });
        match outcome {
            Ok((contribution, staleness)) => {
                self.accept(now, header, contribution, staleness);
                Ok(())
            }
            Err(reason) => {
                self.refuse(header);
                Err(reason)
            }
        }
    }

    fn accept(&mut self, now: Time, header: &ReadOut, contribution: Admitted, staleness: f64) {
        let (samples, stamp) = (header.samples, self.trainer.stamp());
        let arrival = self.sessions.change(header.session, self.config, |session| {
            session.tally.on_accepted(samples, staleness);
            Arrival {
                has_current: session.delivery.stored() == Some(stamp),
                follows_model: session.activity.pace.on_contribution(now, samples),
                is_late: is_late(header, stamp),
            }
        });
        let weight = self.supersteps.policy().weight_of(staleness);
        self.totals.on_accepted(samples, header.gradients, staleness, weight);
        if let Some(arrival) = arrival {
            self.supersteps.on_accepted(now, contribution, header.loss_sum, arrival);
        }
    }

    fn refuse(&mut self, header: &ReadOut) {
        self.sessions.change(header.session, self.config, |session| {
            session.tally.on_refused();
            session.numbers.on_refused();
        });
        self.totals.on_refused();
        let is_late = is_late(header, self.trainer.stamp());
        self.supersteps.on_refused(header.session, is_late);
    }
}
