//! Build steps that cargo alone can't do.
//!
//! `cargo xtask web` makes `target/web`, the files that the server embeds: the pages as they lie in `web/`, uPlot,
//! and the wasm packages; each also compressed, because that takes too long to do at each request.
//!
//! `cargo xtask engine` makes the wasm packages below `target/engine`, the files that `make bench` measures engines
//! with: ours, and that of peers in Rust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

/// Where the files lie that engines are measured with.
const ENGINE: &str = "target/engine";
const TARGET: &str = "wasm32-unknown-unknown";
/// What pages are made of; everything else in `web/` is for development.
const PAGE_EXTENSIONS: [&str; 5] = ["html", "css", "js", "svg", "webmanifest"];
/// (Where it lies below `web/node_modules`, where it is served.)
const VENDORED: [(&str, &str); 2] = [
    ("uplot/dist/uPlot.esm.js", "vendor/uPlot.esm.js"),
    ("uplot/dist/uPlot.min.css", "vendor/uPlot.min.css"),
];

/// Crates of which a page simulates a run. A run takes a few milliseconds of computing: there size counts.
const SIMULATED: [&str; 8] = [
    "bsp",
    "bytes",
    "postcard",
    "serde",
    "serde_json",
    "simulator",
    "simulator-wasm",
    "state",
];

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask lies in the workspace")?;
    match std::env::args().nth(1).as_deref() {
        Some("web") => web(root),
        Some("engine") => engine(root),
        _ => bail!("usage: cargo xtask web, or cargo xtask engine"),
    }
}

fn web(root: &Path) -> Result<()> {
    let out = root.join("target/web");
    if out.exists() {
        fs::remove_dir_all(&out).with_context(|| format!("{}: can't be removed", out.display()))?;
    }
    fs::create_dir_all(out.join("vendor"))?;
    wasm_package(root, root, "client-wasm", &out.join("wasm"))?;
    wasm_package_with(root, root, "simulator-wasm", &out.join("simulator"), &small(&SIMULATED))?;
    copy_pages(&root.join("web"), &out)?;
    for file in files_below(&out)? {
        let compressed = compress(&file)?;
        if file.extension().is_some_and(|extension| extension == "wasm") {
            let plain = fs::metadata(&file)?.len();
            println!("{}: {plain} bytes, {compressed} with brotli", file.display());
        }
    }
    Ok(())
}

fn engine(root: &Path) -> Result<()> {
    let out = root.join(ENGINE);
    fs::create_dir_all(&out)?;
    wasm_package(root, root, "engine-wasm", &out.join("ours"))?;
    wasm_package(root, &root.join("bench/peers/rust"), "rust-peers", &out.join("rust"))
}

/// Compiles a package of the workspace at `workspace` with a standard library that has atomics, and binds it for
/// `<script type="module">`. All packages get the flags of `.cargo/config.toml`.
fn wasm_package(root: &Path, workspace: &Path, package: &str, out: &Path) -> Result<()> {
    wasm_package_with(root, workspace, package, out, &[])
}

/// Settings of cargo that make these packages small.
fn small(packages: &[&str]) -> Vec<String> {
    let settings = packages.iter().flat_map(|package| {
        let setting = format!("profile.release.package.{package}.opt-level=\"z\"");
        ["--config".to_owned(), setting]
    });
    settings.collect()
}

/// The same, with further arguments of `cargo build`.
fn wasm_package_with(root: &Path, workspace: &Path, package: &str, out: &Path, arguments: &[String]) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target = root.join("target");
    let status = Command::new(cargo)
        .current_dir(workspace)
        .args(["build", "--quiet", "--release"])
        .args(["--package", package, "--target", TARGET])
        .args(["-Z", "build-std=std,panic_abort"])
        .args(arguments)
        .arg("--target-dir")
        .arg(&target)
        // `-Z build-std` on a stable compiler, Debian's.
        .env("RUSTC_BOOTSTRAP", "1")
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("{package} does not compile; see above");
    }
    let module = format!("{}.wasm", package.replace('-', "_"));
    Bindgen::new()
        // Names of functions are 18 KiB of what a volunteer waits for.
        .remove_name_section(true)
        .remove_producers_section(true)
        .input_path(target.join(TARGET).join("release").join(module))
        .web(true)?
        .typescript(true)
        // What stands in for `Atomics.waitAsync` where a browser has none is a worker, which shares memory only if
        // its script has an address of ours.
        .split_linked_modules(true)
        .generate(out)
}

fn copy_pages(web: &Path, out: &Path) -> Result<()> {
    for entry in fs::read_dir(web)? {
        let path = entry?.path();
        let is_page = path
            .extension()
            .is_some_and(|extension| PAGE_EXTENSIONS.iter().any(|known| extension == *known));
        if let (true, Some(name)) = (is_page, path.file_name()) {
            fs::copy(&path, out.join(name))?;
        }
    }
    for (from, to) in VENDORED {
        let from = web.join("node_modules").join(from);
        fs::copy(&from, out.join(to)).with_context(|| format!("{}: run `npm ci` in web/", from.display()))?;
    }
    Ok(())
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// Writes `file` with `.br` behind its name, and says how long that is.
fn compress(file: &Path) -> Result<usize> {
    const BUFFER: usize = 1 << 16;
    const QUALITY: u32 = 11;
    const WINDOW: u32 = 22;
    let bytes = fs::read(file)?;
    let mut compressed = Vec::new();
    let mut reader = brotli::CompressorReader::new(bytes.as_slice(), BUFFER, QUALITY, WINDOW);
    std::io::copy(&mut reader, &mut compressed)?;
    let mut name = file.as_os_str().to_owned();
    name.push(".br");
    fs::write(name, &compressed)?;
    Ok(compressed.len())
}
