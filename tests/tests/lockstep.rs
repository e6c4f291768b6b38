//! With one volunteer, one ML module and `mode = "lockstep"` the run is sequential training, bit for bit.

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::model::ModelFile;
use tests::native_volunteer::native_volunteer;
use tests::program::{output_of, superstep};
use tests::run_file::{DIGITS_MINIBATCH, RunText};
use tests::server::{Serve, Server};
use tests::tab::Tab;
use tests::wait::wait_until;

/// Enough steps for the smallest difference to show in every parameter.
const STEPS: u64 = 200;

#[test]
fn one_tab_in_lockstep_is_bit_identical_to_the_reference() -> Result<()> {
    let server = Serve::kiosk().run(RunText::digits_in_lockstep()?).start()?;
    let driver = Driver::start(Browser::Chromium)?;
    Tab::open(&driver, &server.joining_url(1))?;
    expect_the_references_model(&server)?;
    driver.expect_no_console_errors()
}

#[test]
fn one_native_volunteer_in_lockstep_is_bit_identical_to_the_reference() -> Result<()> {
    let server = Serve::default().run(RunText::digits_in_lockstep()?).start()?;
    let _native = native_volunteer(server.url())?;
    expect_the_references_model(&server)
}

fn expect_the_references_model(server: &Server) -> Result<()> {
    wait_until("200 versions", || Ok(server.version()? >= STEPS))?;
    let distributed = ModelFile::read(&server.model_file()?)?;
    ensure!(
        distributed.version >= STEPS,
        "the model is version {}",
        distributed.version
    );

    let directory = TempDir::new()?;
    let path = directory.path().join("reference.safetensors");
    let mut command = superstep();
    command.arg("reference").arg(server.run_file());
    command.args([
        "--batch",
        &DIGITS_MINIBATCH.to_string(),
        "--steps",
        &distributed.version.to_string(),
    ]);
    command.arg("--model").arg(&path);
    let output = output_of(command)?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let reference = ModelFile::read(&std::fs::read(path)?)?;

    ensure!(distributed.version == reference.version && distributed.shapes() == reference.shapes());
    for (name, (_, bytes)) in &distributed.tensors {
        ensure!(
            *bytes == reference.tensors[name].1,
            "{name} differs after {} steps",
            distributed.version
        );
    }
    Ok(())
}
