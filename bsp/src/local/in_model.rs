//! Under local steps: which of this tab's contributions are in the model that is published to it.
//!
//! ML modules count read-outs by the flips of their shared memory. The central module counts contributions by their
//! numbers. This file translates. At most one contribution at a time is neither in a model that has arrived nor
//! refused. Until it is, nothing more is read out, and the aggregates keep collecting.

/// The contribution that was read out last.
#[derive(Clone, Copy, Debug)]
struct Outstanding {
    sequence: u64,
    read_out: u64,
}

/// How far the tab's own displacements are settled in its model.
#[derive(Debug, Default)]
pub(super) struct InModel {
    /// The next model settles contributions up to this number, as the central module has announced.
    next_model_settles: u64,
    outstanding: Option<Outstanding>,
    /// Read-outs up to this number are settled.
    settled_read_outs: u64,
}

impl InModel {
    /// A contribution was made of this read-out.
    pub(super) fn on_read_out(&mut self, sequence: u64, read_out: u64) {
        self.outstanding = Some(Outstanding { sequence, read_out });
    }

    /// The next model settles contributions up to this number.
    pub(super) fn on_next_model_settles(&mut self, through: u64) {
        self.next_model_settles = through;
    }

    /// Whether the last contribution is neither in a model that has arrived nor refused.
    pub(super) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// This contribution was refused: no model will hold it. If it was outstanding, returns the number up to which
    /// read-outs are settled now.
    pub(super) fn on_refused(&mut self, sequence: u64) -> Option<u64> {
        self.settle(sequence).then_some(self.settled_read_outs)
    }

    /// The model has arrived. Returns the number up to which read-outs are settled in it.
    pub(super) fn on_model(&mut self) -> u64 {
        self.settle(self.next_model_settles);
        self.settled_read_outs
    }

    fn settle(&mut self, through: u64) -> bool {
        let settled = self.outstanding.take_if(|last| last.sequence <= through);
        if let Some(Outstanding { read_out, .. }) = settled {
            self.settled_read_outs = read_out;
        }
        settled.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Contribution 3 was made of read-out 5: read-outs that held nothing count, too.
    fn after_a_read_out() -> InModel {
        let mut in_model = InModel::default();
        in_model.on_read_out(3, 5);
        in_model
    }

    #[test]
    fn a_contribution_is_outstanding_until_a_model_that_settles_it_has_arrived() {
        let mut in_model = after_a_read_out();
        in_model.next_model_settles = 2;
        assert_eq!(in_model.on_model(), 0, "a model of the others alone");
        assert!(in_model.is_outstanding());
        in_model.next_model_settles = 3;
        assert!(in_model.is_outstanding(), "the model has not arrived yet");
        assert_eq!(in_model.on_model(), 5);
        assert!(!in_model.is_outstanding());
        assert_eq!(in_model.on_model(), 5, "for ever");
    }

    #[test]
    fn a_contribution_that_was_refused_is_settled_at_once_and_only_once() {
        let mut in_model = after_a_read_out();
        assert_eq!(in_model.on_refused(2), None, "that was another one");
        assert!(in_model.is_outstanding());
        assert_eq!(in_model.on_refused(3), Some(5));
        assert!(!in_model.is_outstanding());
        assert_eq!(in_model.on_refused(3), None);
        in_model.on_read_out(4, 6);
        assert_eq!(in_model.on_model(), 5, "the next one is not in a model yet");
        assert!(in_model.is_outstanding());
    }
}
