//! How the values of a tensor payload are encoded on the wire.
//!
//! Everything is little-endian. The length of a payload follows from the codec and the number of values alone:
//!
//! ```text
//! F32    value, f32 │ …
//! F16    block of 256: exponent, u8 │ value, IEEE half each │ next block …
//! Int8   block of 128: scale, f32 │ value, i8 each │ next block …
//! TopK   index, u32 │ value, f32 │ next entry, ascending by index …      one entry for every 32 values, rounded up
//! ```
//!
//! A last block may be shorter. A block lies in one piece, so that it stays in the first-level cache while it is
//! encoded, decoded, and its error computed. The codecs use only additions, multiplications, divisions, comparisons and
//! moves of bits: the same values give the same bytes, and the same bytes the same values, natively and in the browser.
//!
//! [`Codec::encode_with_feedback`] keeps the error of an encoding and adds it to the next values (Seide et al. 2014,
//! "1-bit stochastic gradient descent"; Karimireddy et al. 2019, arXiv 1901.09847).

mod f16;
mod int8;
mod top_k;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// How the values of a payload are encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Plain f32.
    #[default]
    F32,
    /// Half precision: 11 binary digits. A power of two for each block of 256 brings its largest value into a half's
    /// range.
    F16,
    /// Whole numbers from −127 to 127, with a scale for each block of 128: an error of at most half a scale.
    Int8,
    /// The largest thirty-second of the values by magnitude, exactly; of equal ones the first. The rest is 0.
    TopK,
}

/// Why a payload is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CodecError {
    /// Its length is not that of `count` encoded values.
    #[error("it is {got} bytes long; {count} values in {codec:?} are {expected}")]
    Length {
        /// Its bytes.
        got: usize,
        /// The number of values that it should hold.
        count: usize,
        /// The codec.
        codec: Codec,
        /// The length that it should have.
        expected: usize,
    },
    /// A block's scale is not valid.
    #[error("block {block} has the scale {scale}; a scale is finite and not negative")]
    Scale {
        /// The block, counted from 0.
        block: usize,
        /// Its scale.
        scale: f32,
    },
    /// An entry's index does not follow the last one's, or there is no such value.
    #[error("entry {entry} has the index {index}; indices ascend and are below {count}")]
    Index {
        /// The entry, counted from 0.
        entry: usize,
        /// Its index.
        index: u32,
        /// The number of values.
        count: usize,
    },
    /// A value is infinite or not a number.
    #[error("value {index} is not finite")]
    NotFinite {
        /// The value's index.
        index: usize,
    },
}

/// A checked payload, which need not be checked again.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    codec: Codec,
    count: usize,
    payload: Bytes,
}

impl Encoded {
    /// The payload `payload` of `count` values, after [`Codec::check`].
    ///
    /// # Errors
    /// [`CodecError`] says what is wrong with it, and where.
    pub fn new(codec: Codec, payload: Bytes, count: usize) -> Result<Encoded, CodecError> {
        codec.check(&payload, count)?;
        Ok(Encoded { codec, count, payload })
    }

    /// Its codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The number of values.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The bytes, as they came.
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// [`Codec::decode_into`]. `into` has [`Encoded::count`] elements.
    pub fn decode_into(&self, into: &mut [f32], apply: impl FnMut(&mut f32, f32)) {
        self.codec.decode_into(&self.payload, into, apply);
    }
}

impl Codec {
    /// All of them.
    pub const ALL: [Codec; 4] = [Codec::F32, Codec::F16, Codec::Int8, Codec::TopK];

    /// The bytes of `values` encoded values, exactly.
    pub const fn encoded_bytes(self, values: usize) -> usize {
        match self {
            Codec::F32 => values * FLOAT_BYTES,
            Codec::F16 => f16::encoded_bytes(values),
            Codec::Int8 => int8::encoded_bytes(values),
            Codec::TopK => top_k::encoded_bytes(values),
        }
    }

    /// Encodes `values` into `out`, which is exactly [`Codec::encoded_bytes`] long. Allocates nothing.
    ///
    /// The values are finite. (Others do no harm here, but may decode to any value.)
    pub fn encode(self, values: &[f32], out: &mut [u8]) {
        debug_assert!(
            values.iter().all(|value| value.is_finite()),
            "only finite values travel"
        );
        assert_eq!(
            out.len(),
            self.encoded_bytes(values.len()),
            "the encoded values fill `out`"
        );
        match self {
            Codec::F32 => {
                for (bytes, value) in out.as_chunks_mut().0.iter_mut().zip(values) {
                    *bytes = value.to_le_bytes();
                }
            }
            Codec::F16 => f16::encode(values, out),
            Codec::Int8 => int8::encode(values, out),
            Codec::TopK => top_k::encode(values, out),
        }
    }

    /// Encodes `values` + `error`, and leaves the error of the encoding in `error`: zeros for [`Codec::F32`]. Allocates
    /// nothing.
    ///
    /// Afterwards `values` holds the sums that were encoded. The sums should be finite. After a sum that is not, the
    /// error is not finite either, and must be set to zeros.
    pub fn encode_with_feedback(self, values: &mut [f32], error: &mut [f32], out: &mut [u8]) {
        /// Whole blocks of each codec, few enough to stay in the first-level cache with their errors and their bytes.
        const PIECE: usize = 1024;
        assert_eq!(values.len(), error.len(), "each value has its error");
        assert_eq!(
            out.len(),
            self.encoded_bytes(values.len()),
            "the encoded values fill `out`"
        );
        let piece = match self {
            Codec::TopK => values.len().max(1),
            Codec::F32 | Codec::F16 | Codec::Int8 => PIECE,
        };
        let values = values.chunks_mut(piece);
        let pieces = values
            .zip(error.chunks_mut(piece))
            .zip(out.chunks_mut(self.encoded_bytes(piece)));
        for ((values, error), out) in pieces {
            for (value, error) in values.iter_mut().zip(&mut *error) {
                *value += *error;
                *error = *value;
            }
            self.encode(values, out);
            self.decode_into(out, error, |error, decoded| *error -= decoded);
        }
    }

    /// Checks a payload of `count` values that came from a peer: its length, its scales and indices, and that every
    /// value that it decodes to is finite.
    ///
    /// # Errors
    /// [`CodecError`] says what is wrong with it, and where.
    pub fn check(self, payload: &[u8], count: usize) -> Result<(), CodecError> {
        #[cfg(test)]
        PAYLOADS_READ.set(PAYLOADS_READ.get() + 1);
        let expected = self.encoded_bytes(count);
        if payload.len() != expected {
            return Err(CodecError::Length {
                got: payload.len(),
                count,
                codec: self,
                expected,
            });
        }
        match self {
            Codec::F32 => {
                let floats = || payload.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                all_finite(0, floats)
            }
            Codec::F16 => f16::check(payload),
            Codec::Int8 => int8::check(payload),
            Codec::TopK => top_k::check(payload, count),
        }
    }

    /// Calls `apply(slot, value)` for each slot of `into` with its decoded value, in order; with [`Codec::TopK`] also
    /// for the zeros.
    ///
    /// The payload was encoded here or was checked: it has the length of `into.len()` encoded values. Any other fault
    /// in it makes the values meaningless, and does no further harm.
    pub fn decode_into(self, payload: &[u8], into: &mut [f32], mut apply: impl FnMut(&mut f32, f32)) {
        assert_eq!(
            payload.len(),
            self.encoded_bytes(into.len()),
            "the payload has a value for each slot"
        );
        match self {
            Codec::F32 => {
                for (slot, bytes) in into.iter_mut().zip(payload.as_chunks().0) {
                    apply(slot, f32::from_le_bytes(*bytes));
                }
            }
            Codec::F16 => f16::decode_into(payload, into, apply),
            Codec::Int8 => int8::decode_into(payload, into, apply),
            Codec::TopK => top_k::decode_into(payload, into, apply),
        }
    }
}

pub(crate) const FLOAT_BYTES: usize = 4;

/// The largest magnitude among `values`; 0 if there are none. In eight lanes, so that it vectorises.
fn largest_magnitude(values: &[f32]) -> f32 {
    const LANES: usize = 8;
    let mut largest = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (largest, value) in largest.iter_mut().zip(chunk) {
            *largest = larger(*largest, value.abs());
        }
    }
    for (largest, value) in largest.iter_mut().zip(rest) {
        *largest = larger(*largest, value.abs());
    }
    largest.into_iter().fold(0.0, larger)
}

/// The larger of two finite numbers, in one instruction; `f32::max` takes several, since it handles NaN.
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Checks that all `values`, the first of which has the index `first`, are finite. The check of all of them vectorises;
/// only if one is not finite, a second pass finds its place.
fn all_finite<I: Iterator<Item = f32>>(first: usize, values: impl Fn() -> I) -> Result<(), CodecError> {
    if values().fold(true, |finite, value| finite & value.is_finite()) {
        return Ok(());
    }
    let place = values().take_while(|value| value.is_finite()).count();
    Err(CodecError::NotFinite { index: first + place })
}

#[cfg(test)]
thread_local! {
    /// The number of payloads that this thread has checked: so tests show that one was not read.
    pub(crate) static PAYLOADS_READ: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests;
