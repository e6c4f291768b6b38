//! Fetches over HTTP, each on a thread that may wait.

use tokio::task::spawn_blocking;
use volunteer::fetch::FetchError;

/// More than any shard or description.
const MOST_BYTES: u64 = 1 << 30;

/// Fetches what is at this address, once.
pub(crate) async fn fetch(url: String) -> Result<Vec<u8>, FetchError> {
    let fetched = spawn_blocking(move || {
        let mut response = ureq::get(&url).call()?;
        response.body_mut().with_config().limit(MOST_BYTES).read_to_vec()
    });
    match fetched.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(ureq::Error::StatusCode(status))) => Err(FetchError::Status(status)),
        Ok(Err(error)) => Err(FetchError::NoAnswer(error.to_string())),
        Err(error) => Err(FetchError::NoAnswer(error.to_string())),
    }
}
