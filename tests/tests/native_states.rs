//! A native volunteer says what it does, waits for its server as long as it is told, and says with its exit code why it
//! ended.

use anyhow::{Result, ensure};
use tests::native_volunteer::{native_volunteer, native_volunteer_with};
use tests::program::Program;
use tests::server::Serve;
use tests::wait::wait_until;

fn wait_for_line(volunteer: &Program, beginning: &str) -> Result<()> {
    wait_until(beginning, || {
        Ok(volunteer.stdout().iter().any(|line| line.starts_with(beginning)))
    })
}

#[test]
fn it_waits_for_its_server_for_ever_and_says_each_change_in_one_line() -> Result<()> {
    let mut server = Serve::default().start()?;
    let (url, port) = (server.url().to_owned(), server.address().port());
    let mut volunteer = native_volunteer(&url)?;
    wait_for_line(&volunteer, "training")?;
    server.wait_for_contributors(1)?;
    server.kill()?;
    wait_for_line(&volunteer, "away since ")?;

    let again = Serve {
        port,
        ..Serve::default()
    }
    .start()?;
    wait_for_line(&volunteer, "training: resumed after ")?;
    again.wait_for_contributors(1)?;
    volunteer.signal("TERM")?;
    ensure!(volunteer.wait_for_end()?.success());
    let said = volunteer.stdout();
    ensure!(
        said[0] == format!("connecting to {url}") && said[1] == "training",
        "{said:#?}"
    );
    ensure!(said.len() <= 6, "more than the changes: {said:#?}");
    Ok(())
}

#[test]
fn it_gives_up_a_server_that_never_answers_when_it_is_told_to() -> Result<()> {
    let server = Serve::default().start()?;
    let url = server.url().to_owned();
    drop(server);
    for [limit, words] in [["0", "0 s"], ["1", "1 s"]] {
        let mut volunteer = native_volunteer_with(&url, &["--give-up-after", limit])?;
        let status = volunteer.wait_for_end()?;
        ensure!(status.code() == Some(3), "it ended with {status}");
        let said = volunteer.stdout();
        ensure!(
            said.len() == 2 && said[1].starts_with("waiting since ") && said[1].ends_with(words),
            "{said:#?}"
        );
        let log = volunteer.log();
        ensure!(
            log.last()
                .is_some_and(|line| line.contains("given up") && line.contains(&url)),
            "{log:#?}"
        );
    }
    Ok(())
}

#[test]
fn it_gives_up_a_server_that_went_away_when_it_is_told_to() -> Result<()> {
    let mut server = Serve::default().start()?;
    let mut volunteer = native_volunteer_with(server.url(), &["--give-up-after", "2s"])?;
    server.wait_for_contributors(1)?;
    server.kill()?;
    let status = volunteer.wait_for_end()?;
    ensure!(status.code() == Some(3), "it ended with {status}");
    ensure!(
        volunteer
            .stdout()
            .last()
            .is_some_and(|line| line.starts_with("away since ")),
        "{:#?}",
        volunteer.stdout()
    );
    Ok(())
}

#[test]
fn a_duration_that_is_none_is_refused_with_a_hint() -> Result<()> {
    let mut volunteer = native_volunteer_with("http://127.0.0.1:9", &["--give-up-after", "soon"])?;
    let status = volunteer.wait_for_end()?;
    ensure!(status.code() == Some(2), "it ended with {status}");
    let log = volunteer.log().join("\n");
    ensure!(log.contains("90s, 10m or 1h"), "{log}");
    Ok(())
}

#[test]
fn it_says_that_a_stopped_server_will_be_back_and_that_a_run_that_reached_its_aim_is_finished() -> Result<()> {
    let mut server = Serve::default().start()?;
    let volunteer = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    server.stop()?;
    wait_until("the volunteer to say that the server will be back", || {
        let said = volunteer.stdout();
        Ok(said
            .iter()
            .any(|line| line.starts_with("away since ") && line.contains("it will be back")))
    })?;
    drop(volunteer);

    let mut server = Serve {
        stop_at_target: true,
        ..Serve::default()
    }
    .start()?;
    let mut volunteer = native_volunteer(server.url())?;
    ensure!(server.wait_for_end()?.success());
    ensure!(volunteer.wait_for_end()?.success(), "a volunteer of a finished run");
    ensure!(
        volunteer
            .stdout()
            .last()
            .is_some_and(|line| line.starts_with("finished: ")),
        "{:#?}",
        volunteer.stdout()
    );
    Ok(())
}
