//! The run in its state folder: where it goes on, and what it is told apart by.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use bsp::central::ServerOptimizer as _;
use bsp::central::{Awaited, Books, Central, Checkpoint, Config, Setbacks, TokenKey};
use bsp::protocol::message::RunId;
use bsp::time::Time;
use run::Run;
use run::central::{ServerOptimizer, central_config};
use run::keys::changes::{ChangedKey, as_json, changed_keys};
use run::run_file::{GoBack, OnDivergence};
use state::{Change, Folder, OpenedFolder, Options, Snapshot, Wanted};

use crate::checkpoint_writer::GoBack as WhereTo;
use crate::cli::ServeArguments;
use crate::ledger_writer::LedgerWriter;

/// A run that is ready to go on.
pub(crate) struct OpenedRun {
    /// The central module, at the place where the run goes on.
    pub(crate) central: Central,
    /// Where its checkpoints go.
    pub(crate) folder: Folder,
    /// Where accepted contributions are noted until a checkpoint holds them.
    pub(crate) ledger: LedgerWriter,
    /// Keys of the run file that were changed since the run was last served.
    pub(crate) changes: Vec<Change>,
}

/// Opens the run's folder, and makes the central module of what is there, or of a first model.
///
/// # Errors
/// The folder can't be used, belongs to another server, or holds another run.
pub(crate) fn open(arguments: &ServeArguments, run: &Run) -> Result<OpenedRun> {
    let wanted = wanted(run)?;
    let state = folder_of(arguments);
    let opened = Folder::open(&Options {
        state: &state,
        wanted: &wanted,
        keep: run.run_file.checkpoints.keep,
        is_fresh: arguments.fresh,
        fork: arguments.fork.as_deref(),
        compare: &|before, now| changed_keys(before, now).into_iter().map(change).collect(),
        adapt: &|checkpoint| adapt(run, checkpoint),
    })?;
    for change in &opened.changes {
        tracing::info!("the run file has changed: {change}");
    }
    for warning in &opened.warnings {
        tracing::warn!("{warning}");
    }
    let OpenedFolder {
        folder,
        ledger,
        identity,
        incarnation,
        checkpoint,
        awaited,
        changes,
        ..
    } = opened;
    let start = Snapshot { incarnation, number: 0 };
    let ledger = LedgerWriter::start(ledger, start).context("a thread can't be started")?;
    let interval = run.run_file.checkpoints.interval_seconds;
    let config = Config {
        token_key: TokenKey(identity.secrets.token_key),
        checkpoint_interval: (interval > 0.0).then(|| Duration::from_secs_f64(interval)),
        ..central_config(&run.run_file, run.model.spec().hash(), RunId(identity.secrets.run_id))
    };
    let central = central(run, config, incarnation, checkpoint, awaited)
        .with_context(|| format!("{}: the checkpoint can't be gone on from", folder.path().display()))?;
    Ok(OpenedRun {
        central,
        folder,
        ledger,
        changes,
    })
}

/// A checkpoint that a fork begins with: another optimizer begins with nothing remembered.
fn adapt(run: &Run, checkpoint: &mut Checkpoint) -> Option<String> {
    let memory = checkpoint.trainer.optimizer.clone();
    optimizer(run).load(memory).err()?;
    checkpoint.trainer.optimizer = optimizer(run).record();
    Some("the fork has another optimizer than the run: it goes on with the model, and remembers nothing".to_owned())
}

/// A changed key, as the run's folder tells it.
fn change(key: ChangedKey) -> Change {
    Change {
        key: key.key,
        before: key.before,
        now: key.now,
        is_allowed: key.is_allowed,
        meaning: key.meaning.to_owned(),
    }
}

/// How a run goes back to an earlier model after it has diverged.
pub(crate) struct GoingBack {
    run: Run,
    /// What multiplies the learning rate each time.
    factor: f32,
    /// How often, in all.
    at_most: u32,
}

impl GoingBack {
    /// As the run file says.
    pub(crate) fn new(run: &Run) -> Option<GoingBack> {
        let OnDivergence::GoBack(GoBack { factor, at_most }) = run.run_file.training.on_divergence else {
            return None;
        };
        Some(GoingBack {
            run: run.clone(),
            factor: factor as f32,
            at_most,
        })
    }

    /// Whether a run with these setbacks goes back once more if it diverges.
    fn goes_back_after(&self, setbacks: Setbacks) -> bool {
        setbacks.count < self.at_most
    }

    /// Where the run `diverged` goes on, given the best checkpoint that is kept, and the incarnation: with the books of
    /// that run.
    pub(crate) fn where_to(&self, diverged: &mut Central) -> WhereTo {
        let (run, config, factor) = (self.run.clone(), diverged.config().clone(), self.factor);
        let books: Books = diverged.books();
        Box::new(move |best, incarnation| {
            let checkpoint = best.unwrap_or_else(|| first(&run, config).into_checkpoint());
            checkpoint.with_books(books, incarnation, factor)
        })
    }

    /// The central module that goes on at `now` from the checkpoint that the run went back to, with the settings that
    /// it had.
    ///
    /// # Errors
    /// The checkpoint does not fit the run, though this server has written it.
    pub(crate) fn central(&self, now: Time, config: Config, checkpoint: Checkpoint) -> Result<Central> {
        let config = Config {
            goes_back: self.goes_back_after(checkpoint.trainer.setbacks),
            ..config
        };
        let incarnation = checkpoint.trainer.incarnation;
        let optimizer = optimizer(&self.run);
        Ok(Central::resume(
            now,
            config,
            checkpoint,
            incarnation,
            optimizer,
            Vec::new(),
        )?)
    }
}

fn optimizer(run: &Run) -> Box<ServerOptimizer> {
    Box::new(ServerOptimizer::new(&run.run_file, run.model.parameter_count()))
}

/// The central module of a run at its beginning.
fn first(run: &Run, config: Config) -> Central {
    let model = run.model.initial_parameters(run.run_file.seed);
    Central::new(Time::ZERO, config, model, optimizer(run))
}

/// The central module of a run at its beginning, or where a checkpoint stands.
fn central(
    run: &Run,
    config: Config,
    incarnation: u32,
    checkpoint: Option<Checkpoint>,
    awaited: Vec<Awaited>,
) -> Result<Central> {
    let setbacks = checkpoint.as_ref().map(|checkpoint| checkpoint.trainer.setbacks);
    let setbacks = setbacks.unwrap_or_default();
    let config = Config {
        goes_back: GoingBack::new(run).is_some_and(|going_back| going_back.goes_back_after(setbacks)),
        ..config
    };
    let checkpoint = match checkpoint {
        None if incarnation == 1 => return Ok(first(run, config)),
        // It was stopped before its first checkpoint: it goes on from its beginning.
        None => first(run, config.clone()).into_checkpoint(),
        Some(checkpoint) => checkpoint,
    };
    let (version, samples) = (checkpoint.trainer.version, checkpoint.totals.samples);
    tracing::info!("going on from version {version}, {samples} samples, as incarnation {incarnation}");
    if !awaited.is_empty() {
        let samples: u64 = awaited.iter().map(|contribution| contribution.samples).sum();
        tracing::info!(
            "{samples} samples in {} contributions were accepted after the last checkpoint; their volunteers send them \
             again",
            awaited.len()
        );
    }
    Ok(Central::resume(
        Time::ZERO,
        config,
        checkpoint,
        incarnation,
        optimizer(run),
        awaited,
    )?)
}

/// The folder of all runs: the given one, or `state` beside the run file.
fn folder_of(arguments: &ServeArguments) -> PathBuf {
    arguments.state.clone().unwrap_or_else(|| {
        let beside = arguments.run.as_deref().and_then(Path::parent);
        beside.unwrap_or(Path::new("")).join("state")
    })
}

/// What tells this run from others.
fn wanted(run: &Run) -> Result<Wanted> {
    let Run {
        run_file,
        dataset,
        model,
    } = run;
    Ok(Wanted {
        run: run_file.name.clone(),
        spec_hash: model.spec().hash(),
        data_hash: dataset.hash(),
        seed: run_file.seed,
        parameters: model.parameter_count() as u64,
        run_file: as_json(run_file).context("the run file can't be kept beside the run")?,
    })
}
