//! Versions of the peers, read where they are installed.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::program::root;

use super::native;

/// All of them, in one line.
pub(crate) fn of_peers() -> Result<String> {
    Ok(format!(
        "TensorFlow.js {}; jax-js {}; burn {}; candle {}; {}",
        of_npm_package("@tensorflow/tfjs-core")?,
        of_npm_package("@jax-js/jax")?,
        of_crate("burn")?,
        of_crate("candle-core")?,
        native::pytorch_version().unwrap_or_else(|error| error.to_string()),
    ))
}

fn of_npm_package(name: &str) -> Result<String> {
    let path = root().join("bench/peers/node_modules").join(name).join("package.json");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let package: Value = serde_json::from_str(&text)?;
    Ok(package["version"].as_str().context("a version")?.to_owned())
}

fn of_crate(name: &str) -> Result<String> {
    let path = root().join("bench/peers/rust/Cargo.lock");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lock: Value = toml::from_str(&text)?;
    let packages = lock["package"].as_array().context("packages")?;
    let package = packages.iter().find(|package| package["name"] == name);
    Ok(package.with_context(|| name.to_owned())?["version"]
        .as_str()
        .context("a version")?
        .to_owned())
}
