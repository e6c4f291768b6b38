//! The model on its way down: encoded once per version, shared by all sockets.
//!
//! With [`Codec::F32`] a frame is the model. With another codec the central module keeps a replica R, which is what
//! volunteers hold:
//!
//! ```text
//! d_v = encoded(M_v − R_{v−1})        the frame of version v
//! R_v = R_{v−1} + decoded(d_v)        on both sides, with the same bits
//! ```
//!
//! The loss of the encoding stays in M_v − R_v and is part of the next difference: error feedback, for all volunteers
//! at once (as the server's side in Tang et al., DoubleSqueeze, arXiv 1905.05957). A volunteer that holds an older
//! version receives the differences since then, if they are shorter than the whole. A volunteer that holds none
//! receives R_v whole in f32, never M_v: all volunteers compute on the same bits.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::trainer::RecordError;
use crate::protocol::codec::{Codec, FLOAT_BYTES};
use crate::protocol::message::{FromCentral, ModelEncoding, StoreModel};
use crate::shared_memory::ModelStamp;

/// The frames of the current version, and the differences that lead to it.
#[derive(Debug)]
pub(super) struct Broadcast {
    codec: Codec,
    stamp: ModelStamp,
    /// R; not kept with [`Codec::F32`], where it is the model.
    replica: Vec<f32>,
    /// Scratch memory for the difference M_v − R_{v−1}.
    difference: Vec<f32>,
    /// The encoded differences of the last versions, the newest last.
    differences: VecDeque<Bytes>,
    /// The current version's frames, by the version that their differences start from; `None` for the whole model.
    frames: BTreeMap<Option<u64>, Bytes>,
}

impl Broadcast {
    /// A broadcast that begins with this model.
    pub(super) fn new(codec: Codec, stamp: ModelStamp, model: &[f32]) -> Broadcast {
        let has_replica = codec != Codec::F32;
        let whole = FromCentral::encode_model(stamp, model);
        Broadcast {
            codec,
            stamp,
            replica: if has_replica { model.to_vec() } else { Vec::new() },
            difference: if has_replica {
                vec![0.0; model.len()]
            } else {
                Vec::new()
            },
            differences: VecDeque::new(),
            frames: BTreeMap::from([(None, whole)]),
        }
    }

    /// A broadcast that goes on with the replica that a checkpoint holds. Volunteers receive it whole: they hold models
    /// of an earlier incarnation.
    ///
    /// # Errors
    /// The replica does not fit the model.
    pub(super) fn resumed(
        codec: Codec,
        stamp: ModelStamp,
        model: &[f32],
        replica: Vec<f32>,
    ) -> Result<Broadcast, RecordError> {
        if codec == Codec::F32 || replica.is_empty() {
            return Ok(Broadcast::new(codec, stamp, model));
        }
        let (got, expected) = (replica.len(), model.len());
        if got != expected {
            return Err(RecordError::AnotherModel { got, expected });
        }
        Ok(Broadcast::new(codec, stamp, &replica))
    }

    /// What a checkpoint holds of it: the model as volunteers hold it, if that is another one.
    pub(super) fn record(&self) -> Vec<f32> {
        self.replica.clone()
    }

    /// The next version was made.
    pub(super) fn publish(&mut self, stamp: ModelStamp, model: &[f32]) {
        self.stamp = stamp;
        self.frames.clear();
        if self.codec == Codec::F32 {
            self.frames.insert(None, FromCentral::encode_model(stamp, model));
            return;
        }
        for ((difference, model), replica) in self.difference.iter_mut().zip(model).zip(&self.replica) {
            *difference = model - replica;
        }
        let mut encoded = BytesMut::zeroed(self.codec.encoded_bytes(model.len()));
        self.codec.encode(&self.difference, &mut encoded);
        self.codec
            .decode_into(&encoded, &mut self.replica, |replica, value| *replica += value);
        self.differences.push_back(encoded.freeze());
        // Together, more differences than this would not be shorter than the whole.
        while self.differences.len() > 1
            && self.bytes_of_differences(self.differences.len()) > model.len() * FLOAT_BYTES
        {
            self.differences.pop_front();
        }
    }

    /// Encodes the frame that brings a volunteer to the current version, from the model that it has stored if it can
    /// read differences. Each frame is encoded once, and then shared.
    pub(super) fn encode(&mut self, stored: Option<ModelStamp>, model: &[f32]) -> Bytes {
        let missed = stored
            .filter(|stored| stored.incarnation == self.stamp.incarnation)
            .and_then(|stored| self.stamp.version.checked_sub(stored.version))
            .and_then(|missed| usize::try_from(missed).ok())
            .filter(|missed| (1..=self.differences.len()).contains(missed));
        let from = missed.map(|missed| self.stamp.version - missed as u64);
        if let Some(frame) = self.frames.get(&from) {
            return frame.clone();
        }
        let frame = match (missed, from) {
            (Some(missed), Some(from)) => self.encode_differences(missed, from),
            _ if self.codec == Codec::F32 => FromCentral::encode_model(self.stamp, model),
            _ => FromCentral::encode_model(self.stamp, &self.replica),
        };
        self.frames.insert(from, frame.clone());
        frame
    }

    fn encode_differences(&self, missed: usize, from: u64) -> Bytes {
        let encoding = ModelEncoding::Differences {
            from,
            codec: self.codec,
        };
        let message = FromCentral::StoreModel(StoreModel {
            stamp: self.stamp,
            encoding,
        });
        let mut frame = BytesMut::from(&message.encode()[..]);
        frame.reserve(self.bytes_of_differences(missed));
        let first = self.differences.len() - missed;
        for difference in self.differences.range(first..) {
            frame.extend_from_slice(difference);
        }
        frame.freeze()
    }

    fn bytes_of_differences(&self, count: usize) -> usize {
        count * self.codec.encoded_bytes(self.replica.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(version: u64) -> ModelStamp {
        ModelStamp {
            incarnation: 1,
            version,
        }
    }

    /// The model of a volunteer after this frame, if it held `held` before.
    fn after(frame: &Bytes, held: &[f32]) -> Vec<f32> {
        let received = FromCentral::decode(frame).unwrap();
        let FromCentral::StoreModel(message) = received.message else {
            panic!("not a model")
        };
        let mut model = held.to_vec();
        message.check(&received.payload, model.len()).unwrap();
        message.store(&received.payload, held, &mut model);
        model
    }

    fn model(version: u64) -> Vec<f32> {
        (0..300)
            .map(|at| (at as f32 * 0.37 + version as f32 * 0.011).sin())
            .collect()
    }

    #[test]
    fn a_volunteer_that_follows_misses_versions_or_joins_holds_the_same_bits() {
        for codec in [Codec::F32, Codec::F16, Codec::Int8] {
            let mut broadcast = Broadcast::new(codec, stamp(0), &model(0));
            let mut follower = after(&broadcast.encode(None, &model(0)), &[0.0; 300]);
            let mut often_late = (0, follower.clone());
            for version in 1..40 {
                broadcast.publish(stamp(version), &model(version));
                follower = after(&broadcast.encode(Some(stamp(version - 1)), &model(version)), &follower);
                if version % 5 != 1 {
                    let frame = broadcast.encode(Some(stamp(often_late.0)), &model(version));
                    often_late = (version, after(&frame, &often_late.1));
                    assert_eq!(often_late.1, follower, "{codec:?}, version {version}");
                }
                let joined = after(&broadcast.encode(None, &model(version)), &[0.0; 300]);
                assert_eq!(joined, follower, "{codec:?}, version {version}");
            }
            let largest = |errors: Vec<f32>| errors.into_iter().map(f32::abs).fold(0.0, f32::max);
            let away = largest(follower.iter().zip(model(39)).map(|(own, model)| own - model).collect());
            // A step changes a parameter by 0.011 at the most; what is lost of it does not add up.
            assert!(away < 1e-4, "{codec:?}: {away}");
        }
    }

    #[test]
    fn differences_are_sent_only_while_they_are_shorter_than_the_whole() {
        let mut broadcast = Broadcast::new(Codec::Int8, stamp(0), &model(0));
        for version in 1..10 {
            broadcast.publish(stamp(version), &model(version));
        }
        let whole = broadcast.encode(None, &model(9)).len();
        for (stored, is_whole) in [(8, false), (7, false), (6, false), (5, true), (0, true)] {
            let frame = broadcast.encode(Some(stamp(stored)), &model(9));
            assert_eq!(frame.len() == whole, is_whole, "from version {stored}");
            assert!(frame.len() <= whole);
        }
    }

    #[test]
    fn a_frame_is_encoded_once_and_shared() {
        let mut broadcast = Broadcast::new(Codec::Int8, stamp(0), &model(0));
        broadcast.publish(stamp(1), &model(1));
        for stored in [None, Some(stamp(0))] {
            let (first, second) = (broadcast.encode(stored, &model(1)), broadcast.encode(stored, &model(1)));
            assert_eq!(first.as_ptr(), second.as_ptr());
        }
    }
}
