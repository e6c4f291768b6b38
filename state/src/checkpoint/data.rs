//! What a part holds, and how it becomes bytes and comes back.

use std::io;

use bytes::Bytes;
use serde::Serialize;

use super::container::Container;
use super::problem::Problem;

/// Values that are turned into bytes at once: they and their bytes stay in the first-level cache.
const CHUNK: usize = 4096;
/// Bytes of a value.
const FLOAT_BYTES: usize = size_of::<f32>();

/// A named part of a container.
pub(super) struct Part<'a> {
    pub(super) name: String,
    pub(super) data: Data<'a>,
}

impl<'a> Part<'a> {
    pub(super) fn new(name: impl Into<String>, data: Data<'a>) -> Part<'a> {
        Part {
            name: name.into(),
            data,
        }
    }
}

/// The content of a part.
pub(super) enum Data<'a> {
    /// Bytes.
    Bytes(Vec<u8>),
    /// Numbers, little-endian one after the other.
    Floats(&'a [f32]),
    /// Bytes that lie in several places, one after the other.
    Pieces(Vec<&'a Bytes>),
}

impl Data<'_> {
    /// A value in postcard's encoding.
    pub(super) fn of<T: Serialize>(value: &T) -> io::Result<Data<'static>> {
        postcard::to_allocvec(value).map(Data::Bytes).map_err(io::Error::other)
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> u64 {
        match self {
            Data::Bytes(bytes) => bytes.len() as u64,
            Data::Floats(values) => size_of_val(*values) as u64,
            Data::Pieces(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
        }
    }

    /// Gives its bytes, piece by piece, to `take`.
    pub(super) fn pour(&self, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match self {
            Data::Bytes(bytes) => take(bytes),
            Data::Floats(values) => pour_floats(values, take),
            Data::Pieces(pieces) => pieces.iter().try_for_each(|piece| take(piece)),
        }
    }
}

fn pour_floats(values: &[f32], take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK.min(values.len()) * FLOAT_BYTES];
    for chunk in values.chunks(CHUNK) {
        let (places, _) = bytes.as_chunks_mut();
        for (place, value) in places.iter_mut().zip(chunk) {
            *place = value.to_le_bytes();
        }
        take(&bytes[..size_of_val(chunk)])?;
    }
    Ok(())
}

/// The numbers of a part that must have this many.
pub(super) fn floats(container: &Container<'_>, part: &'static str, count: u64) -> Result<Vec<f32>, Problem> {
    let bytes = container.part(part)?;
    to_floats(bytes, count).ok_or(Problem::Malformed { part })
}

/// These many numbers, if the bytes are as many.
pub(super) fn to_floats(bytes: &[u8], count: u64) -> Option<Vec<f32>> {
    let (values, rest) = bytes.as_chunks();
    let is_right = rest.is_empty() && values.len() as u64 == count;
    is_right.then(|| values.iter().map(|value| f32::from_le_bytes(*value)).collect())
}
