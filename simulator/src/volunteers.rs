//! Whole populations of volunteers, drawn from a seed: each one's speed, link, arrivals and departures.
//!
//! Each volunteer draws from a stream of its own, so that an additional volunteer, or a departure, changes no other.

use std::time::Duration;

use bsp::time::Time;

use crate::gradients::Gradients;
use crate::observer::Observer;
use crate::random::{Random, mix};
use crate::tab::Machine;
use crate::world::World;

/// Volunteers of one kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Kind {
    /// The number of volunteers.
    pub count: usize,
    /// ML modules of each.
    pub ml_modules: usize,
    /// Samples per second of one ML module without the overhead of minibatches; the median over the volunteers.
    pub samples_per_second: f64,
    /// The overhead of a minibatch, as the time of this number of samples.
    pub overhead_samples: f64,
    /// The variation of the speed between volunteers: the σ of a log-normal factor. 0 for no variation.
    pub sigma: f64,
    /// The variation of a minibatch's time: the σ of a log-normal factor.
    pub jitter: f64,
    /// The share of its time that an ML module may compute.
    pub duty_percent: u8,
    /// From a volunteer to the server.
    pub up_bits_per_second: f64,
    /// From the server to a volunteer.
    pub down_bits_per_second: f64,
    /// One way.
    pub latency: Duration,
    /// Each arrives at an instant that is uniform between 0 and this.
    pub arrives_within: Duration,
    /// How they come and go; `None` if they stay.
    pub churn: Option<Churn>,
}

/// How a volunteer comes and goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// The mean time for which it stays; exponential.
    pub mean_session: Duration,
    /// The mean time for which it is away before it joins afresh; exponential.
    pub mean_absence: Duration,
    /// The share of departures in which the tab is simply closed, and its gradients are lost. In the others it leaves
    /// properly.
    pub crash_share: f64,
}

/// The time after which a volunteer that leaves properly has gone: longer than any farewell.
const GONE_AFTER: Duration = Duration::from_secs(10);

/// Plans that all volunteers of these kinds arrive.
pub fn populate<G, O>(world: &mut World<G, O>, kinds: &[Kind])
where
    G: Gradients + 'static,
    O: Observer + 'static,
{
    for (kind, number) in kinds.iter().zip(0..) {
        for volunteer in 0..kind.count as u64 {
            let mut random = Random::stream(mix(world.random.seed() ^ mix(number)), volunteer);
            let machine = kind.machine(&mut random, world.central.config().minibatch);
            let arrives = Time::ZERO + kind.arrives_within.mul_f64(random.uniform());
            let churn = kind.churn;
            world.at(arrives, move |world| arrive(world, machine, churn, random));
        }
    }
}

impl Kind {
    /// The machine of one of them.
    fn machine(&self, random: &mut Random, minibatch: u64) -> Machine {
        const BITS: f64 = 8.0;
        // Drawn even where σ is 0, so that σ changes no other draw.
        let factor = random.log_normal(self.sigma);
        let step = (minibatch as f64 + self.overhead_samples) / (self.samples_per_second * factor);
        Machine {
            ml_modules: self.ml_modules,
            step: Duration::from_micros((step * 1e6).round() as u64),
            jitter: self.jitter,
            duty_percent: self.duty_percent,
            latency: self.latency,
            up_bytes_per_second: self.up_bits_per_second / BITS,
            down_bytes_per_second: self.down_bits_per_second / BITS,
        }
    }
}

/// A volunteer opens the page. If it does not stay, it leaves after a while, and comes again.
fn arrive<G, O>(world: &mut World<G, O>, machine: Machine, churn: Option<Churn>, mut random: Random)
where
    G: Gradients + 'static,
    O: Observer + 'static,
{
    let tab = world.join_with(machine, Random::new(random.next()));
    let Some(Churn {
        mean_session,
        mean_absence,
        crash_share,
    }) = churn
    else {
        return;
    };
    let goes = world.now + random.exponential(mean_session);
    let crashes = random.uniform() < crash_share;
    let returns = goes + random.exponential(mean_absence);
    world.at(goes, move |world| {
        if crashes {
            world.crash(tab);
        } else {
            world.leave(tab);
            world.at(world.now + GONE_AFTER, move |world| world.vanish(tab));
        }
    });
    world.at(returns, move |world| arrive(world, machine, churn, random));
}
