//! The settings of a local BSP module.

use crate::protocol::codec::Codec;
use crate::protocol::message::{Contribution, Mode, Report, RunId, SessionId};

/// The settings of a local BSP module, which never change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The run to join.
    pub run: RunId,
    /// The hash of its model spec.
    pub spec_hash: u64,
    /// Decoupled, or one of the baselines.
    pub mode: Mode,
    /// Whether ML modules also move along their own gradients.
    pub has_local_steps: bool,
    /// A contribution of more gradients than this weighs no more. While nothing can be sent, ML modules compute until
    /// as many as can be kept are full, and then sleep.
    pub max_read_out_gradients: u64,
    /// The seed of the jitter of reconnecting: different in each tab.
    pub jitter_seed: u64,
}

impl Config {
    /// The header of a contribution that holds nothing yet.
    pub(super) fn blank_header(&self) -> Contribution {
        Contribution {
            run: self.run,
            spec_hash: self.spec_hash,
            incarnation: 0,
            session: SessionId(0),
            sequence: 0,
            samples: 0,
            gradients: 0,
            loss_sum: 0.0,
            version_sum: 0,
            step_sum: 0,
            codec: Codec::F32,
            step_runs: Vec::new(),
            step_runs_not_listed: 0,
            report: Report::default(),
        }
    }
}
