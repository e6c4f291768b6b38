//! What a tab's page and its BSP worker tell each other. The page's types are made of these; see `web/types.d.ts`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::progress::Progress;

/// What a volunteer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
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
    /// The server does not accept it, and another try would change nothing.
    Refused,
    /// It starts afresh after a wait, with new memory and a new session.
    Restarting,
    /// An error has ended it.
    Failed,
    /// The run has reached its end.
    Finished,
}

impl State {
    /// The word for it, as it is serialized.
    pub const fn word(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Training => "training",
            State::Paused => "paused",
            State::Reconnecting => "reconnecting",
            State::Refused => "refused",
            State::Restarting => "restarting",
            State::Failed => "failed",
            State::Finished => "finished",
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
}

impl From<State> for Told {
    fn from(state: State) -> Told {
        Told {
            state,
            detail: Cow::Borrowed(""),
            delay_ms: 0,
            vain_starts: 0,
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
            State::Refused,
            State::Restarting,
            State::Failed,
            State::Finished,
        ] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }

    #[test]
    fn a_message_carries_its_type_beside_its_content() {
        let told = Told::from(State::Training);
        assert_eq!(
            serde_json::to_string(&FromBspWorker::State(told)).unwrap(),
            r#"{"type":"state","state":"training","detail":"","delayMs":0,"vainStarts":0}"#
        );
        assert_eq!(
            serde_json::from_str::<ToBspWorker>(r#"{"type":"cpuPercent","cpuPercent":50}"#).unwrap(),
            ToBspWorker::CpuPercent { cpu_percent: 50 }
        );
    }
}
