//! The models that are sent to one volunteer: at most one is on its way.

use std::time::Duration;

use crate::shared_memory::ModelStamp;
use crate::time::Time;

/// The model that a volunteer has, the model on its way, and when the next may follow.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// The model that was sent and has not been reported as stored, and when it was sent.
    on_its_way: Option<(ModelStamp, Time)>,
    /// The last model that it reported as stored, on this connection.
    stored: Option<ModelStamp>,
    /// The next model is to be sent as soon as it may.
    is_asked_for: bool,
    /// The link rests until then.
    next_at: Time,
}

impl Delivery {
    /// The last model that it reported as stored, on this connection.
    pub(super) fn stored(&self) -> Option<ModelStamp> {
        self.stored
    }

    /// Its link rests until this time.
    pub(super) fn next_at(&self) -> Time {
        self.next_at
    }

    /// The next model is to be sent.
    pub(super) fn ask(&mut self) {
        self.is_asked_for = true;
    }

    /// Whether this model is to be sent to it: it asks for one, and neither has this one nor one on its way.
    pub(super) fn wants(&self, current: ModelStamp) -> bool {
        self.is_waiting() && self.stored != Some(current)
    }

    /// Whether a model other than the stored one is to be sent: it asks for one, and none is on its way.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_asked_for && self.on_its_way.is_none()
    }

    /// The volunteer has a new connection. What was on its way by the old one is lost, and so is what is known of it.
    pub(super) fn on_connected(&mut self) {
        *self = Delivery {
            is_asked_for: self.is_asked_for,
            ..Delivery::default()
        };
    }

    /// A model is sent. The link rests for `rest` before the next.
    pub(super) fn on_sent(&mut self, now: Time, stamp: ModelStamp, rest: Duration) {
        self.on_its_way = Some((stamp, now));
        self.is_asked_for = false;
        self.next_at = now + rest;
    }

    /// A model is reported as stored. Returns when it was sent, if it was on its way.
    pub(super) fn on_stored(&mut self, stamp: ModelStamp) -> Option<Time> {
        let (_, sent_at) = self.on_its_way.take_if(|(sent, _)| *sent == stamp)?;
        self.stored = Some(stamp);
        Some(sent_at)
    }
}
