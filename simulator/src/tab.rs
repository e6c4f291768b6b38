//! A tab of the simulation: a local BSP module and its ML modules, on a virtual machine of its own speed.

use std::time::Duration;

use bsp::central::ConnectionId;
use bsp::local::{End, Local};
use bsp::protocol::message::SessionId;
use bsp::time::Time;

use crate::ml_module::SimulatedMl;
use crate::random::Random;
use crate::timer::Timer;

/// Virtual time has whole microseconds. With shorter steps it would stand still.
const SHORTEST_STEP: Duration = Duration::from_micros(1);

/// The machine of a tab, and its link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// ML modules of the tab.
    pub ml_modules: usize,
    /// Time of one minibatch.
    pub step: Duration,
    /// The variation of that time: the σ of a log-normal factor of mean 1. 0 for no variation.
    pub jitter: f64,
    /// The share of their time that its ML modules may compute, from the start; see [`crate::World::set_duty`].
    pub duty_percent: u8,
    /// One way.
    pub latency: Duration,
    /// From the tab to the server.
    pub up_bytes_per_second: f64,
    /// From the server to the tab.
    pub down_bytes_per_second: f64,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            ml_modules: 1,
            step: Duration::from_millis(5),
            jitter: 0.0,
            duty_percent: 100,
            latency: Duration::from_millis(10),
            up_bytes_per_second: 1e9,
            down_bytes_per_second: 1e9,
        }
    }
}

impl Machine {
    /// The time that a minibatch takes, on average.
    pub(crate) fn mean_step(&self) -> Duration {
        self.step.max(SHORTEST_STEP)
    }

    /// The time that the next minibatch takes.
    pub(crate) fn next_step(&self, random: &mut Random) -> Duration {
        if self.jitter == 0.0 {
            return self.mean_step();
        }
        let factor = random.log_normal(self.jitter) * libm::exp(-self.jitter * self.jitter / 2.0);
        let step = Duration::try_from_secs_f64(self.step.as_secs_f64() * factor).unwrap_or(self.step);
        step.max(SHORTEST_STEP)
    }
}

/// A tab; `B` is a gradient that has begun.
pub struct Tab<B> {
    /// Its machine, which may change at any time.
    pub machine: Machine,
    /// Its local BSP module; `None` once it has crashed.
    pub local: Option<Local>,
    /// Its ML modules.
    pub ml: Vec<SimulatedMl<B>>,
    /// The connection that it holds, open or being opened.
    pub connection: Option<ConnectionId>,
    /// Its session, once it has one.
    pub session: Option<SessionId>,
    /// When and how its membership ended.
    pub ended: Option<(Time, End)>,
    /// Its faults now.
    pub outage: Outage,
    /// Its clock is ahead of the world's by this.
    pub clock: Duration,
    /// Its statistics.
    pub stats: TabStats,
    pub(crate) random: Random,
    pub(crate) timer: Timer,
}

/// The present faults of a tab: how long each lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outage {
    /// Nothing of it runs before this time.
    pub frozen_until: Time,
    /// None of its connections can be opened before this time.
    pub offline_until: Time,
    /// What it sends before this time arrives twice.
    pub echoes_until: Time,
}

/// The statistics of a tab.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TabStats {
    /// When it was opened.
    pub joined: Time,
    /// When it was closed, left or ended.
    pub left: Option<Time>,
    /// Samples of the gradients that it finished and added.
    pub computed: u64,
    /// Samples of its contributions that were accepted.
    pub accepted: u64,
    /// Samples of its contributions that were refused.
    pub refused: u64,
    /// Gradients that it refused itself, because they were not finite.
    pub not_finite: u64,
    /// Time that its ML modules spent on finished gradients, summed over them.
    pub computing: Duration,
}

impl TabStats {
    pub(crate) fn new(joined: Time) -> TabStats {
        TabStats {
            joined,
            left: None,
            computed: 0,
            accepted: 0,
            refused: 0,
            not_finite: 0,
            computing: Duration::ZERO,
        }
    }

    /// The time for which it was open.
    pub fn online(&self, now: Time) -> Duration {
        self.left.unwrap_or(now).since(self.joined)
    }

    /// Samples that it computed and that were not settled: lost if it has gone, else in the tab or on their way.
    pub fn unsettled(&self) -> u64 {
        self.computed.saturating_sub(self.accepted + self.refused)
    }
}
