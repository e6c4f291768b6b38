//! The samples of a tab: shards that arrive one by one, and minibatches drawn from those that have.
//!
//! Which samples a step draws depends on its key (run seed, session, ML module, step) alone, so that a gradient can be
//! computed again anywhere. An ML module stays with a shard for a window of [`STEPS_PER_SHARD`] steps, visits all
//! shards in a random order, and starts over with another order. Over its visits it goes through the samples of a shard
//! in random orders too, each sample once before any comes again: drawing without replacement, as in an epoch of
//! ordinary training.
//!
//! An ML module never waits for a shard: it leaves out the steps whose shard has not arrived, and the runs of steps in
//! its read-outs show which.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::data::minibatch::{Minibatch, MinibatchBuffer};
use crate::data::sample_format::SampleFormat;
use crate::data::shard::{OtherFormat, Shard};
use crate::random::{MinibatchKey, Permutation, Purpose};

/// How many consecutive steps of an ML module draw from one shard. With minibatches of 32 it is one pass over 2,000
/// samples, so that a tab needs a new shard only as fast as it can use up the old one. Part of what a key means: never
/// changes.
pub const STEPS_PER_SHARD: u64 = 64;

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
        for place in 0..self.shards.len() as u32 {
            for order in &orders {
                let shard = order.at(place) as usize;
                if !std::mem::replace(&mut wanted[shard], true) {
                    let window = u64::from(place);
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
            for place in 0..shards {
                let window = pass * shards + place;
                if window >= first_window && self.shards[order.at(place as u32) as usize].get().is_some() {
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
        let place = Place::of(key, self.shards.len())?;
        let shard = self.shards.get(place.shard)?.get()?;
        Some(place.draw(key, shard, batch, into))
    }

    fn shard_order(&self, ml_module: u32, pass: u64) -> Option<Permutation> {
        shard_order(&self.key(ml_module, 0), pass, self.shards.len())
    }
}

/// Draws the minibatch of a key as [`Samples::draw`] does, from the shards of a run that are all there. `None` in a run
/// without shards.
pub fn draw<'a>(
    key: &MinibatchKey,
    shards: &[Shard],
    batch: usize,
    into: &'a mut MinibatchBuffer,
) -> Option<Minibatch<'a>> {
    let place = Place::of(key, shards.len())?;
    let shard = shards.get(place.shard)?;
    Some(place.draw(key, shard, batch, into))
}

/// Which shard a step draws from, and how often its ML module has visited each shard before.
struct Place {
    pass: u64,
    shard: usize,
}

impl Place {
    /// Where a step is in the ML module's visits of the shards; `None` in a run without shards.
    fn of(key: &MinibatchKey, shards: usize) -> Option<Place> {
        let window = key.step / STEPS_PER_SHARD;
        let pass = window.checked_div(shards as u64)?;
        let order = shard_order(key, pass, shards)?;
        Some(Place {
            pass,
            shard: order.at((window % shards as u64) as u32) as usize,
        })
    }

    /// The step's samples of `shard`, which is the one that it draws from.
    fn draw<'a>(
        &self,
        key: &MinibatchKey,
        shard: &Shard,
        batch: usize,
        into: &'a mut MinibatchBuffer,
    ) -> Minibatch<'a> {
        let samples = shard.samples() as u64;
        // The samples that this ML module has drawn from this shard before, counted over all of its visits.
        let drawn_before = (self.pass * STEPS_PER_SHARD + key.step % STEPS_PER_SHARD).wrapping_mul(batch as u64);
        let mut order: Option<(u64, Permutation)> = None;
        let chosen = (0..batch as u64).map(|number| {
            let draw = drawn_before.wrapping_add(number);
            let (epoch, position) = (draw / samples, (draw % samples) as u32);
            let permutation = match order.take() {
                Some((drawn, permutation)) if drawn == epoch => permutation,
                _ => sample_order(key, self.shard, epoch, shard.samples()),
            };
            let sample = permutation.at(position) as usize;
            order = Some((epoch, permutation));
            sample
        });
        into.fill(shard, batch, chosen, Some(*key))
    }
}

/// The order in which an ML module visits the shards in a pass over them. Each ML module has its own: those of one tab
/// would otherwise all draw from the same few samples at the same time.
fn shard_order(key: &MinibatchKey, pass: u64, shards: usize) -> Option<Permutation> {
    let shards = u32::try_from(shards).ok().filter(|&shards| shards > 0)?;
    Some(Permutation::new(&mut key.generator(Purpose::ShardOrder, pass), shards))
}

/// The order in which an ML module goes through the samples of a shard for the `epoch`th time.
fn sample_order(key: &MinibatchKey, shard: usize, epoch: u64, samples: usize) -> Permutation {
    // A shard's samples fit 32 bits by MAX_SHARD_BYTES, and shards by `shard_order`. An epoch beyond 2³² starts over.
    let stream = (shard as u64) << 32 | (epoch & 0xffff_ffff);
    Permutation::new(&mut key.generator(Purpose::SampleOrder, stream), samples as u32)
}

#[cfg(test)]
mod tests;
