//! Experiments with a run, without a server or volunteers' machines. Each prints its results.
//!
//! - [`simulate()`]: whole runs in virtual time, for each variant of a scenario, with tables and charts.
//! - [`reference()`]: the sequential baseline, which runs are compared with; [`sequential`] is its loop.
//! - [`evaluate()`]: how model files do on the held-out samples.
//!
//! Nothing here knows a command line, a socket or a browser.

mod evaluate;
mod output;
mod reference;
mod sequential;
mod simulate;

pub use evaluate::evaluate;
pub use output::Unprintable;
pub use reference::{ReferenceOptions, reference};
pub use simulate::simulate;
