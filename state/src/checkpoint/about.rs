//! What says which run a checkpoint is of.

use std::io;

use serde::{Deserialize, Serialize};

use super::container::Container;
use super::data::{Data, Part};
use super::problem::Problem;

/// What says which run a checkpoint is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The run's number.
    pub run_id: u64,
    /// The run's name.
    pub run: String,
    /// The hash of the model's description.
    pub spec_hash: u64,
    /// The hash of the data.
    pub data_hash: u64,
    /// The run's seed.
    pub seed: u64,
    /// Parameters of the model.
    pub parameters: u64,
    /// The incarnation that wrote it.
    pub incarnation: u32,
}

/// The part of format 1: a field's place is its meaning.
#[derive(Serialize, Deserialize)]
struct AboutV1 {
    run_id: u64,
    run: String,
    spec_hash: u64,
    data_hash: u64,
    seed: u64,
    parameters: u64,
    incarnation: u32,
}

/// The part.
pub(super) fn part(about: &About) -> io::Result<Part<'static>> {
    let about = about.clone();
    let part = AboutV1 {
        run_id: about.run_id,
        run: about.run,
        spec_hash: about.spec_hash,
        data_hash: about.data_hash,
        seed: about.seed,
        parameters: about.parameters,
        incarnation: about.incarnation,
    };
    Ok(Part::new("about", Data::of(&part)?))
}

/// What the part says.
pub(super) fn read(container: &Container<'_>) -> Result<About, Problem> {
    let part: AboutV1 = container.decoded("about")?;
    Ok(About {
        run_id: part.run_id,
        run: part.run,
        spec_hash: part.spec_hash,
        data_hash: part.data_hash,
        seed: part.seed,
        parameters: part.parameters,
        incarnation: part.incarnation,
    })
}

impl About {
    /// Whether a checkpoint of this description belongs to the run `run`.
    ///
    /// # Errors
    /// What it is of instead.
    pub fn check(&self, run: &About) -> Result<(), Problem> {
        if self.spec_hash != run.spec_hash || self.parameters != run.parameters {
            return Err(Problem::AnotherModel {
                got: self.parameters,
                expected: run.parameters,
            });
        }
        if self.run_id != run.run_id {
            return Err(Problem::AnotherRun {
                got: self.run.clone(),
                expected: run.run.clone(),
            });
        }
        if self.data_hash != run.data_hash {
            return Err(Problem::AnotherDataset);
        }
        if self.seed != run.seed {
            return Err(Problem::AnotherSeed {
                got: self.seed,
                expected: run.seed,
            });
        }
        Ok(())
    }
}
