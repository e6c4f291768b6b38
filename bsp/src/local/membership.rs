//! The membership of a tab in a run: the run that it joins, and its session there.

use super::config::Config;
use crate::protocol::codec::Codec;
use crate::protocol::message::{Hello, PROTOCOL, Report, SessionId, Token};
use crate::shared_memory::ModelStamp;

/// The membership of a tab in a run.
#[derive(Debug)]
pub(super) struct Membership {
    config: Config,
    /// The session and its proof, once there is one.
    session: Option<(SessionId, Token)>,
}

impl Membership {
    /// A membership without a session yet.
    pub(super) fn new(config: Config) -> Membership {
        Membership { config, session: None }
    }

    /// The session, once there is one.
    pub(super) fn session(&self) -> Option<SessionId> {
        self.session.map(|(id, _)| id)
    }

    /// A contribution of more gradients than this weighs no more.
    pub(super) fn max_read_out_gradients(&self) -> u64 {
        self.config.max_read_out_gradients
    }

    /// Whether ML modules also move along their own gradients.
    pub(super) fn has_local_steps(&self) -> bool {
        self.config.has_local_steps
    }

    /// A welcome names this session. Returns whether it is the first.
    pub(super) fn on_welcomed(&mut self, session: SessionId, token: Token) -> bool {
        self.session.replace((session, token)).is_none()
    }

    /// The hello of a volunteer that has published the model `published`, if any, and has forgotten contributions up to
    /// `durable`.
    pub(super) fn hello(&self, published: Option<ModelStamp>, durable: u64, report: Report) -> Hello {
        Hello {
            protocol: PROTOCOL,
            run: self.config.run,
            spec_hash: self.config.spec_hash,
            incarnation: published.map(|stamp| stamp.incarnation),
            session: self.session,
            durable,
            codecs: Codec::ALL.to_vec(),
            report,
        }
    }
}
