//! The hash by which descriptions and shards are told apart.

use crate::extent::Extent;

/// The hash FNV-1a in 64 bits (Fowler, Noll, Vo), over bytes. It tells content apart and finds damage, it does not
/// guard against forgers.
pub(crate) struct Fnv1a(u64);

impl Fnv1a {
    /// The hash of no bytes.
    pub(crate) fn new() -> Self {
        Fnv1a(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a number, as 64 bits, little-endian.
    pub(crate) fn word(&mut self, value: usize) {
        self.bytes(&(value as u64).to_le_bytes());
    }

    /// Adds the bits of a number: 0 and −0 differ.
    pub(crate) fn bits(&mut self, value: f64) {
        self.bytes(&value.to_bits().to_le_bytes());
    }

    /// Adds bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds the height and the width of each, as words.
    pub(crate) fn extents<const COUNT: usize>(&mut self, extents: [Extent; COUNT]) {
        for Extent { height, width } in extents {
            self.word(height);
            self.word(width);
        }
    }

    /// The hash of all that was added.
    pub(crate) fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_fnv1a() {
        let hash = |bytes: &[u8]| {
            let mut hash = Fnv1a::new();
            hash.bytes(bytes);
            hash.finish()
        };
        // From the test vectors of its authors.
        assert_eq!(hash(b""), 0xcbf29ce484222325);
        assert_eq!(hash(b"a"), 0xaf63dc4c8601ec8c);
        assert_eq!(hash(b"foobar"), 0x85944171f73967e8);
    }
}
