//! The model that an operator takes away.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use safetensors::{Dtype, SafeTensors};

/// A `.safetensors` file, read with the library that everybody reads them with.
#[derive(Debug, PartialEq, Eq)]
pub struct ModelFile {
    /// The version that it says it is.
    pub version: u64,
    /// Shape and bytes of each tensor, by name.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl ModelFile {
    /// Reads it.
    ///
    /// # Errors
    /// A file that isn't one, or has tensors of other numbers than f32.
    pub fn read(bytes: &[u8]) -> Result<ModelFile> {
        let (_, about) = SafeTensors::read_metadata(bytes)?;
        let about = about
            .metadata()
            .as_ref()
            .context("the file says nothing about itself")?;
        let version = about
            .get("version")
            .context("the file does not say its version")?
            .parse()?;
        let mut tensors = BTreeMap::new();
        for (name, tensor) in SafeTensors::deserialize(bytes)?.tensors() {
            anyhow::ensure!(tensor.dtype() == Dtype::F32, "{name} is of {:?}", tensor.dtype());
            tensors.insert(name, (tensor.shape().to_vec(), tensor.data().to_vec()));
        }
        Ok(ModelFile { version, tensors })
    }

    /// Whether all its numbers are finite.
    pub fn is_finite(&self) -> bool {
        let bytes = self.tensors.values().flat_map(|(_, bytes)| bytes.as_chunks().0);
        let mut values = bytes.map(|value| f32::from_le_bytes(*value));
        values.all(f32::is_finite)
    }

    /// The names and shapes of its tensors.
    pub fn shapes(&self) -> Vec<(&str, &[usize])> {
        self.tensors
            .iter()
            .map(|(name, (shape, _))| (&**name, &**shape))
            .collect()
    }
}
