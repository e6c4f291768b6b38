//! Which samples a step draws.
//!
//! They depend on its key (run seed, session, ML module, step) alone, so that a gradient can be computed again
//! anywhere. An ML module stays with a shard for a window of [`STEPS_PER_SHARD`] steps, visits all shards in a random
//! order, and starts over with another order. Over its visits it goes through the samples of a shard in random orders
//! too, each sample once before any comes again: drawing without replacement, as in an epoch of ordinary training.

use crate::data::minibatch::{Minibatch, MinibatchBuffer};
use crate::data::shard::Shard;
use crate::random::{MinibatchKey, Permutation, Purpose};

/// How many consecutive steps of an ML module draw from one shard. With minibatches of 32 it is one pass over 2,000
/// samples, so that a tab needs a new shard only as fast as it can use up the old one. Part of what a key means: never
/// changes.
pub const STEPS_PER_SHARD: u64 = 64;

/// Draws the minibatch of a key as [`crate::data::samples::Samples::draw`] does, from the shards of a run that are all
/// there. `None` in a run without shards.
pub fn draw<'a>(
    key: &MinibatchKey,
    shards: &[Shard],
    batch: usize,
    into: &'a mut MinibatchBuffer,
) -> Option<Minibatch<'a>> {
    let visit = Visit::of(key, shards.len())?;
    let shard = shards.get(visit.shard)?;
    Some(visit.draw(key, shard, batch, into))
}

/// Which shard a step draws from, and how often its ML module has visited each shard before.
pub(super) struct Visit {
    pass: u64,
    pub(super) shard: usize,
}

impl Visit {
    /// Where a step is in the ML module's visits of the shards; `None` in a run without shards.
    pub(super) fn of(key: &MinibatchKey, shards: usize) -> Option<Visit> {
        let window = key.step / STEPS_PER_SHARD;
        let pass = window.checked_div(shards as u64)?;
        let order = shard_order(key, pass, shards)?;
        Some(Visit {
            pass,
            shard: order.at((window % shards as u64) as u32) as usize,
        })
    }

    /// The step's samples of `shard`, which is the one that it draws from.
    pub(super) fn draw<'a>(
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
pub(super) fn shard_order(key: &MinibatchKey, pass: u64, shards: usize) -> Option<Permutation> {
    let shards = u32::try_from(shards).ok().filter(|&shards| shards > 0)?;
    Some(Permutation::new(&mut key.generator(Purpose::ShardOrder, pass), shards))
}

/// The order in which an ML module goes through the samples of a shard for the `epoch`th time.
fn sample_order(key: &MinibatchKey, shard: usize, epoch: u64, samples: usize) -> Permutation {
    // A shard's samples fit 32 bits by MAX_SHARD_BYTES, and shards by `shard_order`. An epoch beyond 2³² starts over.
    let stream = (shard as u64) << 32 | (epoch & 0xffff_ffff);
    Permutation::new(&mut key.generator(Purpose::SampleOrder, stream), samples as u32)
}
