//! Random numbers that come again from their seed, so that a failing test can be repeated.

/// A linear congruential generator: Knuth's MMIX constants, of which the high bits are used.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed. It is printed, so that whoever sees the test fail can repeat it.
    pub fn new(seed: u64) -> Random {
        println!("seed {seed:#x}");
        Random(seed)
    }

    /// A number from 0 to `bound` - 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    /// One of these.
    pub fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}
