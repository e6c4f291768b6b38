//! `superstep serve`, as a process of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{get, get_json};
use crate::program::{Program, in_shell, superstep};
use crate::run_file::RunText;
use crate::wait::{wait_for, wait_until};

/// The headers that isolate a page, which every response must have.
pub const ISOLATION: [(&str, &str); 3] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-embedder-policy", "require-corp"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// How to serve. The default is digits on a free port.
#[derive(Clone, Debug, Default)]
pub struct Serve {
    /// The run; without one, the server's own default.
    pub run: Option<RunText>,
    /// `--kiosk`: tabs may join without a click.
    pub kiosk: bool,
    /// `--stop-at-target`.
    pub stop_at_target: bool,
    /// The port; 0 is any that is free.
    pub port: u16,
    /// How a shell starts it, such as `exec "$@" 2>/dev/full`.
    pub script: Option<&'static str>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, PathBuf)>,
    /// Where it writes at its end; a folder of its own by default.
    pub out: Option<PathBuf>,
    /// Where the run is kept; a folder of its own by default. A server that goes on with a run is given that of the one
    /// before.
    pub state: Option<PathBuf>,
}

/// A running server. It ends when it is dropped.
pub struct Server {
    program: Program,
    url: String,
    address: SocketAddr,
    directory: TempDir,
    out: PathBuf,
    state: PathBuf,
}

impl Serve {
    /// Any tab may join without a click.
    pub fn kiosk() -> Serve {
        Serve {
            kiosk: true,
            ..Serve::default()
        }
    }

    /// The same with this run.
    pub fn run(self, run: RunText) -> Serve {
        Serve { run: Some(run), ..self }
    }

    /// Starts the server and waits until it listens.
    ///
    /// # Errors
    /// A server that does not.
    pub fn start(self) -> Result<Server> {
        let directory = TempDir::new()?;
        let (out, state) = (self.out_in(&directory), self.state_in(&directory));
        let mut program = Program::start("superstep serve", self.command(&directory)?)?;
        let url = program.wait_for_stdout("its address", |line| {
            Some(line.strip_prefix("listening on ")?.to_owned())
        })?;
        let address = url.strip_prefix("http://").context("an http address")?.parse()?;
        Ok(Server {
            program,
            url,
            address,
            directory,
            out,
            state,
        })
    }

    /// Starts the server and ends it at once, as `kill -9` does, when it is this old, wherever it is then.
    ///
    /// # Errors
    /// The system's.
    pub fn start_and_kill_after(self, age: Duration) -> Result<()> {
        let directory = TempDir::new()?;
        let mut program = Program::start("superstep serve", self.command(&directory)?)?;
        std::thread::sleep(age);
        program.kill()
    }

    /// Starts the server, which must end by itself with an error, and gives the lines of its log.
    ///
    /// # Errors
    /// A server that does not end, or says that all went well.
    pub fn start_in_vain(self) -> Result<Vec<String>> {
        let directory = TempDir::new()?;
        let mut program = Program::start("superstep serve", self.command(&directory)?)?;
        let status = program.wait_for_end()?;
        let log = program.log();
        ensure!(status.code() == Some(1), "the server ended with {status}: {log:#?}");
        Ok(log)
    }

    fn out_in(&self, directory: &TempDir) -> PathBuf {
        self.out.clone().unwrap_or_else(|| directory.path().join("out"))
    }

    fn state_in(&self, directory: &TempDir) -> PathBuf {
        self.state.clone().unwrap_or_else(|| directory.path().join("state"))
    }

    /// The command; what is not given lies in `directory`.
    fn command(&self, directory: &TempDir) -> Result<Command> {
        let mut command = superstep();
        command.arg("serve");
        if let Some(run) = &self.run {
            let path = run_file_in(directory);
            std::fs::write(&path, run.as_str())?;
            command.arg(path);
        }
        command
            .arg("--listen")
            .arg(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).to_string());
        command.arg("--out").arg(self.out_in(directory));
        command.arg("--state").arg(self.state_in(directory));
        add_flag(&mut command, "--kiosk", self.kiosk);
        add_flag(&mut command, "--stop-at-target", self.stop_at_target);
        if let Some(script) = self.script {
            command = in_shell(script, &command);
        }
        command.envs(self.environment.clone());
        Ok(command)
    }
}

fn add_flag(command: &mut Command, flag: &str, is_wanted: bool) {
    if is_wanted {
        command.arg(flag);
    }
}

fn run_file_in(directory: &TempDir) -> PathBuf {
    directory.path().join("run.toml")
}

impl Server {
    /// Where its page is, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The page at which a kiosk's tab joins with this many ML modules.
    pub fn joining_url(&self, ml_modules: usize) -> String {
        format!("{}/?join=1&workers={ml_modules}", self.url)
    }

    /// The same, where each ML module computes for this percentage of its time.
    pub fn joining_url_with_cpu_percent(&self, ml_modules: usize, cpu_percent: u8) -> String {
        format!("{}&cpu_percent={cpu_percent}", self.joining_url(ml_modules))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.program.process()
    }

    /// Where it writes at its end.
    pub fn out(&self) -> PathBuf {
        self.out.clone()
    }

    /// Where it keeps the run.
    pub fn state(&self) -> PathBuf {
        self.state.clone()
    }

    /// The run file that it was given.
    pub fn run_file(&self) -> PathBuf {
        run_file_in(&self.directory)
    }

    /// `GET /api/v1/{name}`.
    ///
    /// # Errors
    /// A server that does not answer with JSON.
    pub fn ask(&self, name: &str) -> Result<Value> {
        get_json(&format!("{}/api/v1/{name}", self.url))
    }

    /// `GET /api/v1/status`.
    ///
    /// # Errors
    /// A server that does not answer with JSON.
    pub fn status(&self) -> Result<Value> {
        self.ask("status")
    }

    /// Samples that the server has counted.
    ///
    /// # Errors
    /// A server that does not answer as it should.
    pub fn samples(&self) -> Result<u64> {
        whole(&self.status()?, "samples")
    }

    /// The model's version.
    ///
    /// # Errors
    /// A server that does not answer as it should.
    pub fn version(&self) -> Result<u64> {
        whole(&self.status()?, "version")
    }

    /// `GET /api/v1/volunteers`.
    ///
    /// # Errors
    /// A server that does not answer as it should.
    pub fn volunteers(&self) -> Result<Vec<Volunteer>> {
        let list = self.ask("volunteers")?;
        list.as_array()
            .context("a list of volunteers")?
            .iter()
            .map(Volunteer::read)
            .collect()
    }

    /// The current model's file.
    ///
    /// # Errors
    /// A server that does not answer.
    pub fn model_file(&self) -> Result<Vec<u8>> {
        Ok(get(&format!("{}/api/v1/model.safetensors", self.url))?.into_body())
    }

    /// Waits until this many volunteers are connected and each of them has contributed.
    ///
    /// # Errors
    /// A crowd that does not come together.
    pub fn wait_for_contributors(&self, count: usize) -> Result<Vec<Volunteer>> {
        wait_for(&format!("{count} volunteers that have contributed"), || {
            let volunteers = self.volunteers()?;
            let is_so = volunteers.len() == count && volunteers.iter().all(|volunteer| volunteer.samples > 0);
            Ok(is_so.then_some(volunteers))
        })
    }

    /// Waits until the volunteer `id` has contributed more than it has now, and again more than that: what was on its
    /// way by now is not all that comes.
    ///
    /// # Errors
    /// A volunteer that has left, or contributes no more.
    pub fn wait_for_more_of(&self, id: u64) -> Result<()> {
        for _ in 0..2 {
            let before = self.samples_of(id)?;
            wait_until(&format!("more of volunteer {id}"), || Ok(self.samples_of(id)? > before))?;
        }
        Ok(())
    }

    fn samples_of(&self, id: u64) -> Result<u64> {
        let volunteers = self.volunteers()?;
        let volunteer = volunteers.iter().find(|volunteer| volunteer.id == id);
        Ok(volunteer
            .with_context(|| format!("volunteer {id} is not among {volunteers:?}"))?
            .samples)
    }

    /// Its log so far.
    pub fn log(&self) -> Vec<String> {
        self.program.log()
    }

    /// All that it has said on standard output.
    pub fn stdout(&self) -> Vec<String> {
        self.program.stdout()
    }

    /// Asks it to stop, as an operator's system does, and waits for that.
    ///
    /// # Errors
    /// A server that does not stop.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.program.wait_for_end()
    }

    /// Sends it a signal, such as `TERM`.
    ///
    /// # Errors
    /// A server that is not there any more.
    pub fn signal(&self, signal: &str) -> Result<()> {
        self.program.signal(signal)
    }

    /// Waits for it to stop by itself.
    ///
    /// # Errors
    /// A server that does not stop.
    pub fn wait_for_end(&mut self) -> Result<ExitStatus> {
        self.program.wait_for_end()
    }

    /// Ends it at once, as `kill -9` does.
    ///
    /// # Errors
    /// The system's.
    pub fn kill(&mut self) -> Result<()> {
        self.program.kill()
    }
}

/// What tests look at in an entry of `GET /api/v1/volunteers`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Volunteer {
    /// Its session.
    pub id: u64,
    /// ML modules that compute.
    pub ml_modules: u64,
    /// Samples in its accepted contributions.
    pub samples: u64,
    /// Its contributions that were refused.
    pub refused: u64,
    /// The share of its ML modules' time without rests in which they waited, from 0 to 1.
    pub waiting: f64,
    /// The time that its ML modules have spent on gradients, without rests and waiting.
    pub computing_seconds: f64,
}

impl Volunteer {
    fn read(entry: &Value) -> Result<Volunteer> {
        let number = |key| whole(entry, key);
        Ok(Volunteer {
            id: number("id")?,
            ml_modules: number("ml_modules")?,
            samples: number("samples")?,
            refused: number("refused")?,
            waiting: entry["time"]["wait"].as_f64().context("a share of waiting")?,
            computing_seconds: entry["computing_seconds"].as_f64().context("a time of computing")?,
        })
    }
}

/// The whole number under this key.
///
/// # Errors
/// None there.
pub fn whole(object: &Value, key: &str) -> Result<u64> {
    object[key]
        .as_u64()
        .with_context(|| format!("no whole number {key} in {object}"))
}
