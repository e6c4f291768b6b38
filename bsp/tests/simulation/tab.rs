//! A tab of the simulation: a local BSP module and its ML modules, on a virtual machine of its own speed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bsp::central::ConnectionId;
use bsp::local::{self, End, Local};
use bsp::message::{FromCentral, Mode, SessionId, Token, Welcome};
use bsp::ml_module::Duty;
use bsp::shared_memory::{Control, Gradient, LocalSide, MlSide, ModelStamp, State};
use bsp::time::Time;

use super::gradients::{Gradients, Name, PARAMETERS, samples};
use super::world::{RUN, SPEC_HASH};

/// How a tab and its link are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    pub(super) ml_modules: usize,
    /// Time of one minibatch.
    pub(super) step: Duration,
    /// One way.
    pub(super) latency: Duration,
    /// In both directions.
    pub(super) bytes_per_second: f64,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            ml_modules: 1,
            step: Duration::from_millis(5),
            latency: Duration::from_millis(10),
            bytes_per_second: 1e9,
        }
    }
}

pub(super) struct Tab {
    pub(super) machine: Machine,
    /// `None` once it has crashed.
    pub(super) local: Option<Local>,
    pub(super) ml: Vec<SimulatedMl>,
    pub(super) connection: Option<ConnectionId>,
    pub(super) session: Option<SessionId>,
    pub(super) ended: Option<(Time, End)>,
    /// Nothing of it runs before.
    pub(super) frozen_until: Time,
    /// Its connections cannot be opened before.
    pub(super) offline_until: Time,
    /// Every gradient that was added.
    pub(super) added: BTreeSet<Name>,
    /// The bytes of each contribution that was sent.
    pub(super) sent: BTreeMap<u64, Vec<u8>>,
    /// It must say hello before it sends a contribution.
    pub(super) must_say_hello: bool,
    /// One of its ML modules is dead.
    pub(super) has_dead: bool,
    /// When it got each model.
    pub(super) models: Vec<(Time, ModelStamp)>,
    pub(super) connects: Vec<Time>,
    pub(super) alarm: u64,
    pub(super) timeouts_at_once: (Time, u32),
}

/// An ML module's loop, cut in two where time passes: it begins a minibatch, and finishes it.
pub(super) struct SimulatedMl {
    pub(super) side: Option<MlSide>,
    pub(super) busy: Option<Minibatch>,
    pub(super) next_step: u64,
    pub(super) last_stamp: Option<ModelStamp>,
    /// Time in which it had nothing to compute on although it was told to run, since its first model.
    pub(super) waited: Duration,
    pub(super) idle_since: Option<Time>,
    pub(super) duty: Duty,
    /// Until when it rests, if it is told nothing else than this.
    pub(super) rest: Option<(Time, Control)>,
}

pub(super) struct Minibatch {
    pub(super) model: Vec<f32>,
    pub(super) stamp: ModelStamp,
    pub(super) step: u64,
}

impl SimulatedMl {
    pub(super) fn new(side: MlSide) -> SimulatedMl {
        SimulatedMl {
            side: Some(side),
            busy: None,
            next_step: 0,
            last_stamp: None,
            waited: Duration::ZERO,
            idle_since: None,
            duty: Duty::default(),
            rest: None,
        }
    }

    /// Begins a minibatch if it can, as `MlModule::turn` does; whether it did.
    pub(super) fn begin(&mut self, now: Time, mode: Mode) -> bool {
        if self.busy.is_some() {
            return false;
        }
        let Some(side) = &mut self.side else { return false };
        match self.rest {
            Some((until, control)) if now < until && side.control() == control => return false,
            Some((_, control)) if side.control() != control => self.duty.forget(),
            _ => {}
        }
        self.rest = None;
        match side.control().state {
            State::Stop => {
                self.side = None;
                return false;
            }
            State::Pause => {
                self.idle_since = None;
                return false;
            }
            State::Run => {}
        }
        if mode == Mode::Lockstep && self.last_stamp.is_some() && side.published() == self.last_stamp {
            self.idle_since.get_or_insert(now);
            return false;
        }
        let Some(model) = side.model() else { return false };
        if let Some(since) = self.idle_since.take() {
            self.waited += now.since(since);
        }
        self.busy = Some(Minibatch {
            model: model.to_vec(),
            stamp: model.stamp(),
            step: self.next_step,
        });
        true
    }

    /// Rests after a minibatch that took `step`, as `MlModule::rest` does; until when, if it does.
    pub(super) fn begin_rest(&mut self, now: Time, step: Duration) -> Option<Time> {
        let control = self.side.as_ref()?.control();
        let rest = self.duty.on_computed(step, control.duty_percent)?;
        self.duty.on_rested(rest);
        self.rest = Some((now + rest, control));
        Some(now + rest)
    }

    /// Adds the minibatch's gradient; its name.
    pub(super) fn finish(&mut self, session: SessionId, gradients: Gradients) -> Option<Name> {
        let (Some(side), Some(Minibatch { model, stamp, step })) = (&mut self.side, self.busy.take()) else {
            return None;
        };
        let name = (session, side.ml_module() as u16, step);
        let mut gradient = [0.0; PARAMETERS];
        let loss_sum = gradients.compute(name, &model, &mut gradient);
        side.add(
            &gradient,
            Gradient {
                stamp,
                step,
                samples: samples(name),
                loss_sum,
            },
        )
        .expect("a finite gradient");
        self.next_step += 1;
        self.last_stamp = Some(stamp);
        Some(name)
    }
}

/// A local BSP module without a world around it, over this shared memory, linked and welcomed as session 1 at time zero.
pub(super) fn welcomed(memory: LocalSide) -> Local {
    let config = local::Config {
        run: RUN,
        spec_hash: SPEC_HASH,
        mode: Mode::Decoupled,
        jitter_seed: 1,
    };
    let mut local = Local::new(Time::ZERO, config, memory);
    let mut actions = Vec::new();
    local.on_timeout(Time::ZERO, &mut actions);
    local.on_open(Time::ZERO, &mut actions);
    let welcome = Welcome {
        session: SessionId(1),
        token: Token(1),
        period_us: 1000,
        settled: 0,
        durable: 0,
    };
    let welcome = FromCentral::Welcome(welcome).encode();
    local.on_frame(Time::ZERO, &welcome, &mut actions).unwrap();
    local
}
