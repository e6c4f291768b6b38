//! A run in an S3-compatible store (s3s-fs): the built server goes on with it after a kill, one server owns it, and a
//! store that says nothing for a while costs nothing.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use tests::faulty_link::{Cut, Direction, FaultyLink};
use tests::native_volunteer::{accepted_samples_at_the_end, native_volunteer};
use tests::program::Program;
use tests::run_file::RunText;
use tests::server::{Serve, Server, whole};
use tests::wait::wait_until;

mod s3_server;

use s3_server::S3Server;

/// Digits with a checkpoint each half second, kept in the store at this address.
fn serve(store: &S3Server, address: SocketAddr) -> Result<Serve> {
    let run = RunText::digits()?.and("[checkpoints]\ninterval_seconds = 0.5");
    Ok(Serve {
        run: Some(run),
        state: Some(store.state()),
        environment: store.environment(address),
        ..Serve::default()
    })
}

fn wait_for_checkpoint(server: &Server) -> Result<()> {
    let before = whole(&server.status()?, "checkpoints")?;
    wait_until("a checkpoint", || Ok(whole(&server.status()?, "checkpoints")? > before))
}

fn expect_books(server: &Server, volunteer: &mut Program, incarnation: u64) -> Result<()> {
    let told = accepted_samples_at_the_end(volunteer)?;
    let status = server.status()?;
    println!("the volunteer was told {told}: {status}");
    ensure!(whole(&status, "incarnation")? == incarnation, "{status}");
    ensure!(whole(&status, "samples")? == told, "{told} samples were told: {status}");
    ensure!(whole(&status, "samples_lost")? == 0, "{status}");
    Ok(())
}

#[test]
fn a_run_in_a_store_goes_on_after_a_kill_and_counts_what_its_volunteer_was_told() -> Result<()> {
    let store = S3Server::start()?;
    let mut server = serve(&store, store.address())?.start()?;
    let mut volunteer = native_volunteer(server.url())?;
    let id = server.wait_for_contributors(1)?[0].id;
    for incarnation in 2..=3 {
        wait_for_checkpoint(&server)?;
        let version = server.version()?;
        server.kill()?;
        // Its process is known to have ended, so nobody waits for the end of its lease.
        server = Serve {
            port: server.address().port(),
            ..serve(&store, store.address())?
        }
        .start()?;
        ensure!(whole(&server.status()?, "incarnation")? == incarnation);
        wait_until("the version that was killed", || Ok(server.version()? > version))?;
        server.wait_for_more_of(id)?;
    }
    expect_books(&server, &mut volunteer, 3)
}

#[test]
fn a_second_server_on_a_run_in_a_store_is_told_who_owns_it_and_a_clean_stop_lets_the_next_one_start() -> Result<()> {
    let store = S3Server::start()?;
    let mut server = serve(&store, store.address())?.start()?;
    let mut volunteer = native_volunteer(server.url())?;
    server.wait_for_contributors(1)?;
    wait_for_checkpoint(&server)?;
    let log = serve(&store, store.address())?.start_in_vain()?;
    println!("{log:#?}");
    ensure!(
        log.len() == 1
            && log[0].contains("s3://runs/state/digits: process ")
            && log[0].contains("owned this run since"),
        "{log:#?}"
    );
    let status = server.stop()?;
    ensure!(status.success(), "{status}: {:#?}", server.log());
    let newest = std::fs::read_to_string(store.folder_of("digits").join("newest.json"))?;
    ensure!(
        newest.contains("\"is_released\": true"),
        "the lease was not released: {newest}"
    );
    let server = Serve {
        port: server.address().port(),
        ..serve(&store, store.address())?
    }
    .start()?;
    server.wait_for_contributors(1)?;
    expect_books(&server, &mut volunteer, 2)
}

#[test]
fn a_store_that_says_nothing_for_a_while_and_links_to_it_that_are_cut_cost_nothing() -> Result<()> {
    let store = S3Server::start()?;
    let link = FaultyLink::start(store.address())?;
    let mut server = serve(&store, link.address())?.start()?;
    let mut volunteer = native_volunteer(server.url())?;
    let id = server.wait_for_contributors(1)?[0].id;
    wait_for_checkpoint(&server)?;
    for directions in [&[Direction::Down][..], &[Direction::Up, Direction::Down]] {
        link.stall(directions);
        // Volunteers are answered meanwhile, and the run trains.
        let version = server.version()?;
        wait_until("a superstep", || Ok(server.version()? > version + 1))?;
        server.wait_for_more_of(id)?;
        link.go_on();
        wait_for_checkpoint(&server)?;
    }
    for cut in [Cut::Closed, Cut::Reset] {
        link.cut_all(cut);
        wait_for_checkpoint(&server)?;
        server.wait_for_more_of(id)?;
    }
    server.kill()?;
    let server = Serve {
        port: server.address().port(),
        ..serve(&store, link.address())?
    }
    .start()?;
    server.wait_for_contributors(1)?;
    server.wait_for_more_of(id)?;
    expect_books(&server, &mut volunteer, 2)
}
