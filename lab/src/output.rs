//! Results on standard output.

use std::io::{self, Write};

/// Results that can't be printed.
#[derive(Debug, thiserror::Error)]
#[error("standard output: can't be written")]
pub struct Unprintable(#[from] io::Error);

impl Unprintable {
    /// Whether the reader went away, as `head` does when it has read enough.
    pub fn is_reader_gone(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints this as it is.
pub(crate) fn print(text: &str) -> Result<(), Unprintable> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    Ok(output.flush()?)
}
