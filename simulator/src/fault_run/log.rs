//! The log of a run: crashes, starts, checkpoints, and faults of disks, links and volunteers, in order.

use bsp::time::Time;
use serde::Serialize;

/// A run of any seed has far fewer; a run that has more keeps the first.
const MOST_ENTRIES: usize = 10_000;

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedSubject"))]
pub enum Subject {
    /// The server's process or its machine ends.
    Crash,
    /// The server: a start, a stop, a freeze, its clock.
    Server,
    /// A checkpoint.
    Checkpoint,
    /// A fault of the server's disk.
    Disk,
    /// A fault of a volunteer's link.
    Link,
    /// A volunteer: it comes, goes, freezes, pauses, dies.
    Volunteer,
}

/// An entry.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "typescript", derive(ts_rs::TS), ts(rename = "SimulatedEvent"))]
pub struct Entry {
    /// Virtual time since the run's beginning.
    pub seconds: f64,
    /// What it is about.
    pub subject: Subject,
    /// The number of the volunteer, from 0, if it is about one.
    pub volunteer: Option<usize>,
    /// What happened, as a sentence.
    pub text: String,
}

/// All entries.
#[derive(Clone, Debug, Default)]
pub struct Log {
    entries: Vec<Entry>,
}

impl Log {
    /// Adds an entry.
    pub(super) fn add(&mut self, at: Time, subject: Subject, volunteer: Option<usize>, text: impl Into<String>) {
        if self.entries.len() < MOST_ENTRIES {
            self.entries.push(Entry {
                seconds: at.as_micros() as f64 / 1e6,
                subject,
                volunteer,
                text: text.into(),
            });
        }
    }

    /// The entries, the first first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}
