//! Whole numbers of one byte, with a scale for each block: its largest magnitude is 127.

use super::{CodecError, FLOAT_BYTES, all_finite, largest_magnitude};

/// Values that share a scale.
pub(super) const BLOCK: usize = 128;
const BLOCK_BYTES: usize = FLOAT_BYTES + BLOCK;

const LARGEST: f32 = 127.0;
/// The largest scale whose 127-fold is finite: the f32 below f32::MAX / 127.
const LARGEST_SCALE: f32 = f32::from_bits((f32::MAX / LARGEST).to_bits() - 1);
/// The smallest scale of a block that is not all zeros. Scales below it would have few digits, or none.
const SMALLEST_SCALE: f32 = f32::MIN_POSITIVE;

/// The bytes of `values` values: of each block its scale, then a byte for each value.
pub(super) const fn encoded_bytes(values: usize) -> usize {
    values.div_ceil(BLOCK) * FLOAT_BYTES + values
}

/// Writes each block's scale, then its values as whole multiples of it, rounded.
pub(super) fn encode(values: &[f32], out: &mut [u8]) {
    for (values, out) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK_BYTES)) {
        let (head, bytes) = out.split_at_mut(FLOAT_BYTES);
        let scale = scale(values);
        head.copy_from_slice(&scale.to_le_bytes());
        let divisor = if scale == 0.0 { 1.0 } else { scale };
        for (byte, value) in bytes.iter_mut().zip(values) {
            *byte = round(value / divisor) as u8;
        }
    }
}

/// Checks that every scale is finite and not negative, and every value finite. The length was checked before.
pub(super) fn check(payload: &[u8]) -> Result<(), CodecError> {
    for (block, bytes) in payload.chunks(BLOCK_BYTES).enumerate() {
        let (scale, bytes) = scale_and_bytes(bytes);
        if !(scale.is_finite() && scale >= 0.0) {
            return Err(CodecError::Scale { block, scale });
        }
        all_finite(block * BLOCK, || bytes.iter().map(|byte| value(*byte, scale)))?;
    }
    Ok(())
}

/// As [`super::Codec::decode_into`].
pub(super) fn decode_into(payload: &[u8], into: &mut [f32], mut apply: impl FnMut(&mut f32, f32)) {
    for (bytes, into) in payload.chunks(BLOCK_BYTES).zip(into.chunks_mut(BLOCK)) {
        let (scale, bytes) = scale_and_bytes(bytes);
        for (slot, byte) in into.iter_mut().zip(bytes) {
            apply(slot, value(*byte, scale));
        }
    }
}

fn scale(values: &[f32]) -> f32 {
    let largest = largest_magnitude(values);
    if largest == 0.0 {
        0.0
    } else {
        (largest / LARGEST).clamp(SMALLEST_SCALE, LARGEST_SCALE)
    }
}

/// The nearest whole number (ties to even), in two's complement: the low bits of a sum whose last digit is 1. No value
/// exceeds 127 scales by more than a rounding error, so nothing is clamped.
fn round(value: f32) -> i8 {
    const ROUNDER: f32 = 1.5 * (1 << 23) as f32;
    (value + ROUNDER).to_bits() as i8
}

fn value(byte: u8, scale: f32) -> f32 {
    f32::from(byte as i8) * scale
}

fn scale_and_bytes(block: &[u8]) -> (f32, &[u8]) {
    match block.split_first_chunk() {
        Some((scale, bytes)) => (f32::from_le_bytes(*scale), bytes),
        // No block is this short: the payload's length was checked.
        None => (0.0, &[]),
    }
}
