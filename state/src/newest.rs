//! `newest.json`: the run's incarnation, its newest checkpoint, and how far it has come.

use bsp::central::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::snapshot::Snapshot;

/// Its name.
pub const FILE: &str = "newest.json";
const FORMAT: u32 = 1;

/// How a run stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It trains, or a crash ended it.
    #[default]
    Training,
    /// It has reached its aim.
    Finished,
    /// Its model has diverged.
    Diverged,
    /// Its operator has stopped it.
    Stopped,
}

/// What `newest.json` holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Newest {
    format: u32,
    /// The last incarnation that was begun.
    pub incarnation: u32,
    /// The file of the newest checkpoint; none before the first.
    pub checkpoint: Option<String>,
    /// Accepted samples in it.
    pub samples: u64,
    /// The version of its model.
    pub version: u64,
    /// The last evaluation's share of right answers.
    pub accuracy: Option<f64>,
    /// How the run stands.
    pub state: RunState,
    /// When this was written, in milliseconds since 1970.
    pub written_at_ms: u64,
    /// Checkpoints that could not be read. They stay where they are and are not asked again.
    #[serde(default)]
    pub damaged: Vec<String>,
}

impl Newest {
    /// Of a run without a checkpoint.
    pub fn new(incarnation: u32, written_at_ms: u64) -> Newest {
        Newest {
            format: FORMAT,
            incarnation,
            checkpoint: None,
            samples: 0,
            version: 0,
            accuracy: None,
            state: RunState::default(),
            written_at_ms,
            damaged: Vec::new(),
        }
    }

    /// Points to this checkpoint.
    pub fn point_to(&mut self, checkpoint: &Checkpoint) {
        self.checkpoint = Some(Snapshot::of(checkpoint).checkpoint_file());
        self.samples = checkpoint.totals.samples;
        self.version = checkpoint.trainer.version;
    }

    /// The checkpoint that it points to.
    pub fn snapshot(&self) -> Option<Snapshot> {
        Snapshot::of_checkpoint_file(self.checkpoint.as_deref()?)
    }

    /// The file's content.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).unwrap_or_default();
        json.push(b'\n');
        json
    }

    /// Reads the file's content; none where it is damaged or of a later format.
    pub fn from_json(json: &[u8]) -> Option<Newest> {
        let newest: Newest = serde_json::from_slice(json).ok()?;
        (newest.format == FORMAT).then_some(newest)
    }
}
