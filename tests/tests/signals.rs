//! Ctrl-C, SIGTERM, a closed terminal: one wish of the operator, for the server and for a native volunteer.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tests::native_volunteer::native_volunteer;
use tests::peer::Peer;
use tests::program::{Program, in_shell, superstep};
use tests::server::{Serve, Server, whole};
use tests::wait::wait_until;

const SIGNALS: [&str; 3] = ["INT", "TERM", "HUP"];
/// Whatever this test itself ignores, the program does not.
const SIGNALS_AS_USUAL: &str = r#"exec env --default-signal=INT,TERM,HUP "$@""#;
/// A stop takes no longer; a margin for a loaded machine is in it.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// Signals this far apart are not one Ctrl-C that came twice.
const LATER: Duration = Duration::from_millis(400);

fn serve() -> Result<Server> {
    Serve {
        script: Some(SIGNALS_AS_USUAL),
        ..Serve::default()
    }
    .start()
}

#[test]
fn each_signal_ends_a_run_within_five_seconds_with_its_model_written() -> Result<()> {
    for signal in SIGNALS {
        let mut server = serve()?;
        let _native = native_volunteer(server.url())?;
        server.wait_for_contributors(1)?;
        let samples = server.samples()?;
        let began = Instant::now();
        server.signal(signal)?;
        let status = server.wait_for_end()?;
        ensure!(status.success(), "SIG{signal}: the server ended with {status}");
        ensure!(began.elapsed() < STOPS_WITHIN, "SIG{signal}: {:?}", began.elapsed());
        let summary = serde_json::from_slice(&std::fs::read(server.out().join("summary.json"))?)?;
        ensure!(
            whole(&summary, "samples_in_model")? >= samples,
            "SIG{signal}: fewer than {samples} samples in {summary:#}"
        );
        ensure!(server.out().join("model.safetensors").exists(), "SIG{signal}: no model");
    }
    Ok(())
}

#[test]
fn a_second_signal_ends_the_server_at_once_and_the_log_says_what_was_not_written() -> Result<()> {
    let mut server = serve()?;
    // It never closes its socket, for which the server waits a while.
    let _silent = Peer::connect(&server)?.join()?;
    server.signal("INT")?;
    sleep(LATER);
    let began = Instant::now();
    server.signal("TERM")?;
    let status = server.wait_for_end()?;
    ensure!(status.code() == Some(128 + 15), "the server ended with {status}");
    ensure!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let out = server.out();
    let said = format!("the model and the summary were not written to {}", out.display());
    ensure!(
        server.log().last().is_some_and(|line| line.ends_with(&said)),
        "{:#?}",
        server.log()
    );
    Ok(())
}

#[test]
fn a_signal_that_comes_twice_at_once_and_a_closing_terminal_are_one_wish() -> Result<()> {
    for [first, second, third] in [["INT", "INT", "INT"], ["TERM", "HUP", "HUP"], ["HUP", "HUP", "HUP"]] {
        let mut server = serve()?;
        let _silent = Peer::connect(&server)?.join()?;
        server.signal(first)?;
        server.signal(second)?;
        if third == "HUP" {
            sleep(LATER);
            server.signal(third)?;
        }
        let status = server.wait_for_end()?;
        ensure!(status.success(), "{first}, {second}: the server ended with {status}");
        ensure!(server.out().join("model.safetensors").exists(), "no model");
    }
    Ok(())
}

#[test]
fn a_server_under_nohup_outlives_its_terminal() -> Result<()> {
    let mut server = Serve {
        script: Some(r#"exec nohup "$@""#),
        ..Serve::default()
    }
    .start()?;
    server.signal("HUP")?;
    sleep(LATER);
    server.status()?;
    let status = server.stop()?;
    ensure!(status.success(), "the server ended with {status}");
    Ok(())
}

#[test]
fn each_signal_lets_a_native_volunteer_leave_with_all_that_it_finished() -> Result<()> {
    let server = Serve::default().start()?;
    for signal in SIGNALS {
        let mut native = volunteer(&server)?;
        server.wait_for_contributors(1)?;
        native.signal(signal)?;
        let status = native.wait_for_end()?;
        ensure!(status.success(), "SIG{signal}: the volunteer ended with {status}");
        ensure!(
            native.log().iter().any(|line| line.ends_with("leaving")),
            "SIG{signal}: {:#?}",
            native.log()
        );
        wait_until("it to be gone", || Ok(server.volunteers()?.is_empty()))?;
    }
    Ok(())
}

#[test]
fn a_second_signal_ends_a_native_volunteer_at_once_when_its_server_says_nothing() -> Result<()> {
    let server = Serve::default().start()?;
    for is_second_sent in [true, false] {
        let mut native = volunteer(&server)?;
        server.wait_for_contributors(1)?;
        server.signal("STOP")?;
        native.signal("INT")?;
        if is_second_sent {
            sleep(LATER);
            native.signal("INT")?;
        }
        let status = native.wait_for_end();
        server.signal("CONT")?;
        let status = status?;
        if is_second_sent {
            ensure!(status.code() == Some(128 + 2), "the volunteer ended with {status}");
            let said = "stopped at once; what was computed and not sent is lost";
            ensure!(
                native.log().iter().any(|line| line.ends_with(said)),
                "{:#?}",
                native.log()
            );
        } else {
            ensure!(status.success(), "the volunteer ended with {status}");
        }
        wait_until("it to be gone", || Ok(server.volunteers()?.is_empty()))?;
    }
    Ok(())
}

fn volunteer(server: &Server) -> Result<Program> {
    let mut command = superstep();
    command.args(["volunteer", server.url(), "--workers", "1"]);
    Program::start("superstep volunteer", in_shell(SIGNALS_AS_USUAL, &command))
}
