//! `superstep serve`: one run, from its file to its model.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use axum::serve::{ListenerExt, TapIo};
use bsp::protocol::message::{PROTOCOL, RunId};
use bsp::time::Time;
use run::Run;
use run::out_folder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use volunteer::description::{DatasetDescription, RunDescription};
use volunteer::membership::memory_need;

use crate::api::Status;
use crate::checkpoint_writer::CheckpointWriter;
use crate::cli::ServeArguments;
use crate::controller::{self, ControllerHandle, Ended, Event};
use crate::evaluation::evaluate_at_intervals;
use crate::history::{EvaluatedModel, History};
use crate::http::{Site, router};
use crate::log::Log;
use crate::run_state::{self, GoingBack, OpenedRun};
use crate::shards::Shards;
use crate::stopping::{Stage, Stopping};
use crate::{divergence, signals, summary};

/// The history of a run, in its folder.
const HISTORY_FILE: &str = "history.sqlite";

/// Serves a run until it ends.
pub(crate) fn serve(arguments: &ServeArguments, log: &Log) -> Result<()> {
    let run = Run::load(arguments.run.as_deref())?;
    ensure!(
        run.run_file.goal().is_some() || !arguments.stop_at_target,
        "--stop-at-target: the run has no target; set target_accuracy or target_loss in the run file"
    );
    // Before anybody contributes: the end would be too late to find out.
    let model_bytes = size_of::<f32>() * run.model.parameter_count();
    let models = if run.run_file.checkpoints.best { 2 } else { 1 };
    out_folder::probe(&arguments.out, models * model_bytes)
        .map_err(|error| anyhow!("{error}: {}; choose another folder with --out", error.source))?;
    let runtime = tokio::runtime::Runtime::new().context("the runtime can't be started")?;
    let is_written = Arc::new(AtomicBool::new(false));
    let stopped = watch_for_signals(log, arguments, Arc::clone(&is_written))?;
    runtime.block_on(serve_run(arguments, &run, stopped))?;
    is_written.store(true, Ordering::Relaxed);
    // Nothing that is still going on, such as a response that a browser does not read, is worth a wait.
    runtime.shutdown_background();
    Ok(())
}

/// Hears of the first signal; after the second the log says what was not written.
fn watch_for_signals(
    log: &Log,
    arguments: &ServeArguments,
    is_written: Arc<AtomicBool>,
) -> std::io::Result<oneshot::Receiver<()>> {
    let out = arguments.out.clone();
    signals::watch(log, move || match is_written.load(Ordering::Relaxed) {
        true => "the model and the summary are written".to_owned(),
        false => format!("the model and the summary were not written to {}", out.display()),
    })
}

async fn serve_run(arguments: &ServeArguments, run: &Run, stopped: oneshot::Receiver<()>) -> Result<()> {
    let Run {
        run_file,
        dataset,
        model,
    } = run;
    let listener = TcpListener::bind(arguments.listen).await.with_context(|| {
        format!(
            "{}: can't listen there; choose another address with --listen",
            arguments.listen
        )
    })?;
    let address = listener.local_addr()?;

    let shards = Arc::new(Shards::new(&dataset.shards));
    shards.gzip_in_background().context("a thread can't be started")?;
    let opened = run_state::open(arguments, run)?;
    let description = describe(arguments, run, &shards, opened.central.config().run);
    let (controller, end) = start_controller(arguments, run, opened)?;
    evaluate_at_intervals(
        controller.clone(),
        run.evaluator(),
        Duration::from_secs_f64(run_file.evaluation.interval_seconds),
    );
    announce(arguments, run, address);

    let (open_sockets, mut sockets) = tokio::sync::mpsc::channel(1);
    let site = Site {
        open_sockets,
        description,
        goal: run_file.goal(),
        model: Arc::clone(model),
        legend: dataset.legend.clone(),
        shards,
        controller: controller.clone(),
    };
    let (close, closing) = tokio::sync::oneshot::channel();
    let server = tokio::spawn(serve_site(listener, site, closing));
    let ended = wait_for_end(&controller, end, stopped).await?;
    let _ = close.send(());
    // Each volunteer must hear that the run is over, or it computes on for nobody. Its socket outlives the request that
    // opened it.
    let all_closed = async {
        let _ = server.await;
        sockets.recv().await
    };
    let _ = tokio::time::timeout(ended.stopping.left_for(Stage::Sockets), all_closed).await;

    let now = Time::ZERO + ended.elapsed;
    let status = Status::new(run_file.name.clone(), run_file.goal(), &ended.controller, now);
    summary::write(&arguments.out, run, status, &ended)?;
    match ended.controller.central().divergence() {
        Some(divergence) if arguments.stop_at_target => {
            bail!("the run has diverged: {}", divergence::reason(divergence))
        }
        _ => Ok(()),
    }
}

/// The central module of this run, at work on its thread.
fn start_controller(
    arguments: &ServeArguments,
    run: &Run,
    opened: OpenedRun,
) -> Result<(ControllerHandle, oneshot::Receiver<Ended>)> {
    let OpenedRun {
        central,
        mut folder,
        ledger,
        changes,
    } = opened;
    // A run in a store has no folder here; its history lasts as long as its server.
    let history = folder.local_path().map(|folder| folder.join(HISTORY_FILE));
    let history = History::open(history.as_deref());
    let best = run.run_file.checkpoints.best.then(|| folder.best());
    let best = best.transpose().unwrap_or_else(|warning| {
        tracing::warn!("{warning}");
        None
    });
    let (writer, idle_writer) = CheckpointWriter::new();
    let start = controller::Start {
        run: run.clone(),
        central,
        began: Instant::now(),
        stop_at: run.run_file.goal().filter(|_| arguments.stop_at_target),
        history,
        keeps_best: run.run_file.checkpoints.best,
        best: best.flatten().map(EvaluatedModel::from),
        going_back: GoingBack::new(run),
        ledger,
        writer,
        changes,
    };
    let (controller, end) = controller::start(tokio::runtime::Handle::current(), start)?;
    idle_writer.start(folder, controller.clone())?;
    Ok((controller, end))
}

/// Answers requests until it is told to close, and the requests that have begun.
async fn serve_site(listener: TcpListener, site: Site, closing: oneshot::Receiver<()>) -> std::io::Result<()> {
    let app = router(site).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(without_delay(listener), app)
        .with_graceful_shutdown(async {
            let _ = closing.await;
        })
        .await
}

/// Waits for the end of the run, and passes the operator's wish to stop on.
async fn wait_for_end(
    controller: &ControllerHandle,
    end: oneshot::Receiver<Ended>,
    stopped: oneshot::Receiver<()>,
) -> Result<Ended> {
    let stop = async {
        // Without a watch for signals nobody can wish to stop.
        if stopped.await.is_ok() {
            let _ = controller.tell(Event::Stop(Stopping::now())).await;
        }
        // Only the controller's end ends the wait below.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = end => ended.context("the controller has died; see above"),
        () = stop => unreachable!("it waits for ever"),
    }
}

/// A listener whose sockets send what they have at once. By default (Nagle's algorithm) a small frame would wait for
/// the acknowledgement of the frame before it, which the peer's system delays by 40 ms.
fn without_delay(listener: TcpListener) -> TapIo<TcpListener, impl FnMut(&mut TcpStream) + Send + 'static> {
    listener.tap_io(|socket| {
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!("a socket delays small frames: {error}");
        }
    })
}

/// Says on one line of standard output where the page is, and on standard error what an operator should know.
fn announce(arguments: &ServeArguments, run: &Run, address: SocketAddr) {
    let Run {
        run_file,
        dataset,
        model,
    } = run;
    let (parameters, samples) = (model.parameter_count(), dataset.train_samples());
    tracing::info!(
        "run {}: {parameters} parameters, {samples} training samples",
        run_file.name
    );
    for warning in run_file.warnings() {
        tracing::warn!("{warning}");
    }
    tracing::info!("everybody who can open the address below can download the training data and the model");
    if arguments.kiosk {
        tracing::info!("kiosk: /?join=1&workers=N&cpu_percent=PERCENT contributes without a click");
    }
    if !address.ip().is_loopback() {
        tracing::info!(
            "browsers on other machines share memory only over https: put a TLS proxy in front of this address"
        );
    }
    let shown = if address.ip().is_unspecified() {
        SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), address.port())
    } else {
        address
    };
    // The run goes on without a reader of its address.
    let _ = writeln!(std::io::stdout(), "listening on http://{shown}");
}

fn describe(arguments: &ServeArguments, run: &Run, shards: &Shards, run_id: RunId) -> RunDescription {
    let Run {
        run_file,
        dataset,
        model,
    } = run;
    let training = &run_file.training;
    let sample_bytes = dataset.train_samples() * dataset.format.sample_bytes();
    RunDescription {
        protocol: PROTOCOL,
        run: run_id.0,
        spec_hash: model.spec().hash(),
        name: run_file.name.clone(),
        description: run_file.description.clone(),
        mode: training.mode,
        local_steps: training.local_steps.clone(),
        seed: run_file.seed,
        minibatch: training.minibatch,
        superstep_samples: training.superstep_samples,
        max_read_out_samples: training.max_read_out_samples(),
        target_accuracy: run_file.target_accuracy,
        target_loss: run_file.target_loss,
        kiosk: arguments.kiosk,
        parameters: model.parameter_count(),
        model: model.spec().clone(),
        dataset: DatasetDescription {
            format: dataset.format.clone(),
            samples: dataset.train_samples(),
            test_samples: dataset.held_out_samples(),
            shards: shards.names().to_vec(),
        },
        memory: memory_need(
            model,
            training.minibatch,
            sample_bytes as u64,
            training.local_steps.as_ref(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::serve::Listener;

    #[tokio::test]
    async fn an_accepted_socket_sends_small_frames_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut listener = without_delay(listener);
        let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let ((socket, _), _client) = (accepted, connected.unwrap());
        assert!(socket.nodelay().unwrap());
    }
}
