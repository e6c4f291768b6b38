//! What a tab's page and its BSP worker tell each other. The page's types are made of these; see `web/types.d.ts`.

use std::borrow::Cow;

use bsp::local::Return;
use serde::{Deserialize, Serialize};

use crate::progress::Progress;

/// What a volunteer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "BspState"))]
pub enum State {
    /// It fetches the run's description, or waits for its first session.
    Connecting,
    /// Its ML modules compute, and their gradients are read out.
    Training,
    /// Its ML modules sleep at the volunteer's wish.
    Paused,
    /// The link is lost; its ML modules go on.
    Reconnecting,
    /// The same, and the server has said that it will be back.
    BackSoon,
    /// The server has no room for it at present. It keeps its session, its ML modules go on, and it comes again.
    NoRoom,
    /// The link is lost, and its ML modules sleep, because no more can be kept of what they compute.
    Waiting,
    /// There is a link. Its ML modules sleep, because the server has not stored what it got: that must be kept.
    NotStored,
    /// The server does not accept it, and another try would change nothing.
    Refused,
    /// It starts afresh after a wait, with new memory and a new session.
    Restarting,
    /// An error has ended it.
    Failed,
    /// The run has reached its end.
    Finished,
    /// It has left, at its own wish.
    Left,
}

impl State {
    /// The word for it, as it is serialized.
    pub const fn word(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Training => "training",
            State::Paused => "paused",
            State::Reconnecting => "reconnecting",
            State::BackSoon => "back-soon",
            State::NoRoom => "no-room",
            State::Waiting => "waiting",
            State::NotStored => "not-stored",
            State::Refused => "refused",
            State::Restarting => "restarting",
            State::Failed => "failed",
            State::Finished => "finished",
            State::Left => "left",
        }
    }

    /// Whether nothing follows it in this start: what is finished is sent, as far as it could be.
    pub const fn is_end(self) -> bool {
        match self {
            State::Refused | State::Restarting | State::Failed | State::Finished | State::Left => true,
            State::Connecting
            | State::Training
            | State::Paused
            | State::Reconnecting
            | State::BackSoon
            | State::NoRoom
            | State::Waiting
            | State::NotStored => false,
        }
    }
}

/// A state, and what there is to say of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Told {
    /// The state.
    pub state: State,
    /// Why, in words; may be empty.
    pub detail: Cow<'static, str>,
    /// For `restarting`: in how many milliseconds.
    pub delay_ms: u32,
    /// For `restarting`: how many starts in a row have contributed nothing. The next start is told so.
    pub vain_starts: u32,
    /// For `training`, `paused` and `not-stored`, soon after an absence: how long it was away; otherwise 0.
    pub away_seconds: u32,
    /// Samples that were finished by then, and had not reached the server.
    pub kept_samples: u32,
    /// How many of them the server has accepted, once all are sent.
    pub accepted_samples: u32,
    /// Whether all of them are sent and acknowledged.
    pub are_sent: bool,
    /// For `restarting`: samples of this start that the server has said are accepted. After an ML module's death
    /// nothing else can say so.
    pub accepted: u64,
}

impl Told {
    /// It is in this state, after an absence.
    pub(crate) fn after(state: State, returned: &Return) -> Told {
        let saturating = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let accepted = if returned.is_settled {
            returned.accepted_samples
        } else {
            0
        };
        Told {
            away_seconds: saturating(returned.away.as_secs()),
            kept_samples: saturating(returned.kept_samples),
            accepted_samples: saturating(accepted),
            are_sent: returned.is_settled,
            ..state.into()
        }
    }
}

impl From<State> for Told {
    fn from(state: State) -> Told {
        Told {
            state,
            detail: Cow::Borrowed(""),
            delay_ms: 0,
            vain_starts: 0,
            away_seconds: 0,
            kept_samples: 0,
            accepted_samples: 0,
            are_sent: false,
            accepted: 0,
        }
    }
}

/// From the BSP worker's module to the page.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum FromBspWorker {
    /// What it is doing.
    State(Told),
    /// Start an ML worker.
    Spawn {
        /// The number of its ML module.
        ml_module: usize,
        /// Where that lies in the shared memory.
        address: usize,
    },
    /// How much this tab has done.
    Progress(Progress),
}

/// From the page to the BSP worker.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub enum ToBspWorker {
    /// Start; comes first.
    Join(Join),
    /// This many ML modules compute.
    Workers {
        /// How many.
        workers: usize,
    },
    /// Each of them computes for this share of its time.
    CpuPercent {
        /// A whole number from 1 to 100.
        cpu_percent: u8,
    },
    /// Rest.
    Pause,
    /// Go on.
    Resume,
    /// The tab may end at any moment: send what is computed.
    Closing,
    /// The browser lets the frozen tab go on. A worker may sleep on until something is said to it.
    Thawed,
    /// Send what is computed, and end.
    Leave,
    /// An ML worker raised an error event, and was terminated.
    Died {
        /// The number of its ML module.
        ml_module: usize,
        /// What the event said.
        message: String,
    },
}

/// With what a tab starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS))]
pub struct Join {
    /// How many ML modules compute.
    pub workers: usize,
    /// How many there can be at the most.
    pub capacity: usize,
    /// For how much of its time each of them computes, a whole number from 1 to 100.
    pub cpu_percent: u8,
    /// Whether none of them computes yet.
    pub is_paused: bool,
    /// How many starts before this one, in a row, have contributed nothing.
    pub vain_starts: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_told_by_the_word_that_it_is_serialized_as() {
        for state in [
            State::Connecting,
            State::Training,
            State::Paused,
            State::Reconnecting,
            State::BackSoon,
            State::NoRoom,
            State::Waiting,
            State::NotStored,
            State::Refused,
            State::Restarting,
            State::Failed,
            State::Finished,
            State::Left,
        ] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }

    #[test]
    fn a_message_carries_its_type_beside_its_content() {
        let told = Told::from(State::Training);
        assert_eq!(
            serde_json::to_string(&FromBspWorker::State(told)).unwrap(),
            concat!(
                r#"{"type":"state","state":"training","detail":"","delayMs":0,"vainStarts":0,"#,
                r#""awaySeconds":0,"keptSamples":0,"acceptedSamples":0,"areSent":false,"accepted":0}"#
            )
        );
        assert_eq!(
            serde_json::from_str::<ToBspWorker>(r#"{"type":"cpuPercent","cpuPercent":50}"#).unwrap(),
            ToBspWorker::CpuPercent { cpu_percent: 50 }
        );
    }
}
