//! The real state machines, thousands of virtual seconds, and every fault that a seed can throw.
//!
//! The crate `simulator` drives all parts at once: central and local BSP modules over real shared memory, with a
//! virtual clock and links that are slow, late, cut or silent. [`simulation::checks`] looks on, and checks with every
//! event what must always hold. The other files are the promises. A failure prints its seed.

// Builders and checks outside of the test functions may fail as loudly as these.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod simulation {
    mod away;
    mod checks;
    mod crowd;
    mod gradients;
    mod ledger;
    mod peer;
    mod replicas;
    mod tab;
    mod world;

    mod baselines;
    mod codecs;
    mod computing;
    mod divergence;
    mod exactly_once;
    mod faults;
    mod fingerprints;
    mod hostile;
    mod joining;
    mod leaving;
    mod lies;
    mod links;
    mod local_steps;
    mod lockstep;
    mod periods;
    mod refusals;
    mod shares;
    mod supersteps;
}
