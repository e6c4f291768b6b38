//! The local BSP module (103) of a tab or of a native volunteer.
//!
//! A state machine without I/O over the tab's shared memory (104). Its driver hands in frames, the link's ups and downs
//! and time-outs, and does the actions that come out, in order. The ML modules (105) are on other threads; nothing here
//! waits for them, nor they for anything here.
//!
//! It reads out at the central module's period, has at most one contribution unsettled on its link, and keeps what is not
//! durable yet, as bytes, to send the same bytes again after a reconnect. When it can keep no more it stops reading out;
//! gradients then collect in the shared memory, so that a slow link makes fewer, larger contributions and never a queue.
//! Reading out allocates nothing.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::codec::Codec;
use crate::message::{
    FrameError, FromCentral, FromVolunteer, Hello, MAX_STEP_RUNS, Mode, PROTOCOL, ReadOut, ReadOutFrame, Received,
    Refusal, Report, RunId, SessionId, Token,
};
use crate::shared_memory::{Control, LocalSide, PhaseTimes, State};
use crate::time::{Time, duration_micros};

mod ending;
mod hearing;
mod link;
mod reading;
mod settling;

use ending::{Leaving, Life, living};
use link::Link;
pub use link::LinkState;
use reading::Reading;
use settling::Settling;

/// Contributions that are kept at most until they are durable. Each costs as much memory as the model.
pub const KEPT_CONTRIBUTIONS: usize = 4;

/// How soon a pending read-out is asked for again. The lease that it waits for lasts one add.
const ASK_AGAIN: Duration = Duration::from_millis(1);
/// The shortest period that a read-out is worth; the central module never means a shorter one.
const SHORTEST_PERIOD: Duration = Duration::from_millis(1);
/// How often it is looked, in a baseline, whether the one gradient that is due is there: …
const BARRIER_LOOK: Duration = Duration::from_millis(1);
/// … after a while less often, so that it is found late by this part of the time that it took, at the most.
const BARRIER_LOOKS: u32 = 128;
/// A volunteer that has sent nothing for so long says that it is here.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
/// A turn that comes so much later than it was due says that the tab was frozen: a hello comes before the next read-out.
const FROZEN: Duration = Duration::from_secs(5);
/// What the driver has to do next. Returned in order; the driver does not decide anything.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Open the link; then call [`Local::on_open`] or [`Local::on_closed`].
    Connect,
    /// Send this frame.
    Send(Bytes),
    /// Send the contribution [`Local::read_out_frame`]; it stays here.
    SendReadOut {
        /// Its number.
        sequence: u64,
    },
    /// Close the link. [`Local::on_closed`] need not be called for it.
    Disconnect,
    /// A session is open: minibatches can be drawn, ML modules can start.
    SessionOpened(SessionId),
    /// It is over; see [`End`]. The ML modules have been told to stop. Nothing follows.
    Ended(End),
}

/// How a membership ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// The session is over, but a fresh start may do: the server restarted, or the session expired.
    StartAfresh(Refusal),
    /// An ML module died. The others were read out; this memory is of no more use, but a fresh start may do.
    MlModuleDied,
    /// Trying again is of no use.
    Refused(Refusal),
    /// It left, at its own wish.
    Left,
}

/// What a local BSP module must know from the start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The run to join.
    pub run: RunId,
    /// The hash of its model spec.
    pub spec_hash: u64,
    /// Decoupled, or one of the baselines.
    pub mode: Mode,
    /// Whether ML modules also move along their own gradients.
    pub has_local_steps: bool,
    /// Where the jitter of reconnecting begins: different in each tab.
    pub jitter_seed: u64,
}

/// A contribution that is not durable yet.
#[derive(Debug)]
struct Kept {
    sequence: u64,
    samples: u64,
    frame: ReadOutFrame,
}

/// The local BSP module.
pub struct Local {
    config: Config,
    memory: LocalSide,
    link: Link,
    session: Option<(SessionId, Token)>,
    incarnation: Option<u32>,
    period: Duration,
    read_out_due: Time,
    last_read_out: Time,
    /// When the newest model arrived.
    model_since: Time,
    /// In a baseline, how long the last gradients that were due took from there.
    gradients_took: Duration,
    /// The ML modules were flipped, and not all of them could be taken yet.
    reading: Option<Reading>,
    kept: VecDeque<Kept>,
    spare: Vec<ReadOutFrame>,
    /// The ML modules' sums are merged here, before they are encoded.
    merged: Box<[f32]>,
    /// What encoding has lost so far, for the next contribution; empty with [`Codec::F32`], which loses nothing.
    error: Box<[f32]>,
    /// How contributions are encoded.
    codec: Codec,
    settling: Settling,
    /// What the next read-out says; its list of runs keeps its memory.
    header: ReadOut,
    last_sequence: u64,
    settled: u64,
    accepted_samples: u64,
    /// Gradients that were taken of each ML module.
    taken_gradients: Vec<u64>,
    life: Vec<Life>,
    active_ml_modules: usize,
    duty_percent: u8,
    is_paused: bool,
    leaving: Option<Leaving>,
    /// The latest instant at which the driver was asked to call again.
    wake_by: Time,
    discarded: u64,
}

impl Local {
    /// A local BSP module over its side of the shared memory. All its ML modules are told to run.
    pub fn new(now: Time, config: Config, memory: LocalSide) -> Local {
        let (parameters, ml_modules) = (memory.parameters(), memory.ml_modules());
        let header = ReadOut {
            run: config.run,
            spec_hash: config.spec_hash,
            incarnation: 0,
            session: SessionId(0),
            sequence: 0,
            samples: 0,
            gradients: 0,
            loss_sum: 0.0,
            version_sum: 0,
            step_sum: 0,
            codec: Codec::F32,
            step_runs: Vec::with_capacity(MAX_STEP_RUNS),
            step_runs_not_listed: 0,
            report: Report::default(),
        };
        let local = Local {
            config,
            memory,
            link: Link::new(now, config.jitter_seed),
            session: None,
            incarnation: None,
            period: Duration::from_secs(1),
            read_out_due: now,
            last_read_out: now,
            model_since: now,
            gradients_took: Duration::ZERO,
            reading: None,
            kept: VecDeque::with_capacity(KEPT_CONTRIBUTIONS),
            spare: (0..KEPT_CONTRIBUTIONS).map(|_| ReadOutFrame::new(parameters)).collect(),
            merged: vec![0.0; parameters].into_boxed_slice(),
            error: Box::default(),
            codec: Codec::F32,
            settling: Settling::default(),
            header,
            last_sequence: 0,
            settled: 0,
            accepted_samples: 0,
            taken_gradients: vec![0; ml_modules],
            life: vec![Life::Living; ml_modules],
            active_ml_modules: ml_modules,
            duty_percent: 100,
            is_paused: false,
            leaving: None,
            wake_by: now,
            discarded: 0,
        };
        local.apply_control();
        local
    }

    /// The link is open.
    pub fn on_open(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.has_ended() {
            return;
        }
        self.link.on_open(now);
        self.say_hello(now, actions);
        self.turn(now, actions);
    }

    /// The link could not be opened, or has closed.
    pub fn on_closed(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.link.on_closed(now);
        self.turn(now, actions);
    }

    /// A frame has arrived. One that can't be read, or a model that can't be stored, ends the link, which is then opened anew.
    ///
    /// # Errors
    /// Why the frame can't be used, for the log.
    pub fn on_frame(&mut self, now: Time, frame: &Bytes, actions: &mut Vec<Action>) -> Result<(), FrameError> {
        let decoded = FromCentral::decode(frame);
        if self.has_ended() {
            return Ok(());
        }
        self.link.on_heard(now);
        self.notice_freeze(now, actions);
        let used = decoded.and_then(|Received { message, payload }| self.on_message(now, message, &payload, actions));
        if used.is_err() {
            self.break_link(now, actions);
        }
        self.turn(now, actions);
        used
    }

    /// It is [`Local::next_timeout`], or later.
    pub fn on_timeout(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.turn(now, actions);
    }

    /// When `on_timeout` wants to be called next.
    pub fn next_timeout(&mut self, now: Time) -> Time {
        let mut next = self.link.next_timeout();
        if let Some(leaving) = &self.leaving {
            // It waits for its ML modules, who wake nobody.
            next = next.min(leaving.until).min(now + ASK_AGAIN);
        } else if self.link.state() == LinkState::Welcomed {
            next = next.min(self.link.last_sent() + HEARTBEAT);
            if self.reading.is_some() {
                next = next.min(now + ASK_AGAIN);
            } else if self.can_read_out() {
                next = next.min(self.read_out_due);
            }
        }
        self.wake_by = next.max(now);
        self.wake_by
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
        self.active_ml_modules = active.min(self.memory.ml_modules());
        self.apply_control();
        self.pulse(now, actions);
        self.turn(now, actions);
    }

    /// The ML modules compute for `percent` of their time, from 1 to 100, and rest for the others.
    pub fn set_duty(&mut self, now: Time, percent: u8, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.duty_percent = percent.clamp(1, 100);
        self.apply_control();
        self.turn(now, actions);
    }

    /// The frame of a contribution that is kept here.
    pub fn read_out_frame(&self, sequence: u64) -> Option<&[u8]> {
        self.kept
            .iter()
            .find(|kept| kept.sequence == sequence)
            .map(|kept| kept.frame.as_bytes())
    }

    /// The shared memory, for what a page shows.
    pub fn memory(&self) -> &LocalSide {
        &self.memory
    }

    /// Samples in contributions that were accepted.
    pub fn accepted_samples(&self) -> u64 {
        self.accepted_samples
    }

    /// How the link is.
    pub fn link_state(&self) -> LinkState {
        self.link.state()
    }

    /// Whether the volunteer has paused.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The session, once there is one.
    pub fn session(&self) -> Option<SessionId> {
        self.session.map(|(id, _)| id)
    }

    fn set_period(&mut self, now: Time, period_us: u64) {
        self.period = match self.config.mode {
            Mode::Decoupled => Duration::from_micros(period_us).max(SHORTEST_PERIOD),
            Mode::Lockstep | Mode::Asynchronous => BARRIER_LOOK,
        };
        self.read_out_due = self.read_out_due.min(now + self.period);
    }

    /// Lets read-outs follow publishes by one period, and so all volunteers read out together: then a superstep closes soon
    /// after its first contribution, and most of what is in it was computed on the newest model. Where models come more
    /// often than that, or seldom, a read-out is put off by half a period at most.
    fn keep_step(&mut self, now: Time) {
        if self.config.mode == Mode::Decoupled {
            self.read_out_due = (now + self.period).min(self.last_read_out + self.period * 3 / 2);
        }
    }

    fn has_ended(&self) -> bool {
        self.link.state() == LinkState::Ended
    }

    /// Says hello if this call comes so late that the tab must have been frozen. Whichever call comes first after a freeze
    /// finds it: frames may have waited, too.
    fn notice_freeze(&mut self, now: Time, actions: &mut Vec<Action>) {
        if now.since(self.wake_by) > FROZEN && self.link.state() == LinkState::Welcomed {
            self.say_hello(now, actions);
        }
    }

    /// Everything that time and the state of things ask for.
    fn turn(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.link.is_overdue(now) {
            self.link.on_overdue();
            self.break_link(now, actions);
        }
        if self.link.wants_to_connect(now) {
            actions.push(Action::Connect);
        }
        if self.link.state() == LinkState::Welcomed {
            if self.reading.is_some() || (self.can_read_out() && now >= self.read_out_due) {
                self.read_out(now, actions);
            }
            if now >= self.link.last_sent() + HEARTBEAT && !self.is_dying() {
                self.pulse(now, actions);
            }
        }
        self.end_if_due(now, actions);
    }

    /// The ML modules that compute, unless the volunteer has paused.
    fn computing(&self) -> impl Iterator<Item = usize> + '_ {
        living(&self.life).take_while(|ml_module| *ml_module < self.active_ml_modules)
    }

    fn report(&self) -> Report {
        let mut report = Report {
            ml_modules: u16::try_from(self.computing().count()).unwrap_or(u16::MAX),
            is_paused: self.is_paused || self.leaving.is_some(),
            not_finite: 0,
            discarded: self.discarded,
            time_us: PhaseTimes::default(),
            upload_us: duration_micros(self.link.upload()),
            round_trip_us: duration_micros(self.link.round_trip()),
        };
        for ml_module in 0..self.life.len() {
            let progress = self.memory.progress(ml_module);
            report.not_finite += progress.not_finite;
            report.time_us.gradient += progress.time_us.gradient;
            report.time_us.add += progress.time_us.add;
            report.time_us.read += progress.time_us.read;
            report.time_us.wait += progress.time_us.wait;
        }
        report
    }

    fn set_paused(&mut self, now: Time, is_paused: bool, actions: &mut Vec<Action>) {
        self.notice_freeze(now, actions);
        self.is_paused = is_paused;
        self.apply_control();
        self.read_out_due = now;
        self.pulse(now, actions);
        self.turn(now, actions);
    }

    fn apply_control(&self) {
        for ml_module in 0..self.memory.ml_modules() {
            let state = match () {
                () if self.leaving.is_some() || self.has_ended() => State::Stop,
                () if self.is_paused || ml_module >= self.active_ml_modules => State::Pause,
                () => State::Run,
            };
            self.memory.set_control(
                ml_module,
                Control {
                    state,
                    duty_percent: self.duty_percent,
                },
            );
        }
    }

    fn say_hello(&mut self, now: Time, actions: &mut Vec<Action>) {
        let hello = Hello {
            protocol: PROTOCOL,
            run: self.config.run,
            spec_hash: self.config.spec_hash,
            incarnation: self.incarnation,
            session: self.session,
            codecs: Codec::ALL.to_vec(),
            report: self.report(),
        };
        self.link.on_greeting(now);
        actions.push(Action::Send(FromVolunteer::Hello(hello).encode()));
    }

    fn pulse(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.link.state() == LinkState::Welcomed {
            let report = self.report();
            self.send(now, &FromVolunteer::Pulse(report), actions);
        }
    }

    fn send(&mut self, now: Time, message: &FromVolunteer, actions: &mut Vec<Action>) {
        self.link.on_sent(now);
        actions.push(Action::Send(message.encode()));
    }

    fn break_link(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.link.on_closed(now);
        actions.push(Action::Disconnect);
    }
}
