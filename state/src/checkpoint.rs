//! A checkpoint as bytes: a container of parts, each with a checksum. `docs/internals/state-folder.md` has the format
//! byte by byte.
//!
//! Vectors are written as they are in memory, without a copy of the whole. The small parts are written in structs of
//! this format's own ([`version_1`]), so that a change of `bsp`'s types changes no file.

mod about;
mod container;
mod data;
mod problem;
mod version_1;

use std::io::{self, Write};

use bsp::central::Checkpoint;

pub use about::About;
pub use problem::Problem;

use container::Container;
use data::{Data, Part, floats};

/// The format that is written.
pub const FORMAT: u32 = 1;

/// The best evaluated model: what `best.superstep` holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// Its version.
    pub version: u64,
    /// The samples that it was trained on.
    pub samples: u64,
    /// The share of held-out samples that it answers rightly; none where answers are neither right nor wrong.
    pub accuracy: Option<f64>,
    /// Its mean loss on held-out samples.
    pub loss: f64,
    /// Its parameters.
    pub model: Vec<f32>,
}

/// Writes a checkpoint, and says how many bytes it has.
///
/// # Errors
/// What the writer says.
pub fn encode(about: &About, checkpoint: &Checkpoint, to: &mut dyn Write) -> io::Result<u64> {
    let mut parts = vec![about::part(about)?];
    parts.append(&mut version_1::parts(checkpoint)?);
    container::write(FORMAT, &parts, to)
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// What is wrong with the bytes. Whatever they are, nothing panics, and no more memory is taken than they have.
pub fn decode(bytes: &[u8]) -> Result<(About, Checkpoint), Problem> {
    let container = Container::read(bytes)?;
    let about = about::read(&container)?;
    let checkpoint = version_1::checkpoint(&container, &about)?;
    Ok((about, checkpoint))
}

/// Writes the best model, and says how many bytes the file has.
///
/// # Errors
/// What the writer says.
pub fn encode_best(about: &About, best: &Best, to: &mut dyn Write) -> io::Result<u64> {
    let said = version_1::BestV1 {
        version: best.version,
        samples: best.samples,
        accuracy: best.accuracy,
        loss: best.loss,
    };
    let parts = [
        about::part(about)?,
        Part::new("best", Data::of(&said)?),
        Part::new("model", Data::Floats(&best.model)),
    ];
    container::write(FORMAT, &parts, to)
}

/// Reads what [`encode_best`] wrote.
///
/// # Errors
/// As [`decode`].
pub fn decode_best(bytes: &[u8]) -> Result<(About, Best), Problem> {
    let container = Container::read(bytes)?;
    let about = about::read(&container)?;
    let said: version_1::BestV1 = container.decoded("best")?;
    let best = Best {
        version: said.version,
        samples: said.samples,
        accuracy: said.accuracy,
        loss: said.loss,
        model: floats(&container, "model", about.parameters)?,
    };
    Ok((about, best))
}

#[cfg(test)]
pub(crate) mod tests;
