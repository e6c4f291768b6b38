//! Which browsers the tests know, and what is particular to one. Another browser is another variant here; the console,
//! scripts before a page's own and workers are asked for in Chromium's way, in [`crate::driver`], since WebDriver has
//! none of them.

use std::path::Path;

use serde_json::{Value, json};

/// Needs no graphics, no first-run questions, no traffic of its own; runs as root in a container too.
const CHROMIUM_FLAGS: [&str; 8] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
];

/// A browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Browser {
    /// Chromium, with its `chromedriver`.
    Chromium,
}

impl Browser {
    /// The program that drives it over WebDriver, and the arguments with which it listens on a free port.
    pub fn driver_program(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Browser::Chromium => ("chromedriver", &["--port=0"]),
        }
    }

    /// The driver program's port, if it says so on this line.
    pub fn port_in(self, line: &str) -> Option<u16> {
        match self {
            Browser::Chromium => line
                .split_once("successfully on port ")?
                .1
                .trim_end_matches('.')
                .parse()
                .ok(),
        }
    }

    /// What is asked of the driver program: a browser without a window and with a fresh profile, for which the names of
    /// `hosts` mean this machine.
    pub fn capabilities(self, profile: &Path, hosts: &[&str]) -> Value {
        match self {
            Browser::Chromium => {
                let mut flags: Vec<String> = CHROMIUM_FLAGS.map(str::to_owned).to_vec();
                flags.push(format!("--user-data-dir={}", profile.display()));
                if !hosts.is_empty() {
                    let rules: Vec<_> = hosts.iter().map(|host| format!("MAP {host} 127.0.0.1")).collect();
                    flags.push(format!("--host-resolver-rules={}", rules.join(",")));
                }
                json!({
                    "browserName": "chrome",
                    "goog:chromeOptions": { "args": flags },
                    "goog:loggingPrefs": { "browser": "ALL" },
                })
            }
        }
    }

    /// How a process that runs pages is told from the browser's others, by a word of its command line.
    pub fn page_process(self) -> &'static str {
        match self {
            Browser::Chromium => "--type=renderer",
        }
    }
}
