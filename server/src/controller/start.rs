//! How a controller begins, and what is left of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bsp::central::Central;
use bsp::time::Time;
use run::Run;
use run::goal::Goal;
use state::Change;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::connections::Connections;
use super::evaluations::Evaluations;
use super::keeping::Keeping;
use super::{Controller, ControllerHandle, QUEUE};
use crate::checkpoint_writer::CheckpointWriter;
use crate::divergence::GradientChecker;
use crate::history::{EvaluatedModel, EventKind, History};
use crate::ledger_writer::LedgerWriter;
use crate::refusals::Refusals;
use crate::run_state::GoingBack;
use crate::stopping::{Stage, Stopping};
use crate::traffic::Traffic;

/// What a controller begins with.
pub(crate) struct Start {
    pub(crate) run: Run,
    pub(crate) central: Central,
    pub(crate) began: Instant,
    /// The aim with which the run ends.
    pub(crate) stop_at: Option<Goal>,
    pub(crate) history: History,
    /// Whether the best evaluated model is kept.
    pub(crate) keeps_best: bool,
    /// That model, if there is one.
    pub(crate) best: Option<EvaluatedModel>,
    /// What happens after a divergence, if not a stop.
    pub(crate) going_back: Option<GoingBack>,
    pub(crate) ledger: LedgerWriter,
    pub(crate) writer: CheckpointWriter,
    /// Keys of the run file that were changed since the run was last served.
    pub(crate) changes: Vec<Change>,
}

/// Starts the controller on a thread of its own. It ends when it is told to stop, or when an evaluation reaches
/// `stop_at`.
pub(crate) fn start(runtime: Handle, start: Start) -> std::io::Result<(ControllerHandle, oneshot::Receiver<Ended>)> {
    let Start {
        central, mut history, ..
    } = start;
    let (events, inbox) = mpsc::channel(QUEUE);
    let (ended, end) = oneshot::channel();
    let traffic = Arc::new(Traffic::default());
    history.begin(Time::ZERO, central.stamp(), central.totals().samples_in_model);
    for change in &start.changes {
        history.push_event(Time::ZERO, EventKind::Settings, None, change.to_string());
    }
    let controller = Controller {
        central,
        began: start.began,
        connections: Connections::default(),
        history,
        traffic: Arc::clone(&traffic),
        gradient_checker: GradientChecker::new(start.run, events.downgrade()),
        refusals: Refusals::default(),
        evaluations: Evaluations::new(start.stop_at, start.best),
        keeping: Keeping::new(start.writer, start.ledger, start.keeps_best),
        going_back: start.going_back,
        is_going_back: false,
        is_closing: false,
        actions: Vec::new(),
    };
    std::thread::Builder::new()
        .name("controller".to_owned())
        .spawn(move || {
            let (mut controller, stopping) = controller.run(&runtime, inbox);
            let elapsed = controller.began.elapsed();
            controller.history.flush(stopping.left_for(Stage::Closing));
            controller.keeping.close(stopping);
            // Nobody waits for the end of a server that was not fully started.
            let _ = ended.send(Ended {
                controller,
                elapsed,
                stopping,
            });
        })?;
    Ok((ControllerHandle::new(events, traffic), end))
}

/// A run that has ended: its controller, and how long the run took.
pub(crate) struct Ended {
    pub(crate) controller: Controller,
    pub(crate) elapsed: Duration,
    pub(crate) stopping: Stopping,
}
