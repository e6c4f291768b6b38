//! The model as an operator takes it away: `safetensors`, with PyTorch's names and layouts.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nn::Model;
use run::dataset::Legend;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// What a model file says of its model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct About {
    /// The name of its run.
    pub(crate) run: String,
    /// Its version.
    pub(crate) version: u64,
    /// The samples that it was trained on.
    pub(crate) samples: u64,
}

/// The bytes of a `.safetensors` file with the parameters, each under its name.
pub(crate) fn model_file(model: &Model, parameters: &[f32], legend: Option<&Legend>, about: &About) -> Result<Vec<u8>> {
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
        .collect::<Result<Vec<_>>>()?;
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
pub(crate) fn read_model_file(model: &Model, bytes: &[u8]) -> Result<(Vec<f32>, About)> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).context("it is not a safetensors file")?;
    let tensors = SafeTensors::deserialize(bytes).context("it is not a safetensors file")?;
    let mut parameters = Vec::with_capacity(model.parameter_count());
    for parameter in model.parameters() {
        let tensor = tensors
            .tensor(&parameter.name)
            .with_context(|| format!("it has no \"{}\"", parameter.name))?;
        ensure!(
            tensor.dtype() == Dtype::F32 && tensor.shape() == parameter.shape,
            "its \"{}\" is {:?} of {:?}; the run's model needs F32 of {:?}",
            parameter.name,
            tensor.dtype(),
            tensor.shape(),
            parameter.shape,
        );
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

/// Writes a file so that it is there whole or not at all, whenever the machine stops. The directory is written too: the
/// new name is its content.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let place = || format!("{}: can't be written", path.display());
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let mut file = fs::File::create(&unfinished).with_context(place)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(place)?;
    fs::rename(&unfinished, path).with_context(place)?;
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    fs::File::open(directory)
        .and_then(|directory| directory.sync_all())
        .with_context(place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use run::run_file::RunFile;

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
            format!("{error:#}"),
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
