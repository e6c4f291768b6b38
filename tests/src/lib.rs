//! What the tests against the built binary are made of: real servers, browsers, native volunteers and raw peers, each
//! of which ends with its owner.
//!
//! - [`program`]: a program as a child process, its output, signals to it.
//! - [`server`]: `superstep serve`, and what it answers over HTTP ([`http`]).
//! - [`native_volunteer`]: `superstep volunteer`.
//! - [`browser`]: which browsers there are, and what is particular to each. A new one is added there.
//! - [`driver`], [`tab`]: a headless browser over WebDriver, and a page in it.
//! - [`devtools`]: a browser's own protocol, for what WebDriver does not reach.
//! - [`peer`]: a peer on a bare WebSocket, that may say anything.
//! - [`network`]: the network between them, which can be gone for a while.
//! - [`relay`]: the wire between a tab and a server, recorded.
//! - [`faulty_link`]: a wire that is cut, stalls, or brings everything twice.
//! - [`random`]: random numbers that come again from their seed.
//! - [`small_disk`]: a disk that can be full, and read-only; [`state_folder`]: what lies in a run's folder.
//! - [`run_file`], [`model`]: what goes in, and what comes out.
//! - [`wait`]: how tests wait.

pub mod browser;
pub mod devtools;
pub mod driver;
pub mod faulty_link;
pub mod http;
pub mod model;
pub mod native_volunteer;
pub mod network;
pub mod peer;
pub mod program;
pub mod random;
pub mod relay;
pub mod run_file;
pub mod server;
pub mod small_disk;
pub mod state_folder;
pub mod tab;
pub mod wait;
mod web_driver_client;
