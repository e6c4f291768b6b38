//! Fetches over HTTP, each on a thread that may wait.

use std::time::Duration;

use tokio::task::spawn_blocking;
use volunteer::fetch::FetchError;

/// More than any shard or description.
const MOST_BYTES: u64 = 1 << 30;

/// A server that takes longer to accept a connection …
const CONNECTS_WITHIN: Duration = Duration::from_secs(20);
/// … or to begin its answer is one that does not answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Fetches what is at this address, once.
pub(crate) async fn fetch(url: String) -> Result<Vec<u8>, FetchError> {
    let fetched = spawn_blocking(move || {
        let request = ureq::get(&url).config();
        let request = request
            .timeout_connect(Some(CONNECTS_WITHIN))
            .timeout_recv_response(Some(ANSWERS_WITHIN));
        let mut response = request.build().call()?;
        response.body_mut().with_config().limit(MOST_BYTES).read_to_vec()
    });
    match fetched.await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(ureq::Error::StatusCode(status))) => Err(FetchError::Status(status)),
        Ok(Err(error)) => Err(FetchError::NoAnswer(error.to_string())),
        Err(error) => Err(FetchError::NoAnswer(error.to_string())),
    }
}
