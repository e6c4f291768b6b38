//! The simulator's world as these tests use it: small gradients, and [`Checks`] that look on.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use bsp::central::{self, ServerOptimizer};
use bsp::combine::Weighting;
use bsp::local::Local;
use bsp::protocol::message::RunId;
use bsp::shared_memory::ModelStamp;
use bsp::time::Time;

use super::checks::Checks;
use super::gradients::{Gradients, MINIBATCH, PARAMETERS, Sgd};

pub(super) const RUN: RunId = RunId(77);
pub(super) const SPEC_HASH: u64 = 0x5bec;

/// The run that tests begin with.
pub(super) fn config() -> central::Config {
    central::Config {
        minibatch: MINIBATCH,
        max_staleness: 1000,
        weighting: Weighting {
            staleness_exponent: 0.5,
            max_read_out_samples: 1 << 20,
            clip: 0.0,
        },
        ..central::Config::new(RUN, SPEC_HASH)
    }
}

pub(super) fn seconds(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A world that is checked with every event, and prints its seed when a test fails.
pub(super) struct World(simulator::World<Gradients, Checks>);

impl Deref for World {
    type Target = simulator::World<Gradients, Checks>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "the simulation failed with seed {} at {:?}",
                self.random.seed(),
                self.now
            );
        }
    }
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        World::with(seed, config(), Gradients::Counting)
    }

    pub(super) fn with(seed: u64, config: central::Config, gradients: Gradients) -> World {
        World::with_optimizer(seed, config, gradients, Box::new(Sgd { rate: 0.1 }))
    }

    pub(super) fn with_optimizer(
        seed: u64,
        config: central::Config,
        gradients: Gradients,
        optimizer: Box<dyn ServerOptimizer>,
    ) -> World {
        let model = vec![0.0; PARAMETERS];
        let checks = Checks::new(gradients);
        World(simulator::World::new(seed, config, model, optimizer, gradients, checks))
    }

    /// A tab's local BSP module, which lives.
    pub(super) fn local(&self, tab: usize) -> &Local {
        self.tabs[tab].local.as_ref().expect("the tab lives")
    }

    /// Every gradient that the tab has added is settled, once; the ledger checks "once".
    pub(super) fn assert_all_is_settled(&self, tab: usize) {
        let added = &self.observer.tabs[tab].added;
        let settled = self.tabs[tab]
            .session
            .map_or(BTreeSet::new(), |session| self.observer.ledger.of_session(session));
        assert_eq!(settled, *added, "not every gradient is in a settled contribution");
        let stats = self.tabs[tab].stats;
        let names = || added.iter().map(|name| u64::from(super::gradients::samples(*name)));
        assert_eq!((stats.computed, stats.unsettled()), (names().sum(), 0));
    }

    /// The central module's totals agree with the ledger and the statistics.
    pub(super) fn assert_totals(&self) {
        let (totals, ledger) = (self.central.totals(), &self.observer.ledger);
        assert_eq!(totals.gradients, ledger.accepted.len() as u64);
        assert_eq!(totals.samples, ledger.accepted_samples);
        assert_eq!(totals.accepted, ledger.contributions.len() as u64);
        let names = ledger.accepted.iter();
        let names: u64 = names.map(|name| u64::from(super::gradients::samples(*name))).sum();
        assert_eq!(totals.samples, names);
        if self.observer.gradients == Gradients::Counting {
            assert_eq!(ledger.sum[..2], [totals.samples as f64, totals.gradients as f64]);
        }
        let closed: u64 = self.observer.closed.iter().map(|(_, closed)| closed.samples).sum();
        assert!(
            closed <= totals.samples,
            "more samples in supersteps than were accepted"
        );
        let stats = self.stats();
        assert_eq!((stats.accepted, stats.in_model), (totals.samples, closed));
        assert_eq!(
            stats.computed,
            stats.accepted + stats.refused + stats.lost + stats.still_there
        );
    }

    pub(super) fn model_bits(&self) -> Vec<u32> {
        self.central.model().iter().map(|value| value.to_bits()).collect()
    }

    pub(super) fn latest_model_of(&self, tab: usize) -> Option<ModelStamp> {
        self.observer.tabs[tab].models.last().map(|(_, stamp)| *stamp)
    }
}
