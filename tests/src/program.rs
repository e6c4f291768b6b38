//! A program as a child process: its output line by line, signals to it, and its end with its owner's.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::wait::wait_for;

/// Lines of a program's output that a failing test shows.
const SHOWN_LINES: usize = 40;

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The binary under test: what `make build` makes, or what `SUPERSTEP_BINARY` names.
pub fn superstep() -> Command {
    let binary = std::env::var_os("SUPERSTEP_BINARY").map(PathBuf::from);
    let mut command = Command::new(binary.unwrap_or_else(|| root().join("target/release/superstep")));
    // The tests read its log at the level that everybody gets.
    command.env_remove("RUST_LOG");
    command
}

/// The command, as this script of a shell starts it: there `"$@"` is the command.
pub fn in_shell(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", script, "bash"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

/// Runs a command to its end.
///
/// # Errors
/// A command that can't be started.
pub fn output_of(mut command: Command) -> Result<Output> {
    command.stdin(Stdio::null());
    command
        .output()
        .with_context(|| format!("{command:?}: can't be started; run `make build` first"))
}

/// A running program.
pub struct Program {
    name: &'static str,
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

impl Program {
    /// Starts it. It is killed when it is dropped.
    ///
    /// # Errors
    /// A command that can't be started.
    pub fn start(name: &'static str, mut command: Command) -> Result<Program> {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("{name} can't be started ({command:?}); run `make build` first"))?;
        let stdout = Lines::of(child.stdout.take());
        let stderr = Lines::of(child.stderr.take());
        Ok(Program {
            name,
            child,
            stdout,
            stderr,
        })
    }

    /// Waits for a line of its standard output that `find` finds something in.
    ///
    /// # Errors
    /// A program that ended without such a line.
    pub fn wait_for_stdout<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        wait_for(what, || {
            // Asked first: what the program has said before its end is then read below.
            let status = self.child.try_wait()?;
            let found = self.stdout.all().iter().find_map(|line| find(line));
            ensure!(
                found.is_some() || status.is_none(),
                "{} ended, {status:?}, before {what} came",
                self.name
            );
            Ok(found)
        })
    }

    /// All lines of its standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// All lines of its standard error so far: its log.
    pub fn log(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// Whether it runs.
    ///
    /// # Errors
    /// The system's.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for its end. Its output is then complete.
    ///
    /// # Errors
    /// A program that does not end.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let status = wait_for(&format!("{} to end", self.name), || Ok(self.child.try_wait()?))?;
        wait_for("its output to end", || {
            Ok((self.stdout.is_complete() && self.stderr.is_complete()).then_some(()))
        })?;
        Ok(status)
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, such as `TERM`.
    ///
    /// # Errors
    /// A program that is not there any more.
    pub fn signal(&self, signal: &str) -> Result<()> {
        send_signal(signal, self.process())
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.kill();
        if thread::panicking() {
            let log = self.log();
            let shown = &log[log.len().saturating_sub(SHOWN_LINES)..];
            eprintln!("--- the last lines of {}:\n{}", self.name, shown.join("\n"));
        }
    }
}

/// Sends a signal to a process, by the shell that is everywhere: the standard library can only kill.
///
/// # Errors
/// A process that is not there any more.
pub fn send_signal(signal: &str, process: u32) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{signal} {process}")])
        .status()?;
    ensure!(status.success(), "kill -{signal} {process}: {status}");
    Ok(())
}

/// The lines of an output, collected by a thread that ends with it.
struct Lines {
    state: Arc<Mutex<(Vec<String>, bool)>>,
}

impl Lines {
    fn of(output: Option<impl Read + Send + 'static>) -> Lines {
        let state = Arc::new(Mutex::new((Vec::new(), output.is_none())));
        if let Some(output) = output {
            let state = Arc::clone(&state);
            thread::spawn(move || {
                let mut output = BufReader::new(output);
                let mut line = Vec::new();
                while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                    let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                    state.lock().unwrap_or_else(PoisonError::into_inner).0.push(text);
                    line.clear();
                }
                state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
            });
        }
        Lines { state }
    }

    fn all(&self) -> Vec<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn is_complete(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }
}
