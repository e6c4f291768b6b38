//! The model that every tab holds after each model frame: the same bits for the same version.

use std::collections::BTreeMap;

use bsp::central::ConnectionId;
use bsp::protocol::message::{ModelEncoding, StoreModel};
use bytes::Bytes;

use super::gradients::PARAMETERS;

/// The models as volunteers hold them.
#[derive(Default)]
pub(super) struct Replicas {
    /// By version.
    of_version: BTreeMap<u64, [f32; PARAMETERS]>,
    /// The version that was sent last on a connection.
    of_connection: BTreeMap<ConnectionId, u64>,
    /// Each frame that was sent, by its version and the version that it starts from.
    frames: BTreeMap<(u64, Option<u64>), Bytes>,
    /// How many models were sent as differences, and how many of these over more than one version.
    pub(super) differences: usize,
    pub(super) differences_over_several: usize,
    /// How many were sent whole.
    pub(super) wholes: usize,
}

impl Replicas {
    /// The parameters of a version.
    pub(super) fn of_version(&self, version: u64) -> [f32; PARAMETERS] {
        self.of_version[&version]
    }

    pub(super) fn on_model(&mut self, connection: ConnectionId, model: &StoreModel, frame: &Bytes, payload: &[u8]) {
        let version = model.stamp.version;
        model.check(payload, PARAMETERS).expect("a model that can be read");
        let from = match model.encoding {
            ModelEncoding::Whole => None,
            ModelEncoding::Differences { from, .. } => Some(from),
        };
        let before = match from {
            None => [0.0; PARAMETERS],
            Some(from) => {
                let held = self.of_connection.get(&connection);
                assert_eq!(held, Some(&from), "differences from a version that is not there");
                self.of_version[&from]
            }
        };
        let mut after = before;
        model.store(payload, &before, &mut after);
        assert!(
            after.iter().all(|value| value.is_finite()),
            "a model that is not finite was sent"
        );
        let known = *self.of_version.entry(version).or_insert(after);
        assert_eq!(bits(&known), bits(&after), "version {version} is not the same for all");
        // A frame that was sent before shares its memory, so the pointers can be compared.
        let first = self.frames.entry((version, from)).or_insert_with(|| frame.clone());
        assert_eq!(first.as_ptr(), frame.as_ptr(), "a frame that was encoded a second time");
        self.of_connection.insert(connection, version);
        match from {
            None => self.wholes += 1,
            Some(from) => {
                self.differences += 1;
                self.differences_over_several += usize::from(version > from + 1);
            }
        }
    }
}

pub(super) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
