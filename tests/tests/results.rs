//! The results of a run: they are never lost, and never replace those of another.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::model::ModelFile;
use tests::native_volunteer::native_volunteer;
use tests::program::{output_of, superstep};
use tests::server::{Serve, Server};

const MODEL: &str = "model.safetensors";

/// Serves a run until it has a version, and stops it.
fn train_into(out: &Path) -> Result<Server> {
    let mut server = Serve {
        out: Some(out.to_owned()),
        ..Serve::default()
    }
    .start()?;
    let _native = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}");
    Ok(server)
}

fn version(model: &Path) -> Result<u64> {
    Ok(ModelFile::read(&fs::read(model)?)?.version)
}

#[test]
fn the_next_run_keeps_the_model_of_the_one_before_and_says_where() -> Result<()> {
    let directory = TempDir::new()?;
    let out = directory.path().join("out");
    let _first = train_into(&out)?;
    let trained = fs::read(out.join(MODEL))?;

    // Started again, and stopped before anybody came.
    let mut nobody = Serve {
        out: Some(out.clone()),
        ..Serve::default()
    }
    .start()?;
    let status = nobody.stop()?;
    ensure!(status.success(), "the server ended with {status}");
    ensure!(
        fs::read(out.join(MODEL))? == trained,
        "version 0 replaced a trained model"
    );
    ensure!(
        nobody
            .log()
            .iter()
            .any(|line| line.contains("no version was made, so nothing was written")),
        "{:#?}",
        nobody.log()
    );

    let second = train_into(&out)?;
    let kept = out.join(format!("model-digits-{}.safetensors", version_of(&trained)?));
    ensure!(fs::read(&kept)? == trained, "the first run's model is lost");
    ensure!(
        second
            .log()
            .iter()
            .any(|line| line.contains(&kept.display().to_string())),
        "{:#?}",
        second.log()
    );
    ensure!(version(&out.join(MODEL))? > 0, "the second run's model is not there");
    Ok(())
}

fn version_of(model: &[u8]) -> Result<u64> {
    Ok(ModelFile::read(model)?.version)
}

#[test]
fn a_folder_that_cant_be_written_is_named_before_anybody_contributes() -> Result<()> {
    let directory = TempDir::new()?;
    let file = directory.path().join("file");
    fs::write(&file, "")?;
    for out in [file.clone(), file.join("out"), PathBuf::from("/proc/superstep")] {
        let mut serve = superstep();
        serve.args(["serve", "--listen", "127.0.0.1:0", "--out"]).arg(&out);
        serve.arg("--state").arg(directory.path().join("state"));
        expect_one_line(serve, &[&out.display().to_string(), "can't be written", "--out"])?;
        let mut simulate = superstep();
        let scenario = tests::program::root().join("scenarios/equal.toml");
        simulate.arg("simulate").arg(scenario).arg("--out").arg(&out);
        expect_one_line(simulate, &[&out.display().to_string(), "can't be written", "--out"])?;
        let mut reference = superstep();
        reference.args(["reference", "--model"]).arg(out.join(MODEL));
        expect_one_line(reference, &[&out.display().to_string(), "can't be written", "--model"])?;
    }
    Ok(())
}

fn expect_one_line(command: std::process::Command, words: &[&str]) -> Result<()> {
    let output = output_of(command)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.lines().count() == 1 && output.stdout.is_empty(), "{said}");
    ensure!(
        words.iter().all(|word| said.contains(word)),
        "{words:?} are not all in {said}"
    );
    Ok(())
}

#[test]
fn a_model_that_cant_be_written_at_the_end_is_left_elsewhere_and_that_is_no_success() -> Result<()> {
    let directory = TempDir::new()?;
    let out = directory.path().join("out");
    let (here, temporary) = (directory.path().join("here"), directory.path().join("temporary"));
    fs::create_dir(&temporary)?;
    for is_here_writable in [true, false] {
        fs::create_dir(&here)?;
        let mut server = Serve {
            script: Some(r#"cd "${TMPDIR%/temporary}/here" && exec "$@""#),
            environment: vec![("TMPDIR", temporary.clone())],
            out: Some(out.clone()),
            ..Serve::default()
        }
        .start()?;
        let native = native_volunteer(server.url())?;
        server.wait_for_contributors(1)?;
        // A file takes the folder's place.
        fs::remove_dir(&out)?;
        fs::write(&out, "")?;
        if !is_here_writable {
            fs::remove_dir(&here)?;
        }
        server.signal("TERM")?;
        let status = server.wait_for_end()?;
        ensure!(status.code() == Some(1), "the server ended with {status}");
        let place = match is_here_writable {
            true => here.join("superstep-digits"),
            false => temporary.join("superstep-digits"),
        };
        ensure!(version(&place.join(MODEL))? > 0, "no model in {}", place.display());
        ensure!(place.join("summary.json").exists(), "no summary");
        let log = server.log();
        let said = log.last().map_or("", |line| line);
        ensure!(
            said.contains(&place.display().to_string()) && said.contains(&out.display().to_string()),
            "{log:#?}"
        );
        drop(native);
        fs::remove_file(&out)?;
        if is_here_writable {
            fs::remove_dir_all(&here)?;
        }
    }
    Ok(())
}
