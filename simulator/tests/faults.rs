//! A server and tabs that crash, a disk that loses and lies, links that break: whatever a seed brings, nothing is lost
//! that a living tab has computed, and nothing is counted twice.
//!
//! [`faults::plan`] draws a run from its seed, [`faults::watch`] looks on. The invariants are checked after each event,
//! a file for each kind. `make soak SEEDS=n` runs more seeds; a failure prints the command that repeats it.

// Builders and checks outside of the test functions may fail as loudly as these.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[allow(dead_code)]
#[path = "simulation/gradients.rs"]
mod gradients;

mod faults {
    mod deeds;
    mod durable;
    mod end;
    mod memory;
    mod once;
    mod outcome;
    mod plan;
    mod seeds;
    mod sessions;
    mod steps;
    mod versions;
    mod watch;
}
