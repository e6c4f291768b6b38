//! The log: lines on standard error, which may be lost. The run never is.
//!
//! A reader of the log can go away (a closed terminal, a log collector that restarts), stall (a terminal that is
//! stopped with Ctrl-S), or have a full disk. So lines wait in a bounded queue, and only the queue's own thread writes:
//! it meets the errors and the waits, and forgets both.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// Lines that wait for a reader that stalls: minutes of the log, and at most a few megabytes.
const MOST_WAITING: usize = 10_000;
/// How long the end of the program waits for lines to leave.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// The way to the log. Clones lead to the same one.
#[derive(Clone)]
pub(crate) struct Log(Arc<Queue>);

#[derive(Default)]
struct Queue {
    lines: Mutex<Lines>,
    /// Lines have come, or have left.
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    waiting: VecDeque<Vec<u8>>,
    /// One is being written.
    is_writing: bool,
    /// Lines that found no room.
    lost: u64,
}

impl Log {
    /// Starts the log, and sends what is traced to it: from level `info`, or as `RUST_LOG` says.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(crate) fn start() -> io::Result<Log> {
        let log = Log::to(io::stderr())?;
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(move || writer.clone())
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .init();
        Ok(log)
    }

    /// Lines that go here.
    ///
    /// # Errors
    /// The system has no thread for them.
    pub(crate) fn to(output: impl Write + Send + 'static) -> io::Result<Log> {
        let log = Log(Arc::default());
        let queue = Arc::clone(&log.0);
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || queue.write_to(output))?;
        Ok(log)
    }

    /// Says something as it is, on a line.
    pub(crate) fn say(&self, line: &str) {
        self.0.push(format!("{line}\n").into_bytes());
    }

    /// Waits until all lines have left, but not long.
    pub(crate) fn flush(&self) {
        let lines = self.0.lock();
        let is_busy = |lines: &mut Lines| lines.is_writing || !lines.waiting.is_empty();
        // What a stalled reader does not take is lost.
        drop(self.0.changed.wait_timeout_while(lines, FLUSH_WITHIN, is_busy));
    }
}

/// Each call is a whole line, as [`tracing_subscriber`] writes them.
impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Vec<u8>) {
        let mut lines = self.lock();
        if lines.waiting.len() < MOST_WAITING {
            lines.waiting.push_back(line);
        } else {
            lines.lost += 1;
        }
        self.changed.notify_all();
    }

    /// Writes line after line, for as long as the program lives.
    fn write_to(&self, mut output: impl Write) {
        let mut lines = self.lock();
        loop {
            lines.is_writing = false;
            self.changed.notify_all();
            let lost = std::mem::take(&mut lines.lost);
            let Some(mut line) = lines.waiting.pop_front() else {
                lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            lines.is_writing = true;
            drop(lines);
            if lost > 0 {
                line.extend_from_slice(format!("({lost} lines of the log were lost: nothing took them)\n").as_bytes());
            }
            // A line that can't be written is lost, and the next one may find a reader again.
            let _ = output.write_all(&line);
            lines = self.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Takes a line each time that the test lets it.
    struct Reader {
        /// A line has come.
        begun: mpsc::Sender<()>,
        permits: mpsc::Receiver<io::Result<()>>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // The test may have heard enough.
            let _ = self.begun.send(());
            self.permits.recv().unwrap_or(Ok(()))?;
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The test's side of the reader.
    struct Reading {
        begun: mpsc::Receiver<()>,
        permit: mpsc::Sender<io::Result<()>>,
        taken: mpsc::Receiver<Vec<u8>>,
    }

    fn log_to_a_reader() -> (Log, Reading) {
        let (begun, has_begun) = mpsc::channel();
        let (permit, permits) = mpsc::channel();
        let (taken, was_taken) = mpsc::channel();
        let reader = Reader { begun, permits, taken };
        let reading = Reading {
            begun: has_begun,
            permit,
            taken: was_taken,
        };
        (Log::to(reader).unwrap(), reading)
    }

    #[test]
    fn lines_that_cant_be_written_are_lost_and_later_ones_are_not() {
        let (log, reading) = log_to_a_reader();
        log.say("lost");
        log.say("there");
        reading.permit.send(Err(io::ErrorKind::BrokenPipe.into())).unwrap();
        drop(reading.permit);
        assert_eq!(reading.taken.recv().unwrap(), b"there\n");
    }

    #[test]
    fn nobody_waits_for_a_reader_that_stalls_and_the_log_says_how_much_it_missed() {
        let (log, reading) = log_to_a_reader();
        log.say("0");
        // From here on the log's thread waits for its reader, and takes nothing from the queue.
        reading.begun.recv().unwrap();
        for number in 1..=MOST_WAITING + 2 {
            log.say(&number.to_string());
        }
        drop(reading.permit);
        assert_eq!(reading.taken.recv().unwrap(), b"0\n");
        let next = String::from_utf8(reading.taken.recv().unwrap()).unwrap();
        assert_eq!(next, "1\n(2 lines of the log were lost: nothing took them)\n");
    }
}
