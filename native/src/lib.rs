//! A volunteer without a browser. The same loop, local BSP module (103), shared memory (104) and engine as in a tab,
//! driven by threads and a socket of this program.
//!
//! A driver and nothing else: [`volunteer::volunteer_loop`] decides. [`driver`] hands it what happens and does what
//! it asks for, with an [`address`] to reach, a [`socket`], [`fetch`]es and [`ml_module`] threads.

mod address;
mod driver;
mod fetch;
mod ml_module;
mod socket;
mod states;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::oneshot;
use volunteer::action::Ending;
use volunteer::settings::Settings;

use crate::address::Address;
use crate::driver::Driver;
use crate::states::States;

/// Longer than the loop waits for the acknowledgement of its last contribution.
const LEAVE_WITHIN: Duration = Duration::from_secs(6);

/// What a native volunteer is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The address that the server prints, such as `http://127.0.0.1:8000`.
    pub url: &'a str,
    /// ML modules, one thread each.
    pub workers: usize,
    /// For how much of its time each of them computes, from 1 to 100.
    pub cpu_percent: u8,
    /// How long it tries to reach a server that does not answer; `None` for ever.
    pub give_up_after: Option<Duration>,
    /// Where random numbers begin: different for each volunteer.
    pub seed: u64,
}

/// Is told what the volunteer does, in a line, whenever that changes.
pub type Report = Box<dyn Fn(&str) + Send>;

/// The server did not answer for as long as the operator wished to wait.
#[derive(Debug, thiserror::Error)]
#[error("the server does not answer; given up")]
pub struct GaveUp;

/// Contributes until the run is over, or the operator wishes it to stop: `stopped` says when. What it does is told to
/// `report`.
///
/// # Errors
/// An address that can't be used, a server that refuses this volunteer, an error that another try would not change, or
/// [`GaveUp`].
pub fn contribute(options: &Options<'_>, stopped: oneshot::Receiver<()>, report: Report) -> Result<()> {
    let address = Address::new(options.url)?;
    let settings = Settings {
        ml_modules: options.workers,
        active: options.workers,
        cpu_percent: options.cpu_percent,
        is_paused: false,
        seed: options.seed,
        vain_starts: 0,
        restarts_here: true,
    };
    let states = States::new(options.url, options.give_up_after);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let ending = runtime.block_on(async {
        let (leave, leaving) = oneshot::channel();
        tokio::select! {
            ending = Driver::new(address, settings, states, report).run(leaving) => ending,
            () = leave_late(stopped, leave) => Ok(Ending::Left),
        }
    });
    // A fetch may wait on its thread for a server that says nothing.
    runtime.shutdown_background();
    match ending.with_context(|| options.url.to_owned())? {
        Ending::Left | Ending::Finished | Ending::Restarting => Ok(()),
        Ending::Refused(why) | Ending::Failed(why) => bail!("{}: {why}", options.url),
    }
}

/// Passes the operator's wish on, and returns when the volunteer has had time enough to leave: a server that takes no
/// bytes keeps it from that.
async fn leave_late(stopped: oneshot::Receiver<()>, leave: oneshot::Sender<()>) {
    if stopped.await.is_err() {
        // There is no watch for the operator's wishes.
        std::future::pending::<()>().await;
    }
    let _ = leave.send(());
    tokio::time::sleep(LEAVE_WITHIN).await;
    tracing::warn!("the server takes nothing; what was not sent is lost");
}
