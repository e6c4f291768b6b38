//! Checkpoints are written on a thread of their own, so that the controller never waits for a disk.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use bsp::central::Checkpoint;
use state::{Best, DiskError, Folder, RunState, WentBack, Written};

use crate::controller::{ControllerHandle, Event};

/// Jobs that may wait: the controller has one checkpoint written at a time, and a few best models may be beside it.
const QUEUE: usize = 4;

/// What is to be written.
enum Job {
    /// A checkpoint, with the last evaluation's accuracy, and how the run stands.
    Checkpoint(Box<Checkpoint>, Option<f64>, RunState),
    /// The best evaluated model.
    Best(Best),
    /// How the run stands, where no checkpoint says it.
    State(Option<f64>, RunState),
    /// Go back to the best checkpoint that is kept.
    GoBack,
}

/// The controller's end of the thread.
pub(crate) struct CheckpointWriter {
    jobs: SyncSender<Job>,
}

/// A thread that is not at work yet.
pub(crate) struct IdleWriter(Receiver<Job>);

/// The outcome of a checkpoint's writing.
pub(crate) struct Outcome {
    /// Its number.
    pub(crate) number: u64,
    /// What was written, or why not.
    pub(crate) written: Result<Written, DiskError>,
}

impl CheckpointWriter {
    /// A writer, and the thread that [`IdleWriter::start`] sets to work.
    pub(crate) fn new() -> (CheckpointWriter, IdleWriter) {
        let (jobs, inbox) = sync_channel(QUEUE);
        (CheckpointWriter { jobs }, IdleWriter(inbox))
    }

    /// Hands a checkpoint over. Its outcome comes as [`Event::CheckpointWritten`]. Returns whether it was taken.
    pub(crate) fn write(&self, checkpoint: Box<Checkpoint>, accuracy: Option<f64>, state: RunState) -> bool {
        self.jobs.try_send(Job::Checkpoint(checkpoint, accuracy, state)).is_ok()
    }

    /// Notes how the run stands without a checkpoint, for who lists runs.
    pub(crate) fn note_state(&self, accuracy: Option<f64>, state: RunState) {
        if self.jobs.try_send(Job::State(accuracy, state)).is_err() {
            tracing::warn!("the disk is slow: it is not noted that the run has ended");
        }
    }

    /// Asks for the best checkpoint that is kept, and another incarnation to go on from there. The answer comes as
    /// [`Event::WentBack`]. Returns whether it was asked.
    pub(crate) fn go_back(&self) -> bool {
        self.jobs.try_send(Job::GoBack).is_ok()
    }

    /// Hands the best model over. While the disk is so slow that others wait, it is left out.
    pub(crate) fn keep_best(&self, best: Best) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::Best(best)) {
            tracing::warn!("the disk is slow: a best model was not kept; the next one will be");
        }
    }
}

impl IdleWriter {
    /// Writes what is handed over into `folder`, until the controller ends.
    pub(crate) fn start(self, mut folder: Folder, controller: ControllerHandle) -> std::io::Result<()> {
        let body = move || {
            for job in self.0 {
                match job {
                    Job::Checkpoint(checkpoint, accuracy, state) => {
                        let number = checkpoint.number;
                        let written = folder.write(&checkpoint, accuracy, state);
                        drop(checkpoint);
                        let outcome = Outcome { number, written };
                        let lost = outcome.written.is_err().then(|| folder.lost()).flatten();
                        if controller.tell_blocking(Event::CheckpointWritten(outcome)).is_err() {
                            return;
                        }
                        if let Some(line) = lost {
                            tracing::error!("{}: {line}", folder.path().display());
                            let _ = controller.tell_blocking(Event::Stop);
                        }
                    }
                    Job::State(accuracy, state) => {
                        if let Err(error) = folder.set_state(accuracy, state) {
                            tracing::warn!("how the run stands can't be noted: {error}");
                        }
                    }
                    Job::GoBack => {
                        let went: Result<WentBack, DiskError> = folder.go_back();
                        if controller.tell_blocking(Event::WentBack(Box::new(went))).is_err() {
                            return;
                        }
                    }
                    Job::Best(best) => {
                        if let Err(error) = folder.keep_best(&best) {
                            tracing::warn!("the best model can't be kept: {error}");
                        }
                    }
                }
            }
        };
        thread::Builder::new().name("checkpoints".to_owned()).spawn(body)?;
        Ok(())
    }
}
