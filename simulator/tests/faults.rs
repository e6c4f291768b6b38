//! A server and tabs that crash, a disk that loses and lies, links that break: whatever a seed brings, nothing is lost
//! that a living tab has computed, and nothing is counted twice.
//!
//! `simulator::fault_run` draws a run from its seed, and checks its invariants after each event. `make soak SEEDS=n`
//! runs more seeds; a failure prints the command that repeats it.

// Builders and checks outside of the test functions may fail as loudly as these.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod faults {
    mod seeds;
    mod shown;
    mod steps;
}
