//! Counter-based random numbers: every number has a name, and can be drawn again from that name alone.
//!
//! A generator is ChaCha8 whose 32-byte key holds *whose* numbers they are (run seed, session, ML module) and *what
//! for* ([`Purpose`]), and whose stream number says *which*. Nothing is carried over from one draw to the next, so a
//! minibatch can be drawn again for an audit without replaying those before it, and two purposes never share a number.
//! The numbers are integers, hence the same natively and in wasm.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What random numbers are drawn for. Each purpose has numbers of its own.
///
/// The discriminants are part of the generator's key and never change: with other ones, an old run's minibatches
/// couldn't be drawn again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Purpose {
    /// The order in which an ML module visits the shards; the stream is its pass over them.
    ShardOrder = 1,
    /// The order in which an ML module visits the samples of a shard; the stream is shard and pass.
    SampleOrder = 2,
    /// The order of the data set before it is cut into shards; of the run, not of a session.
    DatasetOrder = 3,
    /// Which samples of a data set without a test set of its own are held out; of the data set, not of the run.
    HeldOut = 4,
    /// Which numbers dropout drops; the stream is the step.
    Dropout = 5,
}

/// The name of a minibatch, and with the model's version of a gradient: with the shards it is all that is needed to
/// draw the same samples again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MinibatchKey {
    /// The seed of the run, from its run file.
    pub run_seed: u64,
    /// The session of the volunteer, given by the server.
    pub session: u64,
    /// Which ML module of the volunteer, counted from 0.
    pub ml_module: u32,
    /// Which step of the ML module, counted from 0.
    pub step: u64,
}

impl MinibatchKey {
    /// The numbers of this key's ML module for one purpose. They don't depend on the step unless the stream does.
    pub(crate) fn generator(&self, purpose: Purpose, stream: u64) -> Generator {
        Generator::new(self.run_seed, self.session, self.ml_module, purpose, stream)
    }
}

/// A sequence of random numbers that depends on its name alone.
#[derive(Clone, Debug)]
pub struct Generator(ChaCha8Rng);

impl Generator {
    fn new(run_seed: u64, session: u64, ml_module: u32, purpose: Purpose, stream: u64) -> Generator {
        let mut seed = [0; 32];
        seed[0..8].copy_from_slice(&run_seed.to_le_bytes());
        seed[8..16].copy_from_slice(&session.to_le_bytes());
        seed[16..20].copy_from_slice(&ml_module.to_le_bytes());
        seed[20..24].copy_from_slice(&(purpose as u32).to_le_bytes());
        let mut generator = ChaCha8Rng::from_seed(seed);
        generator.set_stream(stream);
        generator.set_word_pos(0);
        Generator(generator)
    }

    /// Numbers that belong to a run as a whole, not to a session of it.
    pub fn of_run(run_seed: u64, purpose: Purpose, stream: u64) -> Generator {
        Generator::new(run_seed, 0, 0, purpose, stream)
    }

    /// The next 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// A number below `n`, each as likely as any other. `n` must not be 0.
    ///
    /// Multiply and reject (Lemire, "Fast Random Integer Generation in an Interval", 2019): a plain remainder would
    /// prefer small numbers.
    pub fn below(&mut self, n: u32) -> u32 {
        assert!(n > 0, "no number is below 0");
        let mut product = u64::from(self.next_u32()) * u64::from(n);
        if (product as u32) < n {
            let rejected_below = n.wrapping_neg() % n;
            while (product as u32) < rejected_below {
                product = u64::from(self.next_u32()) * u64::from(n);
            }
        }
        (product >> 32) as u32
    }

    /// Puts `items` into a random order (Fisher and Yates), each order as likely as any other. At most 2³² items.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let bound = u32::try_from(last + 1).unwrap_or(u32::MAX);
            items.swap(last, self.below(bound) as usize);
        }
    }
}

/// How often the halves are mixed. Four rounds make a random function a random permutation (Luby and Rackoff); twice
/// that, because the round function is a short hash and the halves of a small shard are a few bits.
const ROUNDS: usize = 8;

/// Shorter halves leave too few round functions to choose from: with 2 bits some orders of four items came a sixth more
/// often than others.
const SMALLEST_HALF_BITS: u32 = 4;

/// A random order of the numbers below `n`, of which any one can be looked up without computing, or storing, the
/// others.
///
/// A Feistel network over the smallest square of a power of two that holds `n`; a result that isn't below `n` is put
/// through again until one is ("cycle walking": fewer than four times on average from 64 on). It takes no memory that
/// grows with `n`, so that an ML module can draw without replacement and still allocate nothing.
#[derive(Clone, Debug)]
pub(crate) struct Permutation {
    n: u32,
    half_bits: u32,
    round_keys: [u32; ROUNDS],
}

impl Permutation {
    /// The order of the numbers below `n`, which must not be 0, that this generator gives.
    pub(crate) fn new(generator: &mut Generator, n: u32) -> Permutation {
        assert!(n > 0, "a permutation needs something to permute");
        let bits = u32::BITS - (n - 1).leading_zeros();
        let half_bits = bits.div_ceil(2).max(SMALLEST_HALF_BITS);
        Permutation {
            n,
            half_bits,
            round_keys: std::array::from_fn(|_| generator.next_u32()),
        }
    }

    /// The number at `index`, which must be below `n`.
    pub(crate) fn at(&self, index: u32) -> u32 {
        assert!(index < self.n, "index {index} of a permutation of {}", self.n);
        let mut value = self.encrypt(index);
        // Ends, because the network is a permutation: the cycle that `index` lies on comes back to it at the latest.
        while value >= self.n {
            value = self.encrypt(value);
        }
        value
    }

    fn encrypt(&self, value: u32) -> u32 {
        let mask = (1 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.round_keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        (left << self.half_bits) | right
    }
}

/// Spreads every bit over the whole word (the finaliser of MurmurHash3).
fn mix(mut word: u32) -> u32 {
    word ^= word >> 16;
    word = word.wrapping_mul(0x85eb_ca6b);
    word ^= word >> 13;
    word = word.wrapping_mul(0xc2b2_ae35);
    word ^ (word >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const KEY: MinibatchKey = MinibatchKey {
        run_seed: 1,
        session: 2,
        ml_module: 3,
        step: 4,
    };

    #[test]
    fn the_same_name_gives_the_same_numbers_for_ever() {
        let mut generator = KEY.generator(Purpose::SampleOrder, 5);
        let drawn: [u32; 4] = std::array::from_fn(|_| generator.next_u32());
        // Also what a ChaCha8 written down from its definition gives for this key.
        assert_eq!(drawn, [1_336_602_025, 139_766_429, 3_737_670_744, 2_724_877_707]);
        let mut generator = KEY.generator(Purpose::SampleOrder, 5);
        let below: Vec<u32> = (0..8).map(|_| generator.below(1000)).collect();
        assert_eq!(below, [311, 32, 870, 634, 534, 108, 314, 498]);
        let permutation = Permutation::new(&mut KEY.generator(Purpose::SampleOrder, 5), 10);
        let order: Vec<u32> = (0..10).map(|index| permutation.at(index)).collect();
        assert_eq!(order, [3, 4, 0, 1, 7, 8, 9, 5, 2, 6]);
        let mut items = [0, 1, 2, 3, 4, 5, 6, 7];
        Generator::of_run(1, Purpose::DatasetOrder, 0).shuffle(&mut items);
        assert_eq!(items, [0, 3, 4, 7, 5, 1, 6, 2]);
    }

    #[test]
    fn every_part_of_a_name_changes_the_numbers() {
        let first = |key: MinibatchKey, purpose, stream| {
            let mut generator = key.generator(purpose, stream);
            [generator.next_u32(), generator.next_u32()]
        };
        let numbers = [
            first(KEY, Purpose::SampleOrder, 5),
            first(MinibatchKey { run_seed: 9, ..KEY }, Purpose::SampleOrder, 5),
            first(MinibatchKey { session: 9, ..KEY }, Purpose::SampleOrder, 5),
            first(MinibatchKey { ml_module: 9, ..KEY }, Purpose::SampleOrder, 5),
            first(KEY, Purpose::ShardOrder, 5),
            first(KEY, Purpose::SampleOrder, 9),
        ];
        for (index, one) in numbers.iter().enumerate() {
            assert!(
                !numbers[..index].contains(one),
                "name {index} has the numbers of another"
            );
        }
    }

    #[test]
    fn below_prefers_no_number() {
        let mut generator = KEY.generator(Purpose::SampleOrder, 0);
        // Three quarters of 2³²: a remainder would give the lower third twice as often as the rest.
        let n = 3 << 30;
        let in_lower_third = (0..30_000).filter(|_| generator.below(n) < n / 3).count();
        assert!(
            (9_600..10_400).contains(&in_lower_third),
            "{in_lower_third} of 30000 in the lower third"
        );
        assert!((0..1000).all(|_| generator.below(7) < 7));
        assert_eq!(generator.below(1), 0);
    }

    #[test]
    fn a_permutation_has_every_number_once() {
        for n in [1, 2, 3, 4, 5, 15, 16, 17, 255, 256, 257, 2000, 65_537] {
            let permutation = Permutation::new(&mut KEY.generator(Purpose::SampleOrder, u64::from(n)), n);
            let mut seen = vec![false; n as usize];
            for index in 0..n {
                let value = permutation.at(index) as usize;
                assert!(!seen[value], "{value} twice in a permutation of {n}");
                seen[value] = true;
            }
        }
    }

    #[test]
    fn a_permutation_of_the_largest_size_stays_in_range() {
        let permutation = Permutation::new(&mut KEY.generator(Purpose::SampleOrder, 0), u32::MAX);
        assert!((0..1000).all(|index| permutation.at(u32::MAX - 1 - index) < u32::MAX));
    }

    #[test]
    fn every_order_of_a_few_items_is_about_as_likely() {
        let mut counts = HashMap::new();
        for stream in 0..24_000 {
            let permutation = Permutation::new(&mut KEY.generator(Purpose::ShardOrder, stream), 4);
            *counts
                .entry([0, 1, 2, 3].map(|index| permutation.at(index)))
                .or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 24);
        for (order, count) in counts {
            assert!(
                (850..1150).contains(&count),
                "{order:?} came {count} times, expected about 1000"
            );
        }
    }

    #[test]
    fn a_sample_is_as_likely_in_any_place_of_a_shard() {
        const N: usize = 100;
        let mut counts = vec![0_u32; N * N];
        for stream in 0..10_000 {
            let permutation = Permutation::new(&mut KEY.generator(Purpose::SampleOrder, stream), N as u32);
            for index in 0..N {
                counts[index * N + permutation.at(index as u32) as usize] += 1;
            }
        }
        // Chi-square over 99·99 degrees of freedom: mean 9801, standard deviation 140.
        let chi_square: f64 = counts
            .iter()
            .map(|&count| (f64::from(count) - 100.0).powi(2) / 100.0)
            .sum();
        assert!((9_200.0..10_400.0).contains(&chi_square), "chi-square {chi_square}");
    }
}
