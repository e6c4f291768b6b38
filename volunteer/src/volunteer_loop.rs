//! The loop of one volunteer: fetch the run's description, join it, fetch shards, start ML modules, and after an end
//! that is not for good start afresh.
//!
//! A state machine without I/O, like the local BSP module ([`Local`]) that it drives. Its own driver is a browser's BSP
//! worker or the native volunteer: it hands in what happens, and does the [`Action`]s that come out, in order.
//!
//! After an ML module's death nothing here allocates or frees memory: in a tab the dead one may hold the allocator's
//! lock.

use std::borrow::Cow;
use std::time::Duration;

use bsp::backoff::Backoff;
use bsp::local::{self, End, Local};
use bsp::protocol::frame::max_frame_bytes;
use bsp::protocol::message::Refusal;
use bsp::time::Time;
use bytes::Bytes;

use crate::action::{Action, Ending, Level, MOST_ACTIONS};
use crate::fetch::{Fetch, FetchError, Resource};
use crate::joined::Joined;
use crate::messages::{State, Told};
use crate::progress::Progress;
use crate::settings::Settings;

/// The first wait before a fresh start: a server that restarts is back by then. It doubles with each start that
/// contributes nothing, …
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
const NEVER: Time = Time::from_micros(u64::MAX);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The description is being fetched.
    Describing,
    /// There is a local BSP module.
    Joined,
    /// A fresh start comes at this time.
    Waiting { until: Time },
    /// It is over.
    Ended,
}

/// The loop of one volunteer.
pub struct VolunteerLoop {
    settings: Settings,
    phase: Phase,
    /// The membership of this start. It stays until the next start, since after a death no memory may be given back.
    joined: Option<Joined>,
    fetch: Fetch,
    restarts: Backoff,
    /// The number of the next start's first ML module.
    next_number: usize,
    /// Samples of the starts before this one that were accepted.
    accepted_before: u64,
    told: Option<Told>,
}

impl VolunteerLoop {
    /// A loop that has not begun.
    pub fn new(settings: Settings) -> VolunteerLoop {
        VolunteerLoop {
            settings,
            phase: Phase::Ended,
            joined: None,
            fetch: Fetch::new(settings.seed),
            restarts: Backoff::new(FIRST_WAIT, LONGEST_WAIT, settings.seed).after(settings.vain_starts),
            next_number: 0,
            accepted_before: 0,
            told: None,
        }
    }

    /// Begins: the description is fetched.
    pub fn start(&mut self, actions: &mut Vec<Action>) {
        actions.reserve(MOST_ACTIONS);
        self.accepted_before = self.accepted_samples();
        self.joined = None;
        self.phase = Phase::Describing;
        // Another jitter for each start.
        self.settings.seed = self.settings.seed.wrapping_add(1);
        self.tell(State::Connecting.into(), actions);
        self.fetch(Resource::Description, actions);
    }

    /// The answer to [`Action::Fetch`].
    pub fn on_fetched(
        &mut self,
        now: Time,
        resource: &Resource,
        outcome: Result<&[u8], FetchError>,
        actions: &mut Vec<Action>,
    ) {
        if !self.fetch.awaits(resource) || !self.is_at_work() {
            return;
        }
        let outcome = match outcome {
            Err(error) if error.is_passing() => {
                let wait = self.fetch.put_off(now).as_secs_f64();
                let line = format!("{}: {error}; trying again in {wait:.1} s", resource.path());
                actions.push(Action::Log(Level::Warning, line.into()));
                return;
            }
            Err(error) => Err(format!("{}: {error}", resource.path())),
            Ok(bytes) => Ok(bytes),
        };
        self.fetch.end();
        match resource {
            Resource::Description => self.on_description(now, outcome, actions),
            Resource::Shard { index, .. } => self.on_shard(now, *index, outcome, actions),
        }
    }

    /// The socket is open.
    pub fn on_open(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.drive_while_all_live(now, actions, |local, steps| local.on_open(now, steps));
    }

    /// The socket could not be opened, or has closed.
    pub fn on_closed(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.drive_while_all_live(now, actions, |local, steps| local.on_closed(now, steps));
    }

    /// A frame has arrived.
    pub fn on_frame(&mut self, now: Time, frame: &Bytes, actions: &mut Vec<Action>) {
        let mut outcome = Ok(());
        self.drive_while_all_live(now, actions, |local, steps| outcome = local.on_frame(now, frame, steps));
        if let Err(error) = outcome {
            let line = format!("a frame of the server can't be used: {error}");
            actions.push(Action::Log(Level::Warning, line.into()));
        }
    }

    /// It is [`VolunteerLoop::next_timeout`], or later.
    pub fn on_timeout(&mut self, now: Time, actions: &mut Vec<Action>) {
        if let Phase::Waiting { until } = self.phase {
            if now >= until {
                self.start(actions);
            }
            return;
        }
        if self.is_at_work()
            && let Some(resource) = self.fetch.again(now)
        {
            actions.push(Action::Fetch(resource));
        }
        self.drive(now, actions, |local, steps| local.on_timeout(now, steps));
    }

    /// When `on_timeout` wants to be called next, if at all.
    pub fn next_timeout(&self, now: Time) -> Option<Time> {
        let again = self.fetch.next_timeout().filter(|_| self.is_at_work());
        match (self.phase, &self.joined) {
            (Phase::Waiting { until }, _) => Some(until),
            (Phase::Describing, _) => again,
            (Phase::Joined, Some(joined)) => Some(joined.local.next_timeout(now).min(again.unwrap_or(NEVER))),
            (Phase::Joined | Phase::Ended, _) => None,
        }
    }

    /// The volunteer pauses.
    pub fn pause(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.settings.is_paused = true;
        self.drive_while_all_live(now, actions, |local, steps| local.pause(now, steps));
    }

    /// The volunteer goes on.
    pub fn resume(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.settings.is_paused = false;
        self.drive_while_all_live(now, actions, |local, steps| local.resume(now, steps));
    }

    /// The first `active` ML modules compute, the others sleep.
    pub fn set_active_ml_modules(&mut self, now: Time, active: usize, actions: &mut Vec<Action>) {
        self.settings.active = active;
        self.drive_while_all_live(now, actions, |local, steps| {
            local.set_active_ml_modules(now, active, steps);
        });
    }

    /// The ML modules compute for `percent` of their time, from 1 to 100.
    pub fn set_cpu_percent(&mut self, now: Time, percent: u8, actions: &mut Vec<Action>) {
        self.settings.cpu_percent = percent;
        self.drive_while_all_live(now, actions, |local, steps| local.set_duty(now, percent, steps));
    }

    /// The tab may end at any moment: what is computed is sent, as far as there is a link.
    pub fn on_closing(&mut self, now: Time, actions: &mut Vec<Action>) {
        self.drive_while_all_live(now, actions, |local, steps| local.on_closing(now, steps));
    }

    /// The volunteer leaves: what is computed is sent, then the loop ends.
    pub fn leave(&mut self, now: Time, actions: &mut Vec<Action>) {
        if self.phase != Phase::Ended && !self.is_dying() {
            actions.push(Action::Log(Level::Info, "leaving".into()));
        }
        match self.phase {
            Phase::Describing | Phase::Waiting { .. } => self.end_left(actions),
            Phase::Joined => self.drive_while_all_live(now, actions, |local, steps| local.leave(now, steps)),
            Phase::Ended => {}
        }
    }

    /// The thread of this ML module, by its number in [`Action::StartMlModule`], raised an error, and was ended.
    pub fn on_ml_module_died(&mut self, now: Time, number: usize, actions: &mut Vec<Action>) {
        let (Phase::Joined, Some(joined)) = (self.phase, &mut self.joined) else {
            return;
        };
        let Some(ml_module) = joined.started_ml_module(number) else {
            return;
        };
        joined.is_dying = true;
        self.drive(now, actions, |local, steps| {
            local.on_ml_module_died(now, ml_module, steps)
        });
    }

    /// The frame that [`Action::SendContribution`] means.
    pub fn contribution_frame(&self, sequence: u64) -> Option<&[u8]> {
        self.joined.as_ref()?.local.contribution_frame(sequence)
    }

    /// Measures how much it has done since its start; to be asked about four times a second, since its speed is
    /// measured from one call to the next.
    pub fn measure_progress(&mut self, now: Time) -> Option<Progress> {
        match (self.phase, &mut self.joined) {
            // The last samples are counted when all is over.
            (Phase::Joined | Phase::Ended, Some(joined)) if !joined.is_dying => Some(joined.measure_progress(now)),
            _ => None,
        }
    }

    /// Samples that the server has said are accepted, over all starts.
    pub fn accepted_samples(&self) -> u64 {
        self.accepted_before + self.accepted_in_this_start()
    }

    fn accepted_in_this_start(&self) -> u64 {
        self.joined.as_ref().map_or(0, |joined| joined.local.accepted_samples())
    }

    /// Whether anything is to be fetched, or can be.
    fn is_at_work(&self) -> bool {
        matches!(self.phase, Phase::Describing | Phase::Joined) && !self.is_dying()
    }

    fn is_dying(&self) -> bool {
        self.joined.as_ref().is_some_and(|joined| joined.is_dying)
    }

    fn fetch(&mut self, resource: Resource, actions: &mut Vec<Action>) {
        self.fetch.begin(resource.clone());
        actions.push(Action::Fetch(resource));
    }

    fn on_description(&mut self, now: Time, outcome: Result<&[u8], String>, actions: &mut Vec<Action>) {
        let joined = outcome.and_then(|description| {
            Joined::new(now, description, &self.settings, self.next_number).map_err(|error| error.to_string())
        });
        let joined = match joined {
            Ok(joined) => joined,
            Err(why) => return self.fail(why, actions),
        };
        let run = joined.membership.description();
        let line = format!(
            "run {}: {} ML modules on {} parameters",
            run.name, self.settings.active, run.parameters
        );
        actions.push(Action::Log(Level::Info, line.into()));
        self.joined = Some(joined);
        self.next_number += self.settings.ml_modules;
        self.phase = Phase::Joined;
        let settings = self.settings;
        self.drive(now, actions, |local, steps| {
            local.set_active_ml_modules(now, settings.active, steps);
            local.set_duty(now, settings.cpu_percent, steps);
            if settings.is_paused {
                local.pause(now, steps);
            }
            local.on_timeout(now, steps);
        });
    }

    fn on_shard(&mut self, now: Time, index: usize, outcome: Result<&[u8], String>, actions: &mut Vec<Action>) {
        let (Phase::Joined, Some(joined)) = (self.phase, &mut self.joined) else {
            return;
        };
        let membership = &mut joined.membership;
        let stored = outcome.and_then(|bytes| membership.store_shard(index, bytes).map_err(|error| error.to_string()));
        if let Err(why) = stored {
            membership.give_up_shard();
            if membership.has_lost_all_shards() {
                return self.fail(format!("no training data can be had: {why}"), actions);
            }
            let line = format!("{why}; going on without this shard");
            actions.push(Action::Log(Level::Warning, line.into()));
        }
        self.see_to_the_rest(now, actions);
    }

    /// As [`VolunteerLoop::drive`], for what a dying tab does not hear any more: it would take memory, and change
    /// nothing.
    fn drive_while_all_live(
        &mut self,
        now: Time,
        actions: &mut Vec<Action>,
        event: impl FnOnce(&mut Local, &mut Vec<local::Action>),
    ) {
        if !self.is_dying() {
            self.drive(now, actions, event);
        }
    }

    /// Hands an event to the local BSP module, if there is one, and does what follows.
    fn drive(&mut self, now: Time, actions: &mut Vec<Action>, event: impl FnOnce(&mut Local, &mut Vec<local::Action>)) {
        let (Phase::Joined, Some(joined)) = (self.phase, &mut self.joined) else {
            return;
        };
        let mut steps = std::mem::take(&mut joined.actions);
        event(&mut joined.local, &mut steps);
        for step in steps.drain(..) {
            self.on_step(now, step, actions);
        }
        if let Some(joined) = &mut self.joined {
            joined.actions = steps;
        }
        self.see_to_the_rest(now, actions);
    }

    fn on_step(&mut self, now: Time, step: local::Action, actions: &mut Vec<Action>) {
        let Some(joined) = &mut self.joined else { return };
        actions.push(match step {
            // What the dying tab has left to send goes on the link that there is, or not at all: to open one takes
            // memory.
            local::Action::Connect if joined.is_dying => return,
            local::Action::Connect => Action::Connect {
                max_frame_bytes: max_frame_bytes(joined.membership.description().parameters),
            },
            local::Action::Send(frame) => Action::Send(frame),
            local::Action::SendContribution { sequence } => Action::SendContribution { sequence },
            local::Action::Disconnect => Action::Disconnect,
            local::Action::SessionOpened(session) => {
                joined.membership.on_session_opened(session);
                Action::Log(Level::Info, format!("session {}", session.0).into())
            }
            local::Action::Ended(end) => return self.on_end(now, end, actions),
        });
    }

    fn on_end(&mut self, now: Time, end: End, actions: &mut Vec<Action>) {
        match end {
            End::Left => self.end_left(actions),
            End::Refused(Refusal::Finished) => {
                actions.push(Action::Tell(State::Finished.into()));
                actions.push(Action::Log(Level::Info, "the run is finished; thank you".into()));
                self.end(Ending::Finished, actions);
            }
            // There is room again when others leave.
            End::Refused(refusal @ Refusal::Full { .. }) => {
                self.start_afresh(now, refusal.to_string().into(), actions);
            }
            End::Refused(refusal) => {
                let detail = refusal.to_string();
                actions.push(Action::Tell(Told {
                    detail: detail.clone().into(),
                    ..State::Refused.into()
                }));
                self.end(Ending::Refused(detail), actions);
            }
            End::StartAfresh(refusal) => self.start_afresh(now, refusal.to_string().into(), actions),
            End::MlModuleDied => self.start_afresh(now, Cow::Borrowed("an ML module died"), actions),
        }
    }

    fn start_afresh(&mut self, now: Time, detail: Cow<'static, str>, actions: &mut Vec<Action>) {
        let accepted = self.accepted_in_this_start();
        if accepted > 0 {
            self.restarts.on_success();
        }
        let wait = self.restarts.on_failure();
        self.told = Some(State::Restarting.into());
        actions.push(Action::Log(Level::Warning, detail.clone()));
        actions.push(Action::Tell(Told {
            detail,
            delay_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            vain_starts: self.restarts.failures(),
            accepted,
            ..State::Restarting.into()
        }));
        match self.settings.restarts_here {
            true => self.phase = Phase::Waiting { until: now + wait },
            false => self.end(Ending::Restarting, actions),
        }
    }

    fn fail(&mut self, why: String, actions: &mut Vec<Action>) {
        if let Phase::Joined = self.phase {
            actions.push(Action::Disconnect);
        }
        actions.push(Action::Tell(Told {
            detail: why.clone().into(),
            ..State::Failed.into()
        }));
        self.end(Ending::Failed(why), actions);
    }

    fn end_left(&mut self, actions: &mut Vec<Action>) {
        actions.push(Action::Tell(State::Left.into()));
        self.end(Ending::Left, actions);
    }

    fn end(&mut self, ending: Ending, actions: &mut Vec<Action>) {
        self.phase = Phase::Ended;
        actions.push(Action::End(ending));
    }

    /// What may be due after any event: ML modules to start, a shard to fetch, a state to tell.
    fn see_to_the_rest(&mut self, now: Time, actions: &mut Vec<Action>) {
        let (Phase::Joined, Some(joined)) = (self.phase, &mut self.joined) else {
            return;
        };
        if joined.is_dying {
            return;
        }
        joined.start_ml_modules(self.settings.active.min(self.settings.ml_modules), actions);
        let told = joined.told(now);
        if let Some(resource) = joined.start_next_fetch() {
            self.fetch(resource, actions);
        }
        self.tell(told, actions);
    }

    fn tell(&mut self, told: Told, actions: &mut Vec<Action>) {
        if self.told.as_ref() != Some(&told) {
            self.told = Some(told.clone());
            actions.push(Action::Tell(told));
        }
    }
}
