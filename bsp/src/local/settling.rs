//! Under local steps: what of this tab's own is in the model that is published to it.
//!
//! ML modules count read-outs by the flips of their shared memory, the central module contributions by their numbers; here one
//! becomes the other. At most one contribution at a time is neither in a model that has arrived nor refused: until then
//! nothing more is read out, and the aggregates keep collecting.

/// The contribution that was read out last.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    sequence: u64,
    read_out: u64,
}

#[derive(Debug, Default)]
pub(super) struct Settling {
    /// What the central module has said of the next model: it settles contributions up to this number.
    pub(super) next_model_settles: u64,
    outstanding: Option<Outstanding>,
    /// Read-outs up to this number are settled.
    settled_read_outs: u64,
}

impl Settling {
    /// A contribution was made of this read-out.
    pub(super) fn on_read_out(&mut self, sequence: u64, read_out: u64) {
        self.outstanding = Some(Outstanding { sequence, read_out });
    }

    /// Whether the last contribution is neither in a model that has arrived nor refused.
    pub(super) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// This contribution was refused: no model will hold it.
    pub(super) fn on_refused(&mut self, sequence: u64) {
        self.settle(sequence);
    }

    /// The model has arrived; read-outs up to the number that is returned are settled in it.
    pub(super) fn on_model(&mut self) -> u64 {
        self.settle(self.next_model_settles);
        self.settled_read_outs
    }

    fn settle(&mut self, through: u64) {
        if let Some(settled) = self.outstanding.take_if(|of| of.sequence <= through) {
            self.settled_read_outs = settled.read_out;
        }
    }
}
