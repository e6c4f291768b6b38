//! Contributions are checked and settled, in order, as accepted or refused; both are final.

use bytes::Bytes;

use super::superstep::MAX_CONTRIBUTIONS;
use super::{Action, Central, ConnectionId};
use crate::codec::{Codec, CodecError, Encoded};
use crate::combine::Contribution;
use crate::message::{ContributionRefusal, FromCentral, Mode, ReadOut, Refusal, SessionId, Settled};
use crate::time::Time;

/// The most samples that one contribution can be believed to hold: a million volunteers' day. So totals never overflow.
const MAX_SAMPLES: u64 = 1 << 40;

impl Central {
    pub(super) fn on_read_out(
        &mut self,
        now: Time,
        from: ConnectionId,
        read_out: &ReadOut,
        payload: Bytes,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        let id = *self.connections.get(&from).ok_or(Refusal::HelloFirst)?;
        let checked = self.check(id, read_out, payload);
        let (stamp, mode) = (self.stamp, self.config.mode);
        let session = self.seen(now, from)?;
        if read_out.session != id {
            return Err(Refusal::AnotherSession(read_out.session));
        }
        let expected = session.settled + 1;
        if read_out.sequence > expected {
            return Err(Refusal::OutOfOrder {
                got: read_out.sequence,
                expected,
            });
        }
        if read_out.sequence < expected {
            // It was settled before the link broke; the volunteer did not hear of it.
            let settled = Settled {
                through: session.settled,
                durable: session.settled,
                refused: None,
            };
            actions.push(Action::Send {
                to: from,
                frame: FromCentral::Settled(settled).encode(),
            });
            return Ok(());
        }
        session.settled = read_out.sequence;
        session.on_report(read_out.report);
        let settled = Settled {
            through: session.settled,
            durable: session.settled,
            refused: checked.as_ref().err().cloned(),
        };
        let is_late = read_out.version_sum < u128::from(stamp.version) * u128::from(read_out.samples);
        match checked {
            Ok((staleness, contribution)) => {
                let follows_model = session.on_accepted(now, read_out, staleness);
                let has_current = session.stored == Some(stamp);
                if follows_model && has_current {
                    self.period.on_contribution(now, self.superstep.opened);
                }
                // (In lockstep its model may not be reported as stored yet, after a reconnect.)
                let is_in_time = match mode {
                    Mode::Decoupled => has_current,
                    Mode::Lockstep => !is_late,
                    Mode::Asynchronous => true,
                };
                self.totals.samples = self.totals.samples.saturating_add(read_out.samples);
                self.totals.gradients = self.totals.gradients.saturating_add(read_out.gradients);
                self.totals.accepted += 1;
                self.superstep.add(now, contribution, read_out.loss_sum, is_in_time);
            }
            Err(reason) => {
                session.refused += 1;
                // No model will hold it: where all before it are in the current one, that one settles it, too. A volunteer that does
                // not hear of the refusal, because its link breaks, hears so with the model after the reconnect.
                if session.settled_in_model + 1 == read_out.sequence {
                    session.settled_in_model = read_out.sequence;
                }
                self.totals.refused += 1;
                if mode == Mode::Lockstep && !is_late {
                    self.superstep.excuse(id);
                }
                actions.push(Action::ContributionRefused {
                    session: id,
                    sequence: read_out.sequence,
                    reason,
                });
            }
        }
        let is_refused = settled.refused.is_some();
        actions.push(Action::Send {
            to: from,
            frame: FromCentral::Settled(settled).encode(),
        });
        if is_refused && mode == Mode::Asynchronous {
            // No version is made of it, but its volunteer waits for one.
            self.send_model(now, id, actions);
        }
        Ok(())
    }

    /// A contribution that can be accepted, and its staleness.
    fn check(
        &self,
        from: SessionId,
        read_out: &ReadOut,
        payload: Bytes,
    ) -> Result<(f64, Contribution), ContributionRefusal> {
        let ReadOut { samples, gradients, .. } = *read_out;
        if (read_out.run, read_out.spec_hash) != (self.config.run, self.config.spec_hash)
            || read_out.incarnation != self.stamp.incarnation
            || self.is_finished
            || self.has_diverged
        {
            return Err(ContributionRefusal::AnotherRun);
        }
        let codec = self
            .sessions
            .get(&from)
            .map_or(Codec::F32, |session| session.contribution_codec);
        if read_out.codec != codec {
            return Err(ContributionRefusal::AnotherCodec {
                got: read_out.codec,
                expected: codec,
            });
        }
        let (got, expected) = (payload.len(), codec.encoded_bytes(self.model.len()));
        if got != expected {
            return Err(ContributionRefusal::WrongLength { got, expected });
        }
        let most_samples = gradients.saturating_mul(self.config.minibatch).min(MAX_SAMPLES);
        // No ML module can have made more steps than there are gradients in all.
        let most_steps = u128::from(samples) * u128::from(gradients);
        let are_steps_plausible = match self.config.has_local_steps {
            true => (u128::from(samples)..=most_steps).contains(&read_out.step_sum),
            false => read_out.step_sum == 0,
        };
        if gradients == 0 || samples < gradients || samples > most_samples || !are_steps_plausible {
            return Err(ContributionRefusal::Implausible { samples, gradients });
        }
        let version = read_out.version_sum as f64 / samples as f64;
        // Compared as whole numbers: rounding must not lift a mean above the version that all of it was computed on.
        if read_out.version_sum > u128::from(self.stamp.version) * u128::from(samples) {
            return Err(ContributionRefusal::FromTheFuture {
                version: version as u64,
            });
        }
        let staleness = (self.stamp.version as f64 - version).max(0.0);
        if staleness > self.config.max_staleness as f64 {
            let max = self.config.max_staleness;
            return Err(ContributionRefusal::TooStale {
                staleness: staleness as u64,
                max,
            });
        }
        // With backup workers a superstep closes without the slowest, and what they bring later is of no use.
        if self.config.mode == Mode::Lockstep && self.config.backup_workers > 0 && staleness > 0.0 {
            return Err(ContributionRefusal::Dropped {
                version: version as u64,
            });
        }
        // A loss beyond an f32 is none that was computed, and some of them together would leave f64, too.
        if !(read_out.loss_sum as f32).is_finite() {
            return Err(ContributionRefusal::NotFinite);
        }
        let gradient = Encoded::new(codec, payload, self.model.len()).map_err(|error| match error {
            CodecError::NotFinite { .. } => ContributionRefusal::NotFinite,
            error => ContributionRefusal::Undecodable(error.to_string()),
        })?;
        if self.superstep.contributions_of(from) >= MAX_CONTRIBUTIONS {
            return Err(ContributionRefusal::TooMany { max: MAX_CONTRIBUTIONS });
        }
        let has_steps = self.config.has_local_steps;
        let steps = has_steps.then(|| read_out.step_sum as f64 / samples as f64);
        let contribution = Contribution {
            session: from,
            sequence: read_out.sequence,
            samples,
            version,
            steps,
            gradient,
        };
        Ok((staleness, contribution))
    }
}
