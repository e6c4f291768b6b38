//! The model as an operator takes it away: `safetensors`, with PyTorch's names and layouts.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use nn::Model;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// The bytes of a `.safetensors` file with the parameters, each under its name.
pub(crate) fn model_file(model: &Model, parameters: &[f32], run: &str, version: u64) -> Result<Vec<u8>> {
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
    let about = HashMap::from([
        ("format".to_owned(), "pt".to_owned()),
        ("run".to_owned(), run.to_owned()),
        ("version".to_owned(), version.to_string()),
        ("model".to_owned(), serde_json::to_string(model.spec())?),
    ]);
    Ok(safetensors::serialize(tensors, Some(about))?)
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let place = || format!("{}: can't be written", path.display());
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".part");
    let mut file = fs::File::create(&unfinished).with_context(place)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .with_context(place)?;
    fs::rename(&unfinished, path).with_context(place)
}
