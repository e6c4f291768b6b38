//! The ML modules of the tab, over the local side of their shared memory: their orders, which of them live, and what
//! can be taken from them. Nothing here allocates after the start.

use crate::protocol::frame::FrameError;
use crate::protocol::message::{ModelEncoding, Report, StoreModel};
use crate::shared_memory::{Control, Header, LocalSide, ModelStamp, State, Taken};

/// Whether an ML module lives, and if not, whether its aggregate can still hold something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// It lives.
    Living,
    /// It died while a read-out was under way. Gradients that it added after that read-out's flip come with the next
    /// one.
    DiedInReadOut,
    /// It is dead: the next read-out is its last.
    Dead,
    /// It is dead, and all its gradients are read out or discarded.
    Drained,
}

/// All ML modules of the tab.
pub(super) struct MlModules {
    memory: LocalSide,
    life: Vec<Life>,
    /// Gradients that were taken of each.
    taken_gradients: Vec<u64>,
    active: usize,
    duty_percent: u8,
    is_paused: bool,
    /// They sleep because nothing more can be kept of what they compute.
    is_resting: bool,
    is_stopping: bool,
    /// Gradients that were lost because an ML module died while it added.
    discarded: u64,
}

impl MlModules {
    /// All of them are told to run.
    pub(super) fn new(memory: LocalSide) -> MlModules {
        let count = memory.ml_modules();
        let modules = MlModules {
            memory,
            life: vec![Life::Living; count],
            taken_gradients: vec![0; count],
            active: count,
            duty_percent: 100,
            is_paused: false,
            is_resting: false,
            is_stopping: false,
            discarded: 0,
        };
        modules.apply_control();
        modules
    }

    /// The shared memory.
    pub(super) fn memory(&self) -> &LocalSide {
        &self.memory
    }

    /// How many there are, the dead included.
    pub(super) fn count(&self) -> usize {
        self.life.len()
    }

    /// Whether the volunteer has paused.
    pub(super) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The volunteer pauses or goes on.
    pub(super) fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
        self.apply_control();
    }

    /// Whether they sleep because nothing more can be kept of what they compute.
    pub(super) fn is_resting(&self) -> bool {
        self.is_resting
    }

    /// They sleep, or go on, because of what can be kept.
    pub(super) fn set_resting(&mut self, is_resting: bool) {
        if self.is_resting != is_resting {
            self.is_resting = is_resting;
            self.apply_control();
        }
    }

    /// The first `active` of them compute, the others sleep.
    pub(super) fn set_active(&mut self, active: usize) {
        self.active = active.min(self.count());
        self.apply_control();
    }

    /// They compute for `percent` of their time, from 1 to 100.
    pub(super) fn set_duty(&mut self, percent: u8) {
        self.duty_percent = percent.clamp(1, 100);
        self.apply_control();
    }

    /// They finish their minibatch and stop, for good.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.apply_control();
    }

    fn apply_control(&self) {
        for ml_module in 0..self.count() {
            let state = match () {
                () if self.is_stopping => State::Stop,
                () if self.is_paused || self.is_resting || ml_module >= self.active => State::Pause,
                () => State::Run,
            };
            let duty_percent = self.duty_percent;
            self.memory.set_control(ml_module, Control { state, duty_percent });
        }
    }

    /// An ML module is dead. Returns whether that is news. `is_reading` says that a read-out is under way.
    pub(super) fn on_died(&mut self, ml_module: usize, is_reading: bool) -> bool {
        if self.life.get(ml_module) != Some(&Life::Living) {
            return false;
        }
        self.life[ml_module] = if is_reading { Life::DiedInReadOut } else { Life::Dead };
        self.discarded += self.memory.drain_dead(ml_module).gradients;
        true
    }

    /// Whether one of them is dead. It may hold the allocator's lock.
    pub(super) fn has_dead(&self) -> bool {
        self.life.iter().any(|life| *life != Life::Living)
    }

    /// Whether all living ML modules that may have been started have stopped. A tab has room for more of them than it
    /// may run; those that were never started never report a stop.
    pub(super) fn have_stopped(&self) -> bool {
        let may_be_started = |ml: &usize| *ml < self.active || self.memory.progress(*ml).steps > 0;
        self.living()
            .filter(may_be_started)
            .all(|ml| self.memory.progress(ml).has_stopped)
    }

    /// Those that compute, unless the volunteer has paused.
    fn computing(&self) -> impl Iterator<Item = usize> + '_ {
        self.living().take_while(|ml_module| *ml_module < self.active)
    }

    fn living(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.count()).filter(|ml_module| self.life[*ml_module] == Life::Living)
    }

    /// Whether there are gradients that were not read out: of all ML modules that compute, if `all` says so, or of any.
    pub(super) fn have_new(&self, all: bool) -> bool {
        match all {
            true => self.computing().all(|ml_module| self.has_new(ml_module)),
            false => (0..self.count()).any(|ml_module| self.has_new(ml_module)),
        }
    }

    /// Gradients of living ML modules that were not read out.
    pub(super) fn new_gradients(&self) -> u64 {
        let of_module = |ml_module| {
            let added = self.memory.progress(ml_module).gradients;
            added.saturating_sub(self.taken_gradients[ml_module])
        };
        self.living().map(of_module).sum()
    }

    fn has_new(&self, ml_module: usize) -> bool {
        match self.life[ml_module] {
            Life::Living => self.memory.progress(ml_module).gradients > self.taken_gradients[ml_module],
            // It may have died between adding a gradient and counting it: only a look can tell.
            Life::DiedInReadOut | Life::Dead => true,
            Life::Drained => false,
        }
    }

    /// Begins a read-out of all.
    pub(super) fn flip(&mut self) {
        for (ml_module, life) in self.life.iter_mut().enumerate() {
            self.memory.flip(ml_module);
            if *life == Life::DiedInReadOut {
                *life = Life::Dead;
            }
        }
    }

    /// Takes the retired aggregate of an ML module, and hands it to `read` if it holds any gradient. Returns `None`,
    /// and takes nothing, if the ML module is in the middle of an add.
    pub(super) fn take(&mut self, ml_module: usize, read: impl FnOnce(&Header, &[f32])) -> Option<()> {
        let taken = self.memory.take(ml_module, |header, sum| {
            if header.gradients > 0 {
                read(header, sum);
            }
            header.gradients
        });
        match taken {
            Taken::Pending if self.life[ml_module] == Life::Living => return None,
            // It took one more lease in the moment between its error and its end.
            Taken::Pending => self.discarded += self.memory.drain_dead(ml_module).gradients,
            Taken::Read(gradients) => self.taken_gradients[ml_module] += gradients,
            Taken::NotFlipped => {}
        }
        if self.life[ml_module] == Life::Dead {
            self.life[ml_module] = Life::Drained;
        }
        Some(())
    }

    /// The number of the last read-out that has begun. All ML modules are read out together, so they share this number.
    pub(super) fn read_outs(&self) -> u64 {
        self.memory.read_outs(0)
    }

    /// The model that was published last.
    pub(super) fn published(&self) -> Option<ModelStamp> {
        self.memory.published()
    }

    /// Checks whether a model that has arrived can be published.
    ///
    /// # Errors
    /// It consists of differences to another model than the one published last, or its payload can't be decoded.
    pub(super) fn check(&self, model: &StoreModel, payload: &[u8]) -> Result<(), FrameError> {
        if let ModelEncoding::Differences { from, .. } = model.encoding {
            let incarnation = model.stamp.incarnation;
            let needed = ModelStamp {
                incarnation,
                version: from,
            };
            if self.published() != Some(needed) {
                return Err(FrameError::LeadsOnFrom { incarnation, from });
            }
        }
        Ok(model.check(payload, self.memory.parameters())?)
    }

    /// Publishes a model; see [`LocalSide::publish`].
    pub(super) fn publish(
        &mut self,
        stamp: ModelStamp,
        settled_read_outs: u64,
        write: impl FnOnce(&[f32], &mut [f32]),
    ) {
        self.memory.publish(stamp, settled_read_outs, write);
    }

    /// Publishes the current model again, if there is one, as a model that settles read-outs up to this number.
    pub(super) fn publish_again(&mut self, settled_read_outs: u64) {
        if let Some(stamp) = self.published() {
            self.publish(stamp, settled_read_outs, |before, slot| slot.copy_from_slice(before));
        }
    }

    /// Their report. The link's times are left at 0.
    pub(super) fn report(&self) -> Report {
        let mut report = Report {
            ml_modules: u16::try_from(self.computing().count()).unwrap_or(u16::MAX),
            is_paused: self.is_paused || self.is_stopping,
            discarded: self.discarded,
            ..Report::default()
        };
        for ml_module in 0..self.count() {
            let progress = self.memory.progress(ml_module);
            report.not_finite += progress.not_finite;
            report.time_us.gradient += progress.time_us.gradient;
            report.time_us.add += progress.time_us.add;
            report.time_us.read += progress.time_us.read;
            report.time_us.wait += progress.time_us.wait;
        }
        report
    }
}
