//! Reading out: the ML modules' aggregates become one contribution, without an allocation.

use super::ending::Life;
use super::{Action, BARRIER_LOOKS, Kept, Local};
use crate::codec::Codec;
use crate::message::{MAX_STEP_RUNS, Mode, ModuleStepRun, ReadOut, ReadOutFrame, SessionId};
use crate::shared_memory::{Header, Taken};
use crate::time::Time;

/// A read-out that has begun. The ML modules' sums are merged in their order, so that the result is always the same.
#[derive(Debug)]
pub(super) struct Reading {
    frame: ReadOutFrame,
    next_ml_module: usize,
}

impl Local {
    /// One contribution on its way at most, and room to keep one more. (After a death there is no time for order.)
    ///
    /// Under local steps the last one must have come back in a model, too.
    pub(super) fn can_read_out(&self) -> bool {
        // (Who leaves computes on no model any more.)
        let is_outstanding = self.config.has_local_steps && self.settling.is_outstanding() && self.leaving.is_none();
        let is_under_way = self.link.contribution_on_its_way.is_some() || is_outstanding;
        (!is_under_way || self.is_dying()) && !self.spare.is_empty()
    }

    /// Reads out all ML modules, or as many as can be; the rest at the next turn.
    pub(super) fn read_out(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.reading.is_none() {
            self.read_out_due = (self.read_out_due + self.period).max(now);
            if !self.has_something_to_read() {
                let pause = match self.config.mode {
                    Mode::Decoupled => self.period,
                    Mode::Lockstep | Mode::Asynchronous => {
                        // They will hardly take less than three quarters of what the last ones took.
                        let waited = now.since(self.model_since);
                        let worth_a_look = (self.gradients_took * 3 / 4).saturating_sub(waited);
                        self.period.max(waited / BARRIER_LOOKS).max(worth_a_look)
                    }
                };
                self.read_out_due = self.read_out_due.max(now + pause);
                return;
            }
            let Some(frame) = self.spare.pop() else { return };
            for (ml_module, life) in self.life.iter_mut().enumerate() {
                self.memory.flip(ml_module);
                if *life == Life::DiedInReadOut {
                    *life = Life::Dead;
                }
            }
            self.last_read_out = now;
            self.gradients_took = now.since(self.model_since);
            self.header.step_runs.clear();
            let ReadOut {
                samples,
                gradients,
                loss_sum,
                version_sum,
                step_sum,
                step_runs_not_listed,
                ..
            } = &mut self.header;
            (*samples, *gradients, *loss_sum, *version_sum) = (0, 0, 0.0, 0);
            (*step_sum, *step_runs_not_listed) = (0, 0);
            self.reading = Some(Reading {
                frame,
                next_ml_module: 0,
            });
        }
        self.merge();
        let Some(Reading { frame, .. }) = self
            .reading
            .take_if(|reading| reading.next_ml_module == self.life.len())
        else {
            return;
        };
        if self.header.gradients == 0 {
            self.spare.push(frame);
        } else {
            self.keep(now, frame, actions);
        }
    }

    /// Takes the ML modules' aggregates, in order, and adds them to the read-out's payload and header; stops at the first
    /// one in the middle of an add.
    fn merge(&mut self) {
        let Some(Reading { next_ml_module, .. }) = &mut self.reading else {
            return;
        };
        let (header, merged) = (&mut self.header, &mut self.merged);
        let has_local_steps = self.config.has_local_steps;
        while *next_ml_module < self.life.len() {
            let ml_module = *next_ml_module;
            let taken = self.memory.take(ml_module, |of, sum| {
                if of.gradients > 0 {
                    // Under local steps n · U / h, else the sum as it is.
                    let factor = match has_local_steps {
                        true => (of.samples as f64 / of.gradients as f64) as f32,
                        false => 1.0,
                    };
                    let values = merged.iter_mut().zip(sum);
                    if header.gradients == 0 {
                        values.for_each(|(merged, value)| *merged = value * factor);
                    } else {
                        values.for_each(|(merged, value)| *merged += value * factor);
                    }
                    add_header(header, ml_module, of);
                    if has_local_steps {
                        header.step_sum += u128::from(of.samples) * u128::from(of.gradients);
                    }
                }
                of.gradients
            });
            match taken {
                Taken::Pending if self.life[ml_module] == Life::Living => return,
                // It took one more lease in the moment between its error and its end.
                Taken::Pending => self.discarded += self.memory.bury(ml_module).gradients,
                Taken::Read(gradients) => self.taken_gradients[ml_module] += gradients,
                Taken::NotFlipped => {}
            }
            if self.life[ml_module] == Life::Dead {
                self.life[ml_module] = Life::Drained;
            }
            *next_ml_module += 1;
        }
    }

    /// Numbers the read-out that was merged, keeps it, and sends it when its turn has come.
    fn keep(&mut self, now: Time, mut frame: ReadOutFrame, actions: &mut Vec<Action>) {
        self.last_sequence += 1;
        self.header.sequence = self.last_sequence;
        self.header.session = self.session.map_or(SessionId(0), |(id, _)| id);
        self.header.report = self.report();
        self.header.codec = self.codec;
        let payload = frame.payload_mut(self.codec.encoded_bytes(self.merged.len()));
        if self.codec == Codec::F32 {
            self.codec.encode(&self.merged, payload);
        } else {
            self.codec
                .encode_with_feedback(&mut self.merged, &mut self.error, payload);
            if !self.error.iter().all(|error| error.is_finite()) {
                // A sum was beyond an f32, and a codec may have made anything of it: the loss says so, and it is refused.
                self.header.loss_sum = f64::INFINITY;
                self.error.fill(0.0);
            }
        }
        // All ML modules are read out together, so that the number is the same for all.
        let read_out = self.memory.read_outs(0);
        self.settling.on_read_out(self.last_sequence, read_out);
        // The list of runs is bounded when it is filled, so the header always fits.
        let sealed = frame.seal(&self.header);
        debug_assert!(sealed.is_ok());
        self.kept.push_back(Kept {
            sequence: self.last_sequence,
            samples: self.header.samples,
            frame,
        });
        if self.is_dying() {
            actions.push(Action::SendReadOut {
                sequence: self.last_sequence,
            });
        } else {
            self.send_next_kept(now, actions);
        }
    }

    /// Whether there are gradients that were not read out; in a baseline, whether every ML module has added its one.
    pub(super) fn has_something_to_read(&self) -> bool {
        let has_new = |ml_module: usize| match self.life[ml_module] {
            Life::Living => self.memory.progress(ml_module).gradients > self.taken_gradients[ml_module],
            // It may have died between adding a gradient and counting it: only a look can tell.
            Life::DiedInReadOut | Life::Dead => true,
            Life::Drained => false,
        };
        let is_ending = self.is_paused || self.leaving.is_some();
        match self.config.mode {
            Mode::Lockstep | Mode::Asynchronous if !is_ending => self.computing().all(has_new),
            _ => (0..self.life.len()).any(has_new),
        }
    }
}

/// Adds what an ML module's header says to a read-out's.
fn add_header(header: &mut ReadOut, ml_module: usize, of: &Header) {
    header.incarnation = of.incarnation;
    header.samples += of.samples;
    header.gradients += of.gradients;
    header.loss_sum += of.loss_sum;
    header.version_sum += of.version_sum;
    header.step_runs_not_listed += of.unlisted_runs;
    for run in of.runs() {
        if header.step_runs.len() < MAX_STEP_RUNS {
            header.step_runs.push(ModuleStepRun::new(ml_module, run));
        } else {
            header.step_runs_not_listed += 1;
        }
    }
}
