//! What a local BSP module must know from the start.

use crate::protocol::codec::Codec;
use crate::protocol::message::{Contribution, Hello, Mode, PROTOCOL, Report, RunId, SessionId, Token};
use crate::shared_memory::ModelStamp;

/// What a local BSP module must know from the start.
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
    /// The seed of the jitter of reconnecting: different in each tab.
    pub jitter_seed: u64,
}

impl Config {
    /// The hello of a volunteer that has published the model `published`, if any.
    pub(super) fn hello(
        &self,
        published: Option<ModelStamp>,
        session: Option<(SessionId, Token)>,
        report: Report,
    ) -> Hello {
        Hello {
            protocol: PROTOCOL,
            run: self.run,
            spec_hash: self.spec_hash,
            incarnation: published.map(|stamp| stamp.incarnation),
            session,
            codecs: Codec::ALL.to_vec(),
            report,
        }
    }

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
