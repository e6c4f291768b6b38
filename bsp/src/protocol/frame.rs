//! How a message lies in a frame: one binary WebSocket message, little-endian throughout.
//!
//! ```text
//! length of the header, u32 │ header, postcard │ tensor payload (may be empty)
//! ```
//!
//! Decoding a frame checks its header, once. The payload stays bytes, encoded as the header says ([`super::codec`]).
//! Its length follows from the model, which only the receiver knows: the receiver checks the payload before it uses it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::codec::{Codec, CodecError, FLOAT_BYTES};
use super::message::{FromCentral, FromVolunteer, ModelEncoding, PROTOCOL, StoreModel};
use crate::shared_memory::ModelStamp;

mod contribution_frame;

pub use contribution_frame::ContributionFrame;

/// The longest header that is accepted, and the room that a writer leaves for one. A contribution's runs of steps fill
/// it: at most [`super::message::MAX_STEP_RUNS`] of them, each at most 30 bytes long. Everything else together stays
/// under 512 bytes.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;

/// The longest frame in a run whose model has `parameters` parameters, whatever the codec.
pub const fn max_frame_bytes(parameters: usize) -> usize {
    LENGTH_BYTES + MAX_HEADER_BYTES + parameters * FLOAT_BYTES + CODEC_SLACK
}

/// How much longer than plain f32 a codec can be: by one entry, where a model has a single parameter.
const CODEC_SLACK: usize = 8;

const LENGTH_BYTES: usize = 4;

/// A message as it arrived, and the bytes behind its header.
#[derive(Clone, Debug, PartialEq)]
pub struct Received<M> {
    /// The header.
    pub message: M,
    /// The tensor payload, as it came.
    pub payload: Bytes,
}

/// Why a frame can't be read, or a model that it brings can't be stored.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// The frame is shorter than its header.
    #[error("it ends after {got} bytes, but its header needs {needed}")]
    Truncated {
        /// Bytes that are there.
        got: usize,
        /// Bytes that should be.
        needed: usize,
    },
    /// Its header is longer than any valid one.
    #[error("its header is said to be {got} bytes long; at most {MAX_HEADER_BYTES} are")]
    HeaderTooLong {
        /// The length that it says.
        got: usize,
    },
    /// Its header is not a message of this protocol.
    #[error("its header is not a message of protocol {PROTOCOL}: {0}")]
    Header(postcard::Error),
    /// Bytes are left over in the header.
    #[error("{0} bytes are left over in its header")]
    HeaderRest(usize),
    /// The message has no payload, but bytes follow.
    #[error("{0} bytes follow its header, where nothing should")]
    Payload(usize),
    /// It is a model that can't be decoded.
    #[error("its model can't be decoded: {0}")]
    Model(#[from] CodecError),
    /// It is a model as differences from a model that the volunteer has not stored.
    #[error("its model leads on from version {from} of incarnation {incarnation}, which is not the model that is here")]
    LeadsOnFrom {
        /// The incarnation that is needed.
        incarnation: u32,
        /// The version that is needed.
        from: u64,
    },
}

impl FromVolunteer {
    /// Reads a frame that came from a volunteer.
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong with it, and where.
    pub fn decode(frame: &Bytes) -> Result<Received<FromVolunteer>, FrameError> {
        decode(frame, |message| matches!(message, FromVolunteer::Contribution(_)))
    }

    /// The frame of this message, without a payload. ([`ContributionFrame`] writes a contribution's frame.)
    pub fn encode(&self) -> Bytes {
        encode(self, &[])
    }
}

impl FromCentral {
    /// Reads a frame that came from the central controller.
    ///
    /// # Errors
    /// [`FrameError`] says what is wrong with it, and where.
    pub fn decode(frame: &Bytes) -> Result<Received<FromCentral>, FrameError> {
        decode(frame, |message| matches!(message, FromCentral::StoreModel(_)))
    }

    /// The frame of this message, without a payload.
    pub fn encode(&self) -> Bytes {
        encode(self, &[])
    }

    /// The frame of the model `parameters`, whole.
    pub fn encode_model(stamp: ModelStamp, parameters: &[f32]) -> Bytes {
        let encoding = ModelEncoding::Whole;
        let mut frame = header(&FromCentral::StoreModel(StoreModel { stamp, encoding }));
        let begin = frame.len();
        frame.resize(begin + parameters.len() * FLOAT_BYTES, 0);
        Codec::F32.encode(parameters, &mut frame[begin..]);
        frame.into()
    }
}

fn encode<M: Serialize>(message: &M, payload: &[u8]) -> Bytes {
    let mut frame = header(message);
    frame.extend_from_slice(payload);
    frame.into()
}

/// A frame's beginning: the header's length, and the header.
fn header<M: Serialize>(message: &M) -> Vec<u8> {
    let mut frame = vec![0; LENGTH_BYTES];
    // Serialising plain data into a growing vector can't fail: there are no maps of unknown length, and no writer.
    if let Ok(header) = postcard::to_allocvec(message) {
        debug_assert!(header.len() <= MAX_HEADER_BYTES);
        frame[..LENGTH_BYTES].copy_from_slice(&(header.len() as u32).to_le_bytes());
        frame.extend_from_slice(&header);
    }
    frame
}

fn decode<M: for<'de> Deserialize<'de>>(
    frame: &Bytes,
    has_payload: impl Fn(&M) -> bool,
) -> Result<Received<M>, FrameError> {
    let truncated = |needed| FrameError::Truncated {
        got: frame.len(),
        needed,
    };
    let length = frame.first_chunk::<LENGTH_BYTES>().ok_or(truncated(LENGTH_BYTES))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_HEADER_BYTES {
        return Err(FrameError::HeaderTooLong { got: length });
    }
    let end = LENGTH_BYTES + length;
    let header = frame.get(LENGTH_BYTES..end).ok_or(truncated(end))?;
    let (message, rest) = postcard::take_from_bytes::<M>(header).map_err(FrameError::Header)?;
    if !rest.is_empty() {
        return Err(FrameError::HeaderRest(rest.len()));
    }
    let payload = frame.slice(end..);
    if !(payload.is_empty() || has_payload(&message)) {
        return Err(FrameError::Payload(payload.len()));
    }
    Ok(Received { message, payload })
}

#[cfg(test)]
mod tests;
