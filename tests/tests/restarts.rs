//! A server that is killed while it starts, at any instant: the next start goes on, and the books add up.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tempfile::TempDir;
use tests::native_volunteer::{accepted_samples_at_the_end, native_volunteer};
use tests::random::Random;
use tests::server::{Serve, whole};
use tests::wait::wait_until;

/// Where the instants of kills begin, unless the environment says `SEED=n`.
const SEED: u64 = 0x57a7;
/// How often it is killed while it starts, unless the environment says `KILLS=n`.
const KILLS: u64 = 30;

#[test]
fn a_server_that_is_killed_again_and_again_while_it_starts_loses_nothing_and_counts_nothing_twice() -> Result<()> {
    let number = |name, otherwise| std::env::var(name).ok().map_or(Ok(otherwise), |text| text.parse());
    let (kills, mut random) = (number("KILLS", KILLS)?, Random::new(number("SEED", SEED)?));
    let state = TempDir::new()?;
    let serve = |port| Serve {
        port,
        state: Some(state.path().to_owned()),
        ..Serve::default()
    };
    let mut server = serve(0).start()?;
    let port = server.address().port();
    let mut volunteers = [native_volunteer(server.url())?, native_volunteer(server.url())?];
    server.wait_for_contributors(2)?;
    wait_until("a checkpoint", || Ok(whole(&server.status()?, "checkpoints")? > 0))?;
    server.kill()?;

    // How long a start takes here, until it listens.
    let began = Instant::now();
    let mut server = serve(port).start()?;
    let start_micros = began.elapsed().as_micros() as u64;
    server.kill()?;
    let mut ages = Vec::new();
    for _ in 0..kills {
        let age = Duration::from_micros(random.below(2 * start_micros));
        serve(port).start_and_kill_after(age)?;
        ages.push(age);
    }

    let server = serve(port).start()?;
    let incarnation = whole(&server.status()?, "incarnation")?;
    println!("a start takes {start_micros} µs; killed after {ages:?}; then incarnation {incarnation}");
    // The first, the one that was measured and the last are three; some of the others have got as far.
    ensure!((4..=3 + kills).contains(&incarnation), "{}", server.status()?);
    for volunteer in server.wait_for_contributors(2)? {
        server.wait_for_more_of(volunteer.id)?;
    }
    let mut told = 0;
    for volunteer in &mut volunteers {
        told += accepted_samples_at_the_end(volunteer)?;
    }
    let status = server.status()?;
    println!("volunteers were told {told}: {status}");
    ensure!(whole(&status, "samples")? == told, "{told} samples were told: {status}");
    ensure!(whole(&status, "samples_lost")? == 0, "{status}");
    ensure!(
        server.log().iter().all(|line| !line.contains(" WARN ")),
        "{:#?}",
        server.log()
    );
    Ok(())
}
