//! The samples of a tab: shards that arrive one by one, and minibatches drawn from those that have.
//!
//! An ML module never waits for a shard: it leaves out the steps whose shard has not arrived, and the runs of steps in
//! its read-outs show which.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::data::draw::{STEPS_PER_SHARD, Visit, shard_order};
use crate::data::minibatch::{Minibatch, MinibatchBuffer};
use crate::data::sample_format::SampleFormat;
use crate::data::shard::{OtherFormat, Shard};
use crate::random::{MinibatchKey, Permutation};

/// Why a shard was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SamplesError {
    /// There is no such shard.
    #[error("shard {index}: the run has {shards}, counted from 0; reload the page")]
    NoSuchShard {
        /// Its index.
        index: usize,
        /// Shards of the run.
        shards: usize,
    },
    /// The shard is of another data set.
    #[error("shard {index} {error}")]
    OtherFormat {
        /// Its index.
        index: usize,
        /// What it has, and what the run has.
        error: OtherFormat,
    },
    /// The shard had been set before; it stays as it was.
    #[error("shard {index} has arrived twice")]
    AlreadySet {
        /// Its index.
        index: usize,
    },
}

/// The samples of a tab. The BSP worker sets shards as they arrive; ML modules on other threads draw from those that
/// have.
#[derive(Debug)]
pub struct Samples {
    format: SampleFormat,
    run_seed: u64,
    session: u64,
    /// A shard is written once and never again, so readers need no lock: `get` is one atomic load.
    shards: Vec<OnceLock<Shard>>,
    /// See [`Samples::furthest_window`]. Orders nothing, so it is Relaxed.
    furthest_window: AtomicU64,
}

/// A shard, and when it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its index.
    pub shard: usize,
    /// The first window of [`STEPS_PER_SHARD`] steps in which an ML module draws from it.
    pub window: u64,
}

impl Samples {
    /// No samples yet, of a run that has `shards` shards of this format.
    pub fn new(format: SampleFormat, shards: usize, run_seed: u64, session: u64) -> Samples {
        Samples {
            format,
            run_seed,
            session,
            shards: (0..shards).map(|_| OnceLock::new()).collect(),
            furthest_window: AtomicU64::new(0),
        }
    }

    /// What the samples' bytes mean.
    pub fn format(&self) -> &SampleFormat {
        &self.format
    }

    /// How many shards the run has.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// How many shards have arrived.
    pub fn loaded(&self) -> usize {
        self.shards.iter().filter(|shard| shard.get().is_some()).count()
    }

    /// A shard has arrived. ML modules may draw from it from now on.
    pub fn set(&self, index: usize, shard: Shard) -> Result<(), SamplesError> {
        let Some(slot) = self.shards.get(index) else {
            return Err(SamplesError::NoSuchShard {
                index,
                shards: self.shards.len(),
            });
        };
        shard
            .check_format(&self.format)
            .map_err(|error| SamplesError::OtherFormat { index, error })?;
        slot.set(shard).map_err(|_| SamplesError::AlreadySet { index })
    }

    /// The order in which to fetch the shards, each once, for a tab with this many ML modules: by when the first of
    /// them wants it.
    pub fn fetch_order(&self, ml_modules: u32) -> Vec<Wanted> {
        let orders: Vec<Permutation> = (0..ml_modules)
            .filter_map(|ml_module| self.shard_order(ml_module, 0))
            .collect();
        let mut wanted = vec![false; self.shards.len()];
        let mut fetch = Vec::with_capacity(self.shards.len());
        for position in 0..self.shards.len() as u32 {
            for order in &orders {
                let shard = order.at(position) as usize;
                if !std::mem::replace(&mut wanted[shard], true) {
                    let window = u64::from(position);
                    fetch.push(Wanted { shard, window });
                }
            }
        }
        fetch
    }

    /// The window that the ML module furthest ahead has come to. Where steps had to be left out it may be far ahead.
    pub fn furthest_window(&self) -> u64 {
        self.furthest_window.load(Ordering::Relaxed)
    }

    /// The name of a step's minibatch in this run and session.
    pub fn key(&self, ml_module: u32, step: u64) -> MinibatchKey {
        MinibatchKey {
            run_seed: self.run_seed,
            session: self.session,
            ml_module,
            step,
        }
    }

    /// The first step from `step` on whose shard has arrived; `None` if no shard has.
    ///
    /// Every shard has a window in every pass, so it is found within two passes.
    pub fn next_drawable(&self, ml_module: u32, step: u64) -> Option<u64> {
        let shards = self.shards.len() as u64;
        let first_window = step / STEPS_PER_SHARD;
        let first_pass = first_window.checked_div(shards)?;
        for pass in first_pass..=first_pass + 1 {
            let order = self.shard_order(ml_module, pass)?;
            for position in 0..shards {
                let window = pass * shards + position;
                if window >= first_window && self.shards[order.at(position as u32) as usize].get().is_some() {
                    self.furthest_window.fetch_max(window, Ordering::Relaxed);
                    return Some(step.max(window.checked_mul(STEPS_PER_SHARD)?));
                }
            }
        }
        None
    }

    /// Draws the minibatch of a key, `batch` samples, into `into`, converted by the format. `None` if its shard has not
    /// arrived. The same key and shards give the same bits. Allocates nothing if the buffer was made for this batch.
    ///
    /// `batch` must be the same for all steps of an ML module, or samples come more or less often than they should.
    pub fn draw<'a>(&self, key: &MinibatchKey, batch: usize, into: &'a mut MinibatchBuffer) -> Option<Minibatch<'a>> {
        let visit = Visit::of(key, self.shards.len())?;
        let shard = self.shards.get(visit.shard)?.get()?;
        Some(visit.draw(key, shard, batch, into))
    }

    fn shard_order(&self, ml_module: u32, pass: u64) -> Option<Permutation> {
        shard_order(&self.key(ml_module, 0), pass, self.shards.len())
    }
}

#[cfg(test)]
mod tests;
