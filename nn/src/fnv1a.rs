//! The hash by which two descriptions are told apart.

use crate::extent::Extent;

/// The hash FNV-1a in 64 bits, over 64-bit little-endian words. It tells descriptions apart, it does not guard against
/// forgers.
pub(crate) struct Fnv1a(u64);

impl Fnv1a {
    pub(crate) fn new() -> Self {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn word(&mut self, value: usize) {
        self.bytes((value as u64).to_le_bytes());
    }

    pub(crate) fn bits(&mut self, value: f64) {
        self.bytes(value.to_bits().to_le_bytes());
    }

    fn bytes(&mut self, bytes: [u8; 8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(crate) fn extents<const COUNT: usize>(&mut self, extents: [Extent; COUNT]) {
        for Extent { height, width } in extents {
            self.word(height);
            self.word(width);
        }
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}
