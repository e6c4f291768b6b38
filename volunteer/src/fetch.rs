//! What a volunteer fetches over HTTP, and when it tries again.

use std::time::Duration;

use bsp::backoff::Backoff;
use bsp::time::Time;

/// The first wait before a fetch is tried again; it doubles with each that fails, …
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Something that the server has for volunteers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// The run's description.
    Description,
    /// A shard of the training samples.
    Shard {
        /// Its place in the description's list.
        index: usize,
        /// The name under which the server has it.
        name: String,
    },
}

impl Resource {
    /// Where it is, below the server's address.
    pub fn path(&self) -> String {
        match self {
            Resource::Description => "/api/v1/run".to_owned(),
            Resource::Shard { name, .. } => format!("/api/v1/shards/{name}"),
        }
    }
}

/// Why a fetch brought nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There was no answer, or it was lost on the way.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The server answered with a status other than success.
    #[error("the server answered {0}")]
    Status(u16),
}

impl FetchError {
    /// Whether another try may succeed: the server is away, or overloaded, or being replaced. Any other answer stays
    /// the same.
    pub fn is_passing(&self) -> bool {
        match self {
            FetchError::NoAnswer(_) => true,
            FetchError::Status(status) => matches!(status, 408 | 429 | 500..=599),
        }
    }
}

/// The one fetch that a volunteer has under way, or waits to try again.
#[derive(Debug)]
pub(crate) struct Fetch {
    wanted: Option<Resource>,
    /// When to try again; `None` while an answer is awaited.
    again_at: Option<Time>,
    backoff: Backoff,
}

impl Fetch {
    pub(crate) fn new(seed: u64) -> Fetch {
        Fetch {
            wanted: None,
            again_at: None,
            backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT, seed),
        }
    }

    /// This is fetched from now on, and nothing else.
    pub(crate) fn begin(&mut self, resource: Resource) {
        self.wanted = Some(resource);
        self.again_at = None;
        self.backoff.on_success();
    }

    /// Whether an answer about `resource` is awaited. One that comes after a fresh start is not.
    pub(crate) fn awaits(&self, resource: &Resource) -> bool {
        self.wanted.as_ref() == Some(resource) && self.again_at.is_none()
    }

    /// The answer is here, or none is wanted any more.
    pub(crate) fn end(&mut self) {
        self.wanted = None;
        self.again_at = None;
    }

    /// It failed, and is tried again after the wait that is returned.
    pub(crate) fn put_off(&mut self, now: Time) -> Duration {
        let wait = self.backoff.on_failure();
        self.again_at = Some(now + wait);
        wait
    }

    /// What to fetch again, if it is time; then an answer is awaited.
    pub(crate) fn again(&mut self, now: Time) -> Option<Resource> {
        self.again_at.take_if(|due| *due <= now)?;
        self.wanted.clone()
    }

    /// When [`Fetch::again`] wants to be asked.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.again_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(FetchError::NoAnswer("connection refused".to_owned()).is_passing());
        for status in [408, 429, 500, 502, 503, 504, 599] {
            assert!(FetchError::Status(status).is_passing(), "{status}");
        }
        for status in [304, 400, 401, 403, 404, 405, 410, 418] {
            assert!(!FetchError::Status(status).is_passing(), "{status}");
        }
    }

    #[test]
    fn a_fetch_is_tried_again_once_for_each_failure() {
        let mut fetch = Fetch::new(1);
        fetch.begin(Resource::Description);
        assert!(fetch.awaits(&Resource::Description));
        let wait = fetch.put_off(Time::ZERO);
        assert!(!fetch.awaits(&Resource::Description));
        assert_eq!(fetch.next_timeout(), Some(Time::ZERO + wait));
        assert_eq!(fetch.again(Time::ZERO), None);
        assert_eq!(fetch.again(Time::ZERO + wait), Some(Resource::Description));
        assert_eq!(fetch.again(Time::ZERO + wait), None);
        assert!(fetch.awaits(&Resource::Description));
    }
}
