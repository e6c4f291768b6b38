//! Checkpoints are written on a thread of their own, so that the controller never waits for a disk.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Instant;

use bsp::central::Checkpoint;
use state::folder::Written;
use state::{Best, DiskError, Folder, RunState};

use crate::controller::{ControllerHandle, Event};
use crate::stopping::Stopping;

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
    /// Go back to the best checkpoint that is kept; this says where that leads.
    GoBack(GoBack),
}

/// Where a run that has diverged goes on: at the best checkpoint that is kept, or without one at its beginning, as this
/// incarnation.
pub(crate) type GoBack = Box<dyn FnOnce(Option<Checkpoint>, u32) -> Checkpoint + Send>;

/// The controller's end of the thread.
pub(crate) struct CheckpointWriter {
    /// None once it was closed.
    jobs: Option<SyncSender<Job>>,
    /// Ends when the thread does.
    end: Receiver<()>,
}

/// A thread that is not at work yet.
pub(crate) struct IdleWriter {
    jobs: Receiver<Job>,
    ended: SyncSender<()>,
}

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
        let (ended, end) = sync_channel(1);
        let writer = CheckpointWriter { jobs: Some(jobs), end };
        (writer, IdleWriter { jobs: inbox, ended })
    }

    fn hand_over(&self, job: Job) -> Result<(), TrySendError<Job>> {
        match &self.jobs {
            Some(jobs) => jobs.try_send(job),
            None => Err(TrySendError::Disconnected(job)),
        }
    }

    /// Nothing more comes: waits until all is written and the run's folder is free for another server, at most until
    /// `until`. Returns whether it is.
    pub(crate) fn close(&mut self, until: Instant) -> bool {
        self.jobs = None;
        let left = until.saturating_duration_since(Instant::now());
        self.end.recv_timeout(left) == Err(RecvTimeoutError::Disconnected)
    }

    /// Hands a checkpoint over. Its outcome comes as [`Event::CheckpointWritten`]. Returns whether it was taken.
    pub(crate) fn write(&self, checkpoint: Box<Checkpoint>, accuracy: Option<f64>, state: RunState) -> bool {
        self.hand_over(Job::Checkpoint(checkpoint, accuracy, state)).is_ok()
    }

    /// Notes how the run stands without a checkpoint, for who lists runs.
    pub(crate) fn note_state(&self, accuracy: Option<f64>, state: RunState) {
        if self.hand_over(Job::State(accuracy, state)).is_err() {
            tracing::warn!("the disk is slow: it is not noted that the run has ended");
        }
    }

    /// Asks for the best checkpoint that is kept, and has the one written that `go_back` makes of it, as another
    /// incarnation: once that is durable, it comes as [`Event::WentBack`]. Returns whether it was asked.
    pub(crate) fn go_back(&self, go_back: GoBack) -> bool {
        self.hand_over(Job::GoBack(go_back)).is_ok()
    }

    /// Hands the best model over. While the disk is so slow that others wait, it is left out.
    pub(crate) fn keep_best(&self, best: Best) {
        if let Err(TrySendError::Full(_)) = self.hand_over(Job::Best(best)) {
            tracing::warn!("the disk is slow: a best model was not kept; the next one will be");
        }
    }
}

impl IdleWriter {
    /// Writes what is handed over into `folder`, until the controller closes the writer or is gone.
    pub(crate) fn start(self, mut folder: Folder, controller: ControllerHandle) -> std::io::Result<()> {
        let IdleWriter { jobs, ended } = self;
        let body = move || {
            // The controller's end is the end of the jobs; before that it is told of each outcome.
            for job in jobs {
                do_job(&mut folder, &controller, job);
            }
            // Another server may own the run before this process ends.
            drop(folder);
            drop(ended);
        };
        thread::Builder::new().name("checkpoints".to_owned()).spawn(body)?;
        Ok(())
    }
}

fn do_job(folder: &mut Folder, controller: &ControllerHandle, job: Job) {
    match job {
        Job::Checkpoint(checkpoint, accuracy, state) => {
            let number = checkpoint.number;
            let written = folder.write(&checkpoint, accuracy, state);
            drop(checkpoint);
            let lost = written.is_err().then(|| folder.lost()).flatten();
            // Without a controller nobody waits for the outcome.
            let _ = controller.tell_blocking(Event::CheckpointWritten(Outcome { number, written }));
            if let Some(line) = lost {
                tracing::error!("{}: {line}", folder.path().display());
                let _ = controller.tell_blocking(Event::Stop(Stopping::now()));
            }
        }
        Job::State(accuracy, state) => {
            if let Err(error) = folder.set_state(accuracy, state) {
                tracing::warn!("how the run stands can't be noted: {error}");
            }
        }
        Job::GoBack(where_to) => {
            let went = go_back(folder, where_to);
            let _ = controller.tell_blocking(Event::WentBack(Box::new(went)));
        }
        Job::Best(best) => {
            if let Err(error) = folder.keep_best(&best) {
                tracing::warn!("the best model can't be kept: {error}");
            }
        }
    }
}

/// Goes back, and returns where the run goes on. That is durable: a restart goes on from there, too.
fn go_back(folder: &mut Folder, where_to: GoBack) -> Result<Checkpoint, DiskError> {
    let best = folder.best_checkpoint()?;
    let incarnation = folder.raise_incarnation()?;
    let checkpoint = where_to(best, incarnation);
    folder.write(&checkpoint, None, RunState::Training)?;
    Ok(checkpoint)
}
