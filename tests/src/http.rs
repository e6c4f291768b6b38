//! Requests to a server under test.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::Agent;
use ureq::http::Response;

/// Longer than any answer takes on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// More than any answer of a test's server holds.
const MAX_BODY_BYTES: u64 = 1 << 30;

/// An agent for which no status is an error: tests look at them.
pub fn agent() -> Agent {
    Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .build()
        .into()
}

/// The answer at this address, with its body read.
///
/// # Errors
/// A server that does not answer.
pub fn get(url: &str) -> Result<Response<Vec<u8>>> {
    let response = agent().get(url).call().with_context(|| url.to_owned())?;
    let (parts, mut body) = response.into_parts();
    let body = body
        .with_config()
        .limit(MAX_BODY_BYTES)
        .read_to_vec()
        .with_context(|| url.to_owned())?;
    Ok(Response::from_parts(parts, body))
}

/// The JSON at this address.
///
/// # Errors
/// Anything else than JSON there.
pub fn get_json(url: &str) -> Result<Value> {
    let response = get(url)?;
    ensure!(response.status().is_success(), "{url}: {}", response.status());
    serde_json::from_slice(response.body()).with_context(|| url.to_owned())
}
