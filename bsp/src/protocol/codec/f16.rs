//! Half precision with a power of two for each block: sums of gradients may be larger than the largest half (65504), or
//! all be tiny.
//!
//! The conversion is our own: only finite numbers of a known range occur, so it needs no branch and vectorises,
//! natively and in wasm. The crate `half`, which converts number by number in wasm, was measured there at 0.4 of its
//! speed encoding and 0.12 decoding.

use super::{CodecError, all_finite, larger, largest_magnitude};

/// Values that share a scale.
pub(super) const BLOCK: usize = 256;
const SCALE_BYTES: usize = 1;
const HALF_BYTES: usize = 2;
const BLOCK_BYTES: usize = SCALE_BYTES + BLOCK * HALF_BYTES;

/// Bits of an f32's and of a half's mantissa, without the leading one.
const F32_MANTISSA: u32 = 23;
const F16_MANTISSA: u32 = 10;
/// The mantissa bits that a half does not have.
const DROPPED: u32 = F32_MANTISSA - F16_MANTISSA;
/// The power of two between an f32 and a half whose exponents have the same bits: the exponents' biases are 127 and 15.
const BIASES: i32 = 127 - 15;
const HALF_INFINITY: u16 = 0x7c00;
const HALF_SIGN: u16 = 0x8000;

/// A block is scaled such that its largest magnitude lies between 2^14 and 2^15, a factor of two below what overflows;
/// a block below 2^-112 has the smallest scale, 2^-126.
const TOP_EXPONENT: u32 = 14;
/// The largest half below 2^15. Values that would round up to 2^15 become this one, which is still within the rounding
/// error of 2^-11. So f32::MAX stays finite, and a decoded block keeps its exponent.
const LARGEST: f32 = 32752.0;
/// The smallest normal half, 2^-14. Below it halves are evenly spaced.
const SMALLEST_NORMAL: f32 = power_of_two(-14);

/// The bytes of `values` values: of each block its scale and its halves.
pub(super) const fn encoded_bytes(values: usize) -> usize {
    values.div_ceil(BLOCK) * SCALE_BYTES + values * HALF_BYTES
}

/// Writes each block's exponent, then its values as halves of that scale.
pub(super) fn encode(values: &[f32], out: &mut [u8]) {
    for (values, out) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK_BYTES)) {
        let (scale, halves) = out.split_at_mut(SCALE_BYTES);
        let exponent = (largest_magnitude(values).to_bits() >> F32_MANTISSA)
            .saturating_sub(TOP_EXPONENT)
            .max(1);
        scale[0] = exponent as u8;
        // 1 / scale, exactly: both are powers of two within f32's normal range.
        let inverse = f32::from_bits((2 * 127 - exponent) << F32_MANTISSA);
        for (half, value) in halves.as_chunks_mut().0.iter_mut().zip(values) {
            *half = to_half(value * inverse).to_le_bytes();
        }
    }
}

/// Checks that every scale, every half and every value that they make is finite. The length was checked before.
pub(super) fn check(payload: &[u8]) -> Result<(), CodecError> {
    for (block, bytes) in payload.chunks(BLOCK_BYTES).enumerate() {
        let (scale, halves) = scale_and_halves(bytes);
        if !scale.is_finite() {
            return Err(CodecError::Scale { block, scale });
        }
        all_finite(block * BLOCK, || {
            halves.iter().map(|bytes| {
                let half = u16::from_le_bytes(*bytes);
                // The conversion would take a half's infinities for numbers; a sender never writes them.
                let is_number = half & HALF_INFINITY != HALF_INFINITY;
                if is_number { to_f32(half) * scale } else { f32::INFINITY }
            })
        })?;
    }
    Ok(())
}

/// As [`super::Codec::decode_into`].
pub(super) fn decode_into(payload: &[u8], into: &mut [f32], mut apply: impl FnMut(&mut f32, f32)) {
    for (bytes, into) in payload.chunks(BLOCK_BYTES).zip(into.chunks_mut(BLOCK)) {
        let (scale, halves) = scale_and_halves(bytes);
        for (slot, half) in into.iter_mut().zip(halves) {
            apply(slot, to_f32(u16::from_le_bytes(*half)) * scale);
        }
    }
}

/// The scale travels as the exponent of the f32 that it is.
fn scale_and_halves(block: &[u8]) -> (f32, &[[u8; HALF_BYTES]]) {
    let (scale, halves) = block.split_at(SCALE_BYTES);
    (
        f32::from_bits(u32::from(scale[0]) << F32_MANTISSA),
        halves.as_chunks().0,
    )
}

/// The nearest half (ties to even), at most [`LARGEST`] in magnitude.
pub(super) fn to_half(value: f32) -> u16 {
    let magnitude = value.abs();
    let magnitude = if magnitude > LARGEST { LARGEST } else { magnitude };
    // Adding the power of two whose own last digit is the half's last digit rounds there; subtracting it again is
    // exact.
    let exponent = f32::from_bits(magnitude.to_bits() >> F32_MANTISSA << F32_MANTISSA);
    let rounder = larger(exponent, SMALLEST_NORMAL) * power_of_two(DROPPED as i32);
    let rounded = magnitude + rounder - rounder;
    // With the exponent moved down by the biases' difference the bits are the half's, the subnormal ones' too.
    let half = (rounded * power_of_two(-BIASES)).to_bits() >> DROPPED;
    half as u16 | (value.to_bits() >> 16) as u16 & HALF_SIGN
}

/// The value of a half, exactly.
pub(super) fn to_f32(half: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(half & !HALF_SIGN) << DROPPED) * power_of_two(BIASES);
    f32::from_bits(magnitude.to_bits() | u32::from(half & HALF_SIGN) << 16)
}

/// 2^`exponent`, in f32's normal range.
const fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((127 + exponent) as u32) << F32_MANTISSA)
}
