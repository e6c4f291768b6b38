//! The model as an operator takes it away: `safetensors`, with PyTorch's names and layouts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nn::{Model, Parameter};
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::Serialize;
use thiserror::Error;

use crate::dataset::Legend;

/// Bytes of a parameter.
const BYTES: usize = size_of::<f32>();
/// The format's: parameters begin at a multiple of this many bytes.
const ALIGNMENT: usize = 8;

/// What a model file says of its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// The name of its run.
    pub run: String,
    /// Its version.
    pub version: u64,
    /// The samples that it was trained on.
    pub samples: u64,
}

/// Why bytes are not a file of the run's model.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// They are of another format.
    #[error("it is not a safetensors file")]
    Format(#[from] SafeTensorError),
    /// It lacks a parameter of the model.
    #[error("it has no \"{name}\"")]
    Missing {
        /// The parameter's name.
        name: String,
        /// What the reader says.
        source: SafeTensorError,
    },
    /// A parameter has another shape than the model's, or another type.
    #[error("its \"{name}\" is {dtype:?} of {shape:?}; the run's model needs F32 of {needed:?}")]
    Misfit {
        /// The parameter's name.
        name: String,
        /// The type that it has in the file.
        dtype: Dtype,
        /// The shape that it has in the file.
        shape: Vec<usize>,
        /// The shape that it has in the model.
        needed: Vec<usize>,
    },
}

/// A file that can't be written.
#[derive(Debug, Error)]
#[error("{}: can't be written", .path.display())]
pub struct WriteError {
    /// Where it was to be.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// The header of the format, in an order of its own: the library's writer takes the order of a hash map, so that equal
/// models would differ in their bytes.
#[derive(Serialize)]
struct Header<'a> {
    #[serde(rename = "__metadata__")]
    metadata: BTreeMap<&'static str, String>,
    #[serde(flatten)]
    tensors: BTreeMap<&'a str, TensorInfo>,
}

/// The bytes of a `.safetensors` file with the parameters, each under its name. They follow from the arguments alone.
///
/// # Errors
/// None is known: every specification and every legend can be written as JSON.
pub fn model_file(
    model: &Model,
    parameters: &[f32],
    legend: Option<&Legend>,
    about: &About,
) -> Result<Vec<u8>, serde_json::Error> {
    let tensor = |parameter: &Parameter| TensorInfo {
        dtype: Dtype::F32,
        shape: parameter.shape.clone(),
        data_offsets: (parameter.range.start * BYTES, parameter.range.end * BYTES),
    };
    let tensors = model.parameters().iter();
    let mut metadata = BTreeMap::from([
        ("format", "pt".to_owned()),
        ("run", about.run.clone()),
        ("version", about.version.to_string()),
        ("samples", about.samples.to_string()),
        ("model", serde_json::to_string(model.spec())?),
    ]);
    if let Some(legend) = legend {
        metadata.insert("legend", serde_json::to_string(legend)?);
    }
    let mut header = serde_json::to_vec(&Header {
        metadata,
        tensors: tensors
            .map(|parameter| (&parameter.name[..], tensor(parameter)))
            .collect(),
    })?;
    header.resize(header.len().next_multiple_of(ALIGNMENT), b' ');
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.reserve(header.len() + parameters.len() * BYTES);
    file.append(&mut header);
    file.extend(parameters.iter().flat_map(|parameter| parameter.to_le_bytes()));
    Ok(file)
}

/// The parameters in the bytes of a `.safetensors` file, which must be this model's, and what it says of them.
///
/// # Errors
/// Bytes that are no such file, or a file of another model.
pub fn read_model_file(model: &Model, bytes: &[u8]) -> Result<(Vec<f32>, About), ModelFileError> {
    let (_, metadata) = SafeTensors::read_metadata(bytes)?;
    let tensors = SafeTensors::deserialize(bytes)?;
    let mut parameters = Vec::with_capacity(model.parameter_count());
    for parameter in model.parameters() {
        let tensor = tensors
            .tensor(&parameter.name)
            .map_err(|source| ModelFileError::Missing {
                name: parameter.name.clone(),
                source,
            })?;
        if tensor.dtype() != Dtype::F32 || tensor.shape() != parameter.shape {
            return Err(ModelFileError::Misfit {
                name: parameter.name.clone(),
                dtype: tensor.dtype(),
                shape: tensor.shape().to_vec(),
                needed: parameter.shape.clone(),
            });
        }
        let (values, _) = tensor.data().as_chunks();
        parameters.extend(values.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok((parameters, said_in(&metadata)))
}

/// What the bytes of a `.safetensors` file say of their model, whatever model that is; `None` if they are no such file.
pub fn about_model_file(bytes: &[u8]) -> Option<About> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).ok()?;
    Some(said_in(&metadata))
}

fn said_in(metadata: &Metadata) -> About {
    let said = metadata.metadata().clone().unwrap_or_default();
    let number = |key: &str| said.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    About {
        run: said.get("run").cloned().unwrap_or_default(),
        version: number("version"),
        samples: number("samples"),
    }
}

/// Writes a file so that it is there whole or not at all, whenever the machine stops.
///
/// # Errors
/// What the system says against it.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_beside(path, bytes).map_err(|source| WriteError {
        path: path.to_owned(),
        source,
    })
}

/// Writes the file under another name, gives it its own, and writes the directory, whose content the new name is.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    fs::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run_file::RunFile;

    fn model() -> Model {
        Model::new(&RunFile::digits().expect("the embedded run").model).expect("its model")
    }

    fn about() -> About {
        About {
            run: "digits".to_owned(),
            version: 3,
            samples: 384,
        }
    }

    #[test]
    fn a_model_comes_back_bit_for_bit_under_pytorchs_names() {
        let model = model();
        let parameters = model.initial_parameters(7);
        let bytes = model_file(&model, &parameters, None, &about()).expect("writes");
        let (read, said) = read_model_file(&model, &bytes).expect("reads");
        assert_eq!((read, said), (parameters, about()));
        let file = SafeTensors::deserialize(&bytes).expect("reads");
        assert_eq!(
            file.tensor("0.weight").expect("the first convolution").shape(),
            [16, 1, 3, 3]
        );
    }

    #[test]
    fn equal_models_are_equal_files() {
        let model = model();
        let parameters = model.initial_parameters(7);
        let legend = Legend::Text {
            tokens: "0123456789".to_owned(),
        };
        let written = || model_file(&model, &parameters, Some(&legend), &about()).expect("writes");
        let first = written();
        assert!((0..8).all(|_| written() == first));
    }

    #[test]
    fn a_file_is_replaced_whole_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("model");
        for bytes in [&b"a longer one"[..], b"short"] {
            write_whole(&path, bytes).expect("writes");
            assert_eq!(fs::read(&path).expect("reads"), bytes);
            assert_eq!(fs::read_dir(directory.path()).expect("lists").count(), 1);
        }
        let nowhere = directory.path().join("no/such/folder");
        let error = write_whole(&nowhere, b"").expect_err("no folder");
        assert_eq!(
            format!("{error}: {}", error.source),
            format!(
                "{}: can't be written: No such file or directory (os error 2)",
                nowhere.display()
            )
        );
    }

    #[test]
    fn a_model_of_another_shape_is_refused_by_name() {
        let other = RunFile::digits().expect("the embedded run");
        let mut spec = other.model.clone();
        spec.layers.pop();
        spec.layers.push(nn::layer::Linear::new(7).into());
        let other = Model::new(&spec).expect("fits");
        let bytes = model_file(&other, &other.initial_parameters(1), None, &about()).expect("writes");
        let error = read_model_file(&model(), &bytes)
            .expect_err("another shape")
            .to_string();
        assert!(error.contains(".weight") && error.contains("[7, 64]"), "{error}");
        assert!(read_model_file(&model(), b"no such file").is_err());
    }
}
