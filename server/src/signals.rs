//! The operator's wish to stop: Ctrl-C, SIGTERM, SIGHUP. All three mean the same.
//!
//! The first signal asks the program to stop; the second ends it at once. They are watched by a thread of their own, so
//! that the second is heard whatever the program does.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::log::Log;

/// One Ctrl-C can come as two signals: a program around this one, such as `make`, gets it too and passes it on.
const SAME: Duration = Duration::from_millis(200);
/// What a shell adds to a signal's number when it says how a program ended.
const ENDED_BY_SIGNAL: i32 = 128;

/// Watches for signals from now on. The receiver hears of the first. After the second the log says what `loss` says,
/// and the program ends, not with success.
///
/// # Errors
/// The system lets nobody watch.
pub(crate) fn watch(log: &Log, loss: impl Fn() -> String + Send + 'static) -> io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _context = runtime.enter();
        Signals::new()?
    };
    let (stop, stopped) = oneshot::channel();
    let log = log.clone();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (name, _) = signals.next().await;
            tracing::info!("{name}: stopping; a second signal stops at once");
            // The program may be at its end already.
            let _ = stop.send(());
            tokio::time::sleep(SAME).await;
            signals.forget();
            let (name, number) = signals.next_from_somebody().await;
            log.say(&format!("superstep: {name}: stopped at once; {}", loss()));
            log.flush();
            std::process::exit(ENDED_BY_SIGNAL + number);
        });
    })?;
    Ok(stopped)
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None where it is ignored: `nohup` wishes that a closed terminal ends nothing.
    hangup: Option<Signal>,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: match is_hangup_ignored() {
                true => None,
                false => Some(signal(SignalKind::hangup())?),
            },
        })
    }

    async fn next(&mut self) -> (&'static str, i32) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => ("Ctrl-C", SignalKind::interrupt().as_raw_value()),
            _ = self.terminate.recv() => ("SIGTERM", SignalKind::terminate().as_raw_value()),
            _ = hangup => ("SIGHUP", SignalKind::hangup().as_raw_value()),
        }
    }

    /// As [`Signals::next`], without SIGHUP: a closing terminal sends it more than once, and nobody is impatient there.
    async fn next_from_somebody(&mut self) -> (&'static str, i32) {
        loop {
            let (name, number) = self.next().await;
            if number != SignalKind::hangup().as_raw_value() {
                return (name, number);
            }
        }
    }

    /// Drops the signals that have come by now.
    fn forget(&mut self) {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for signal in [&mut self.interrupt, &mut self.terminate] {
            while signal.poll_recv(&mut context).is_ready() {}
        }
    }
}

/// Whether whoever started this program has it ignore SIGHUP. Linux says so; elsewhere it is not known.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (SignalKind::hangup().as_raw_value() - 1) != 0)
}
