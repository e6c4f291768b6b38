//! Incarnations and versions only grow: versions by one with each superstep of an incarnation.

use bsp::central::{Checkpoint, ClosedSuperstep};
use bsp::protocol::message::StoreModel;
use bsp::shared_memory::ModelStamp;

use super::invariants::{Checks, Invariant};

/// The versions of the run.
#[derive(Default)]
pub(super) struct Versions {
    current: ModelStamp,
    /// The newest model of each tab.
    of_tabs: Vec<ModelStamp>,
}

impl Versions {
    pub(super) fn on_server_started(&mut self, checks: &mut Checks, incarnation: u32, checkpoint: Option<&Checkpoint>) {
        let before = self.current.incarnation;
        checks.require(Invariant::Versions, incarnation > before, || {
            format!("incarnation {incarnation} after {before}")
        });
        let version = checkpoint.map_or(0, |checkpoint| checkpoint.trainer.version);
        self.current = ModelStamp { incarnation, version };
    }

    pub(super) fn on_superstep(&mut self, checks: &mut Checks, closed: &ClosedSuperstep) {
        checks.require_eq(Invariant::Versions, closed.version, self.current.version + 1, || {
            "the version after a superstep".to_owned()
        });
        self.current.version = closed.version;
    }

    pub(super) fn on_model_at_tab(&mut self, checks: &mut Checks, tab: usize, model: &StoreModel) {
        if self.of_tabs.len() <= tab {
            self.of_tabs.resize(tab + 1, ModelStamp::default());
        }
        let (before, after) = (self.of_tabs[tab], model.stamp);
        let order = |stamp: ModelStamp| (stamp.incarnation, stamp.version);
        checks.require(Invariant::Versions, order(after) >= order(before), || {
            format!("volunteer {} had {before:?} and is sent {after:?}", tab + 1)
        });
        self.of_tabs[tab] = after;
    }
}
