//! The values that are largest in magnitude, with their indices.
//!
//! They are found without sorting and in constant memory. Magnitudes of floats are ordered like their bits, so three
//! histograms, of 11, 10 and 10 bits, find the bits of the smallest magnitude that is kept.

use super::{CodecError, FLOAT_BYTES};

/// One value in this many is kept.
const SHARE: usize = 32;
const ENTRY_BYTES: usize = 4 + FLOAT_BYTES;
const MAGNITUDE: u32 = !(1 << 31);

/// The number of values kept out of `values`.
pub(super) const fn kept(values: usize) -> usize {
    values.div_ceil(SHARE)
}

/// The bytes of `values` values: an index and a value for each that is kept.
pub(super) const fn encoded_bytes(values: usize) -> usize {
    kept(values) * ENTRY_BYTES
}

/// Writes the values that are kept, each behind its index, by ascending index.
pub(super) fn encode(values: &[f32], out: &mut [u8]) {
    debug_assert!(u32::try_from(values.len()).is_ok(), "an index is an u32");
    let Threshold {
        magnitude: least,
        mut ties,
    } = threshold(values, kept(values.len()));
    let mut entries = out.as_chunks_mut::<ENTRY_BYTES>().0.iter_mut();
    for (index, value) in values.iter().enumerate() {
        let magnitude = value.to_bits() & MAGNITUDE;
        if magnitude < least {
            continue;
        }
        if magnitude == least {
            if ties == 0 {
                continue;
            }
            ties -= 1;
        }
        if let Some(entry) = entries.next() {
            entry[..4].copy_from_slice(&(index as u32).to_le_bytes());
            entry[4..].copy_from_slice(&value.to_le_bytes());
        }
    }
}

/// Checks that the indices ascend and are below `count`, and that the values are finite. The length was checked before.
pub(super) fn check(payload: &[u8], count: usize) -> Result<(), CodecError> {
    let mut next = 0;
    for (entry, (index, value)) in entries(payload).enumerate() {
        if (index as usize) < next || index as usize >= count {
            return Err(CodecError::Index { entry, index, count });
        }
        if !value.is_finite() {
            return Err(CodecError::NotFinite { index: index as usize });
        }
        next = index as usize + 1;
    }
    Ok(())
}

/// As [`super::Codec::decode_into`]: 0 for each value that was not kept.
pub(super) fn decode_into(payload: &[u8], into: &mut [f32], mut apply: impl FnMut(&mut f32, f32)) {
    let mut rest = into.iter_mut();
    let mut next = 0;
    for (index, value) in entries(payload) {
        let index = index as usize;
        for slot in rest.by_ref().take(index.saturating_sub(next)) {
            apply(slot, 0.0);
        }
        if let Some(slot) = rest.next() {
            apply(slot, value);
        }
        next = index.saturating_add(1);
    }
    for slot in rest {
        apply(slot, 0.0);
    }
}

fn entries(payload: &[u8]) -> impl Iterator<Item = (u32, f32)> {
    payload.as_chunks::<ENTRY_BYTES>().0.iter().map(|entry| {
        let [i0, i1, i2, i3, v0, v1, v2, v3] = *entry;
        (
            u32::from_le_bytes([i0, i1, i2, i3]),
            f32::from_le_bytes([v0, v1, v2, v3]),
        )
    })
}

/// The values that are kept: all of a larger magnitude, and the first few of this magnitude.
struct Threshold {
    /// The bits of the magnitude.
    magnitude: u32,
    /// The number of values of this magnitude that are kept.
    ties: u32,
}

/// The magnitude of the `kept`-th largest of `values`, digit by digit from the highest.
fn threshold(values: &[f32], kept: usize) -> Threshold {
    const DIGITS: [(u32, u32); 3] = [(20, 11), (10, 10), (0, 10)];
    let mut magnitude = 0;
    let mut known = 0;
    // Among the values with the digits found so far, the wanted value is the `rank`-th largest.
    let mut rank = kept as u32;
    for (shift, bits) in DIGITS {
        let mut histogram = [0u32; 1 << 11];
        let digit_mask = (1 << bits) - 1;
        for value in values {
            let bits = value.to_bits() & MAGNITUDE;
            if bits & known == magnitude {
                histogram[(bits >> shift & digit_mask) as usize] += 1;
            }
        }
        let mut digit = digit_mask;
        while digit > 0 && histogram[digit as usize] < rank {
            rank -= histogram[digit as usize];
            digit -= 1;
        }
        magnitude |= digit << shift;
        known |= digit_mask << shift;
    }
    Threshold { magnitude, ties: rank }
}
