//! The model as an operator takes it away: `safetensors`, with PyTorch's names and layouts.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use nn::Model;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use thiserror::Error;

use crate::dataset::Legend;

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

/// Why a model file can't be written, or is not the run's.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// Its header can't be made or read.
    #[error("it is not a safetensors file")]
    Format(#[from] SafeTensorError),
    /// What it says of its model can't be written.
    #[error("its metadata can't be written")]
    Metadata(#[from] serde_json::Error),
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

/// The bytes of a `.safetensors` file with the parameters, each under its name.
///
/// # Errors
/// None is known: the format has room for every model.
pub fn model_file(
    model: &Model,
    parameters: &[f32],
    legend: Option<&Legend>,
    about: &About,
) -> Result<Vec<u8>, ModelFileError> {
    let bytes: Vec<u8> = parameters
        .iter()
        .flat_map(|parameter| parameter.to_le_bytes())
        .collect();
    let tensors = model
        .parameters()
        .iter()
        .map(|parameter| {
            let range = parameter.range.start * size_of::<f32>()..parameter.range.end * size_of::<f32>();
            let view = TensorView::new(Dtype::F32, parameter.shape.clone(), &bytes[range])?;
            Ok((parameter.name.clone(), view))
        })
        .collect::<Result<Vec<_>, ModelFileError>>()?;
    let mut metadata = HashMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("run".to_owned(), about.run.clone()),
        ("version".to_owned(), about.version.to_string()),
        ("samples".to_owned(), about.samples.to_string()),
        ("model".to_owned(), serde_json::to_string(model.spec())?),
    ]);
    if let Some(legend) = legend {
        metadata.insert("legend".to_owned(), serde_json::to_string(legend)?);
    }
    Ok(safetensors::serialize(tensors, Some(metadata))?)
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
    let said = metadata.metadata().clone().unwrap_or_default();
    let number = |key: &str| said.get(key).and_then(|text| text.parse().ok()).unwrap_or(0);
    let about = About {
        run: said.get("run").cloned().unwrap_or_default(),
        version: number("version"),
        samples: number("samples"),
    };
    Ok((parameters, about))
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

    #[test]
    fn a_model_comes_back_bit_for_bit_under_pytorchs_names() {
        let model = model();
        let parameters = model.initial_parameters(7);
        let about = About {
            run: "digits".to_owned(),
            version: 3,
            samples: 384,
        };
        let bytes = model_file(&model, &parameters, None, &about).expect("writes");
        let (read, said) = read_model_file(&model, &bytes).expect("reads");
        assert_eq!((read, said), (parameters, about));
        let file = SafeTensors::deserialize(&bytes).expect("reads");
        assert_eq!(
            file.tensor("0.weight").expect("the first convolution").shape(),
            [16, 1, 3, 3]
        );
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
        let about = About {
            run: String::new(),
            version: 0,
            samples: 0,
        };
        let bytes = model_file(&other, &other.initial_parameters(1), None, &about).expect("writes");
        let error = read_model_file(&model(), &bytes)
            .expect_err("another shape")
            .to_string();
        assert!(error.contains(".weight") && error.contains("[7, 64]"), "{error}");
        assert!(read_model_file(&model(), b"no such file").is_err());
    }
}
