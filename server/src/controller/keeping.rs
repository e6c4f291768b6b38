//! What the controller hands to disks: checkpoints, the ledger, the best model. It waits for none of them.

use bsp::central::{Awaited, Checkpoint};
use bsp::time::Time;
use state::{Best, DiskError, RunState, Snapshot};

use crate::checkpoint_writer::{CheckpointWriter, GoBack, Outcome};
use crate::history::EvaluatedModel;
use crate::ledger_writer::LedgerWriter;
use crate::stopping::{Stage, Stopping};

/// The checkpoints of this server.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Checkpoints {
    /// How many were written.
    pub(crate) written: u64,
    /// When the last one was.
    pub(crate) last_at: Option<Time>,
    /// How long that took.
    pub(crate) seconds: f64,
    /// Its bytes.
    pub(crate) bytes: u64,
    /// Whether the last attempt failed.
    pub(crate) is_failing: bool,
}

/// The threads that write, and what came of that.
pub(super) struct Keeping {
    writer: CheckpointWriter,
    ledger: LedgerWriter,
    keeps_best: bool,
    checkpoints: Checkpoints,
}

/// News of checkpoints, as the history has it: a line for each that was written, for the first of several that failed,
/// and none for the others.
pub(super) type News = Option<String>;

impl Keeping {
    pub(super) fn new(writer: CheckpointWriter, ledger: LedgerWriter, keeps_best: bool) -> Keeping {
        Keeping {
            writer,
            ledger,
            keeps_best,
            checkpoints: Checkpoints::default(),
        }
    }

    /// The checkpoints of this server.
    pub(super) fn checkpoints(&self) -> Checkpoints {
        self.checkpoints
    }

    /// A contribution was accepted that no checkpoint holds.
    pub(super) fn note_accepted(&mut self, contribution: Awaited) {
        self.ledger.note(contribution);
    }

    /// A checkpoint was made. What is accepted from here on is noted behind it.
    ///
    /// # Errors
    /// It can't be handed over; the news of that.
    pub(super) fn write(
        &mut self,
        checkpoint: Box<Checkpoint>,
        accuracy: Option<f64>,
        state: RunState,
    ) -> Result<(), News> {
        self.ledger.rotate(Snapshot::of(&checkpoint));
        match self.writer.write(checkpoint, accuracy, state) {
            true => Ok(()),
            false => Err(self.on_failed("the disk is still busy with earlier ones", "")),
        }
    }

    /// A checkpoint was written, or could not be.
    pub(super) fn on_outcome(&mut self, now: Time, outcome: &Outcome) -> News {
        let Outcome { number, written } = outcome;
        match written {
            Ok(written) => {
                let (bytes, seconds) = (written.bytes, written.seconds);
                tracing::debug!("checkpoint {number}: {bytes} bytes in {seconds:.3} s");
                for warning in &written.warnings {
                    tracing::warn!("{warning}");
                }
                Some(self.on_written(now, bytes, seconds))
            }
            Err(error) => {
                let follows = "; the run goes on, and volunteers keep what is not durable";
                self.on_failed(&error.to_string(), follows)
            }
        }
    }

    /// The run has gone back: the checkpoint that it goes on from is written.
    pub(super) fn on_gone_back(&mut self, checkpoint: &Checkpoint) {
        self.ledger.rotate(Snapshot::of(checkpoint));
    }

    fn on_written(&mut self, now: Time, bytes: u64, seconds: f64) -> String {
        let again = match self.checkpoints.is_failing {
            true => {
                tracing::info!("checkpoints can be written again");
                ", written again"
            }
            false => "",
        };
        self.checkpoints = Checkpoints {
            written: self.checkpoints.written + 1,
            last_at: Some(now),
            seconds,
            bytes,
            is_failing: false,
        };
        format!("{bytes} bytes{again}")
    }

    /// The first failure of several is said.
    fn on_failed(&mut self, reason: &str, what_follows: &str) -> News {
        let is_first = !std::mem::replace(&mut self.checkpoints.is_failing, true);
        is_first.then(|| {
            tracing::error!("a checkpoint can't be written: {reason}{what_follows}");
            format!("could not be written: {reason}")
        })
    }

    /// Keeps a model beside the checkpoints, if the best one is kept there.
    pub(super) fn keep_as_best(&self, model: &EvaluatedModel) {
        if self.keeps_best {
            self.writer.keep_best(Best {
                version: model.point.version,
                samples: model.point.samples,
                accuracy: model.point.accuracy,
                loss: model.point.loss,
                model: model.parameters.clone(),
            });
        }
    }

    /// Whether the best model is kept.
    pub(super) fn keeps_best(&self) -> bool {
        self.keeps_best
    }

    /// Has the writer go back to an earlier checkpoint. Returns whether it was asked.
    pub(super) fn go_back(&self, where_to: GoBack) -> bool {
        self.writer.go_back(where_to)
    }

    /// Notes how the run stands, where no checkpoint says it.
    pub(super) fn note_state(&self, accuracy: Option<f64>, state: RunState) {
        self.writer.note_state(accuracy, state);
    }

    /// The end: waits for what is written, and for the run to be free for another server, as long as there is time.
    pub(super) fn close(&mut self, stopping: Stopping) {
        let until = stopping.end_of(Stage::Closing);
        let is_noted = self.ledger.close(until);
        if !(self.writer.close(until) && is_noted) {
            tracing::error!(
                "the state's disk does not answer: what it has not taken by now is not durable; volunteers that live \
                 send it again to the next server"
            );
        }
    }
}

/// Where a run goes on that went back.
pub(crate) type WentBack = Result<Checkpoint, DiskError>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use bsp::protocol::message::SessionId;
    use state::folder::Written;
    use state::{Folder, Newest, Options, Wanted};

    use crate::controller::ControllerHandle;

    fn failed() -> Outcome {
        let error = DiskError {
            path: "state/digits".into(),
            doing: state::disk::Doing::Written,
            error: std::io::ErrorKind::StorageFull.into(),
        };
        Outcome {
            number: 1,
            written: Err(error),
        }
    }

    fn written() -> Outcome {
        let written = Written {
            bytes: 512,
            seconds: 0.1,
            warnings: Vec::new(),
        };
        Outcome {
            number: 1,
            written: Ok(written),
        }
    }

    #[test]
    fn a_spell_of_failing_checkpoints_is_told_when_it_begins_and_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let start = Snapshot {
            incarnation: 1,
            number: 0,
        };
        let disk = state::FileSystem::new(folder.path());
        let ledger = state::Ledger::new(Box::new(disk), start);
        let (writer, _idle) = CheckpointWriter::new();
        let mut keeping = Keeping::new(writer, LedgerWriter::start(ledger, start).unwrap(), false);
        let said = [written(), failed(), failed(), failed(), written(), written()]
            .map(|outcome| keeping.on_outcome(Time::ZERO, &outcome).unwrap_or_default());
        assert!(said[1].starts_with("could not be written: state/digits"), "{said:?}");
        assert_eq!(
            [0, 2, 3, 4, 5].map(|number: usize| &said[number][..]),
            ["512 bytes", "", "", "512 bytes, written again", "512 bytes"]
        );
        assert_eq!(
            (keeping.checkpoints().written, keeping.checkpoints().is_failing),
            (3, false)
        );
    }

    #[test]
    fn when_all_is_closed_what_was_handed_over_is_written_and_the_run_is_free() {
        let state = tempfile::tempdir().unwrap();
        let wanted = Wanted {
            run: "digits".to_owned(),
            spec_hash: 1,
            data_hash: 2,
            seed: 3,
            parameters: 4,
            run_file: serde_json::Value::Null,
        };
        let options = Options {
            state: state.path(),
            wanted: &wanted,
            keep: 1,
            is_fresh: false,
            fork: None,
            compare: &|_, _| Vec::new(),
            adapt: &|_| None,
        };
        let opened = Folder::open(&options).unwrap();
        let (events, _inbox) = tokio::sync::mpsc::channel(8);
        let (writer, idle) = CheckpointWriter::new();
        idle.start(opened.folder, ControllerHandle::new(events, Arc::default()))
            .unwrap();
        let start = Snapshot {
            incarnation: 1,
            number: 0,
        };
        let mut keeping = Keeping::new(writer, LedgerWriter::start(opened.ledger, start).unwrap(), false);
        let contribution = Awaited {
            session: SessionId(5),
            sequence: 1,
            samples: 8,
        };
        keeping.note_accepted(contribution);
        for accuracy in [0.25, 0.5, 0.75] {
            keeping.note_state(Some(accuracy), RunState::Stopped);
        }
        keeping.close(Stopping::now());
        let folder = state.path().join("digits");
        let lock = std::fs::File::open(folder.join(state::owner::FILE)).unwrap();
        lock.try_lock().unwrap();
        let newest = Newest::from_json(&std::fs::read(folder.join(state::newest::FILE)).unwrap()).unwrap();
        assert_eq!((newest.state, newest.accuracy), (RunState::Stopped, Some(0.75)));
        drop(lock);
        assert_eq!(Folder::open(&options).unwrap().awaited, [contribution]);
    }
}
