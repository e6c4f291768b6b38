//! A headless browser, driven over WebDriver.

use std::collections::BTreeSet;
use std::fs;
use std::future::Future;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use thirtyfour::error::WebDriverResult;
use thirtyfour::{Capabilities, WebDriver, WindowHandle};
use tokio::runtime::Runtime;

use crate::browser::Browser;
use crate::devtools::DevTools;
use crate::program::{Program, send_signal};
use crate::web_driver_client::Client;

/// A browser, with its driver program. Both end when it is dropped.
pub struct Driver {
    browser: Browser,
    runtime: Runtime,
    web_driver: WebDriver,
    _program: Program,
    profile: TempDir,
}

impl Driver {
    /// Starts a browser.
    ///
    /// # Errors
    /// One that can't be started.
    pub fn start(browser: Browser) -> Result<Driver> {
        Driver::start_with_hosts(browser, &[])
    }

    /// The same, where these names mean this machine.
    ///
    /// # Errors
    /// As [`Driver::start`].
    pub fn start_with_hosts(browser: Browser, hosts: &[&str]) -> Result<Driver> {
        let (name, arguments) = browser.driver_program();
        let mut command = Command::new(name);
        command.args(arguments);
        let mut program = Program::start(name, command).with_context(|| format!("install {name}"))?;
        let port = program.wait_for_stdout("its port", |line| browser.port_in(line))?;
        let profile = TempDir::new()?;
        let Value::Object(capabilities) = browser.capabilities(profile.path(), hosts) else {
            unreachable!("capabilities are an object")
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let builder = WebDriver::builder(format!("http://127.0.0.1:{port}"), Capabilities::from(capabilities));
        let web_driver = runtime.block_on(async { builder.client(Client::new()).await })?;
        Ok(Driver {
            browser,
            runtime,
            web_driver,
            _program: program,
            profile,
        })
    }

    /// What the consoles of all its tabs say is an error, since they were asked last.
    ///
    /// # Errors
    /// A driver that does not answer.
    pub fn console_errors(&self) -> Result<Vec<String>> {
        let entries = self.run(self.web_driver.browser_log())?;
        let errors = entries.into_iter().filter(|entry| entry.level == "SEVERE");
        Ok(errors.map(|entry| entry.message).collect())
    }

    /// No console of its tabs has said that anything is an error.
    ///
    /// # Errors
    /// The errors.
    pub fn expect_no_console_errors(&self) -> Result<()> {
        let errors = self.console_errors()?;
        ensure!(errors.is_empty(), "the console says: {errors:#?}");
        Ok(())
    }

    /// Sends a signal to all processes that run its pages.
    ///
    /// # Errors
    /// Processes that are not there.
    pub fn signal_pages(&self, signal: &str) -> Result<()> {
        let pages = self.page_processes()?;
        pages.into_iter().try_for_each(|process| send_signal(signal, process))
    }

    /// How many bytes of memory the processes that run its pages hold, without the program's own code.
    ///
    /// # Errors
    /// Processes that are not there.
    pub fn bytes_of_pages(&self) -> Result<u64> {
        self.page_processes()?.into_iter().map(resident_bytes).sum()
    }

    fn page_processes(&self) -> Result<Vec<u32>> {
        let mut pages = self.processes()?;
        pages.retain(|process| command_line(*process).contains(self.browser.page_process()));
        ensure!(!pages.is_empty(), "the browser has no process that runs pages");
        Ok(pages.into_iter().collect())
    }

    /// The browser's processes: those that were started with its profile, and their descendants.
    fn processes(&self) -> Result<BTreeSet<u32>> {
        let profile = self.profile.path().display().to_string();
        let all: Vec<u32> = fs::read_dir("/proc")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let with_profile = all
            .iter()
            .copied()
            .filter(|process| command_line(*process).contains(&profile));
        let mut ours: BTreeSet<u32> = with_profile.collect();
        loop {
            let known = ours.len();
            let children = all
                .iter()
                .copied()
                .filter(|process| parent(*process).is_some_and(|parent| ours.contains(&parent)));
            let children: Vec<u32> = children.collect();
            ours.extend(children);
            if ours.len() == known {
                return Ok(ours);
            }
        }
    }

    /// Waits for the answer to a command of WebDriver.
    pub(crate) fn run<T>(&self, command: impl Future<Output = WebDriverResult<T>>) -> Result<T> {
        self.runtime.block_on(command).context("WebDriver")
    }

    /// A window of its own for a page, in which `script` runs before the page's own.
    pub(crate) fn open_window(&self, script: &str) -> Result<WindowHandle> {
        let window = self.run(self.web_driver.new_window())?;
        let web_driver = self.in_window(&window)?;
        if !script.is_empty() {
            let parameters = json!({ "source": script });
            self.run(
                web_driver
                    .cdp()
                    .send_raw("Page.addScriptToEvaluateOnNewDocument", parameters),
            )?;
        }
        Ok(window)
    }

    /// The developer tools of the page in a window.
    pub(crate) fn dev_tools(&self, window: &WindowHandle) -> Result<DevTools> {
        let capabilities = Value::from(self.web_driver.handle().capabilities().clone());
        let address = &capabilities["goog:chromeOptions"]["debuggerAddress"];
        let address = address
            .as_str()
            .context("the browser does not say where its developer tools listen")?;
        // WebDriver's name of a window is the developer tools' name of its page.
        DevTools::open(address, &window.to_string())
    }

    /// WebDriver, with its commands going to this window.
    pub(crate) fn in_window(&self, window: &WindowHandle) -> Result<&WebDriver> {
        self.run(self.web_driver.switch_to_window(window.clone()))?;
        Ok(&self.web_driver)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.runtime.block_on(self.web_driver.clone().quit());
        // What is left of a browser that did not quit.
        for process in self.processes().unwrap_or_default() {
            let _ = send_signal("KILL", process);
        }
    }
}

/// Empty for a process that has gone.
fn command_line(process: u32) -> String {
    let words = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name before it stands in parentheses and may hold anything: `pid (name) state parent …`.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Of memory that is not a file's: what it has made itself, and what it shares, as threads of a browser's page do.
fn resident_bytes(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let kilobytes = |name: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    let (own, shared) = (kilobytes("RssAnon:"), kilobytes("RssShmem:"));
    Ok(1024 * (own.context("RssAnon")? + shared.context("RssShmem")?))
}
