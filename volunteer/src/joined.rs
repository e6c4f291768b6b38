//! One start of a volunteer that has the run's description: its membership, its local BSP module (103), and the ML
//! modules (105) that were started.

use std::time::Duration;

use bsp::local::{self, LinkState, Local};
use bsp::time::Time;

use crate::action::{Action, MOST_ACTIONS};
use crate::fetch::Resource;
use crate::membership::{Membership, MembershipError};
use crate::messages::{State, Told};
use crate::progress::{Progress, Speed};
use crate::settings::Settings;

/// For how long a return is said.
const RETURN_IS_SAID_FOR: Duration = Duration::from_secs(60);
/// After a return, the server may take this long to store what it gets.
const MAY_TAKE_TO_STORE: Duration = Duration::from_secs(20);

/// A start from its description to its end.
pub(crate) struct Joined {
    /// The run, its samples, and the ML modules that were not started.
    pub(crate) membership: Membership,
    /// The local BSP module.
    pub(crate) local: Local,
    /// The number of its first ML module. No two starts share a number, so a late message about an earlier start's ML
    /// module is recognised.
    first_number: usize,
    /// ML modules that were started: the first ones.
    started: usize,
    /// An ML module has died: from here to the end no memory may be taken or given back.
    pub(crate) is_dying: bool,
    /// What the local BSP module asks for; kept for its memory.
    pub(crate) actions: Vec<local::Action>,
    speed: Speed,
}

impl Joined {
    /// Reads the JSON that describes a run. The ML modules are numbered from `first_number` on.
    pub(crate) fn new(
        now: Time,
        description: &[u8],
        settings: &Settings,
        first_number: usize,
    ) -> Result<Joined, MembershipError> {
        let (membership, local) = Membership::new(now, description, settings.ml_modules, settings.seed)?;
        Ok(Joined {
            membership,
            local,
            first_number,
            started: 0,
            is_dying: false,
            actions: Vec::with_capacity(MOST_ACTIONS),
            speed: Speed::default(),
        })
    }

    /// Which ML module has this number, if it was started.
    pub(crate) fn started_ml_module(&self, number: usize) -> Option<usize> {
        let ml_module = number.checked_sub(self.first_number)?;
        (ml_module < self.started).then_some(ml_module)
    }

    /// Starts the first `active` ML modules, as far as they were not. Before there is a session none can start.
    pub(crate) fn start_ml_modules(&mut self, active: usize, actions: &mut Vec<Action>) {
        if self.local.session().is_none() {
            return;
        }
        while self.started < active {
            let number = self.first_number + self.started;
            let ml_module = self.membership.ml_module(self.started).map(Box::new);
            self.started += 1;
            if let Some(ml_module) = ml_module {
                actions.push(Action::StartMlModule { number, ml_module });
            }
        }
    }

    /// Starts the fetch of the next shard, if it is time for one.
    pub(crate) fn start_next_fetch(&mut self) -> Option<Resource> {
        let index = self.membership.start_next_fetch()?;
        let name = self.membership.shard_name(index)?.to_owned();
        Some(Resource::Shard { index, name })
    }

    /// What it is doing, and for a while after an absence, what is to be said of that.
    pub(crate) fn told(&self, now: Time) -> Told {
        let state = self.state();
        let last = self.local.last_return();
        let recent = last.filter(|returned| now.since(returned.at) < RETURN_IS_SAID_FOR || !returned.is_settled);
        match (state, recent) {
            // It has only just returned, and the server is storing what was kept.
            (State::NotStored, Some(returned)) if now.since(returned.at) < MAY_TAKE_TO_STORE => {
                Told::after(state, &returned)
            }
            (State::Training | State::Paused, Some(returned)) => Told::after(state, &returned),
            _ => state.into(),
        }
    }

    fn state(&self) -> State {
        let is_resting = self.local.is_resting() && !self.local.is_paused();
        match (self.local.link_state(), self.local.session()) {
            (LinkState::Welcomed, _) if self.local.is_paused() => State::Paused,
            (LinkState::Welcomed, _) if is_resting => State::NotStored,
            (LinkState::Welcomed, _) => State::Training,
            (_, None) => State::Connecting,
            (_, Some(_)) if is_resting => State::Waiting,
            (_, Some(_)) if self.local.has_no_room() => State::NoRoom,
            (_, Some(_)) if self.local.is_back_soon() => State::BackSoon,
            (_, Some(_)) => State::Reconnecting,
        }
    }

    /// Measures how much it has done, and its speed since the call before.
    pub(crate) fn measure_progress(&mut self, now: Time) -> Progress {
        Progress::new(now, &self.local, &mut self.speed)
    }
}
