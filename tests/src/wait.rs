//! How tests wait: they look again and again, with more patience than a loaded machine needs. Nothing is judged by how
//! long it took.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long anything may take. It is reached only by what will never come.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How soon to look again: often enough to lose no time, seldom enough to leave the machine to what is being tested.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Looks until there is something.
///
/// # Errors
/// The look's own error, at once; or that `what` did not come.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            bail!("waited {PATIENCE:?} in vain for {what}");
        }
        sleep(LOOK_AGAIN);
    }
}

/// Looks until it is so.
///
/// # Errors
/// As [`wait_for`].
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    wait_for(what, || Ok(is_so()?.then_some(())))
}
