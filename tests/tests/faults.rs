//! Workers that die, servers that are killed, tabs that freeze.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bsp::protocol::message::FromVolunteer;
use tests::browser::Browser;
use tests::driver::Driver;
use tests::native_volunteer::native_volunteer;
use tests::relay::Relay;
use tests::server::{Serve, Server};
use tests::tab::Tab;
use tests::wait::{wait_for, wait_until};

/// Sends the first ML worker to an address beyond its memory, where it traps; keeps the others within the test's reach.
const FIRST_ML_WORKER_TRAPS: &str = "
    const Genuine = Worker;
    window.mlWorkersOfTest = [];
    window.Worker = class extends Genuine {
        #isMlWorker;
        constructor(url, options) {
            super(url, options);
            this.#isMlWorker = String(url).includes('ml-worker');
            if (this.#isMlWorker) mlWorkersOfTest.push(this);
        }
        postMessage(message) {
            const isFirst = this.#isMlWorker && mlWorkersOfTest.length === 1;
            super.postMessage(isFirst ? { ...message, address: 0xfffffff0 } : message);
            // After a death nothing that the page says may enter the module, where this would be an error.
            if (message.type === 'died') super.postMessage({ type: 'no message of ours' });
        }
    };
";

/// An error of a worker that is computing: the page ends it on that, at whatever instruction it is.
const LAST_ML_WORKER_FAILS: &str =
    "mlWorkersOfTest.at(-1).dispatchEvent(new ErrorEvent('error', { message: 'made up by a test' }));";

#[test]
fn a_tab_whose_ml_worker_dies_starts_afresh_and_the_others_go_on() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let unharmed = Tab::open(&driver, &server.joining_url(1))?;
    let other = server.wait_for_contributors(1)?[0].id;

    // One of its two dies, and the other is read out before the end.
    let harmed = Tab::open_after(&driver, &server.joining_url(2), FIRST_ML_WORKER_TRAPS)?;
    harmed.wait_until("a fresh start", |view| {
        view.states.iter().any(|state| state == "restarting")
    })?;
    server.wait_for_more_of(other)?;
    let second = contributor_besides(&server, &[other])?;

    harmed.execute(LAST_ML_WORKER_FAILS)?;
    harmed.wait_until("a second fresh start", |view| {
        view.states.iter().filter(|state| *state == "restarting").count() == 2
    })?;
    server.wait_for_more_of(other)?;
    let third = contributor_besides(&server, &[other, second])?;
    server.wait_for_more_of(third)?;
    harmed.wait_for_state("training")?;
    let view = unharmed.look()?;
    ensure!(
        !view.states.iter().any(|state| state == "restarting"),
        "the other tab, too: {view:#?}"
    );
    Ok(())
}

/// A new session: waits until another volunteer than these has contributed.
fn contributor_besides(server: &Server, known: &[u64]) -> Result<u64> {
    wait_for("the tab to contribute in a new session", || {
        let volunteers = server.volunteers()?;
        let new = volunteers
            .iter()
            .find(|volunteer| !known.contains(&volunteer.id) && volunteer.samples > 0);
        Ok(new.map(|volunteer| volunteer.id))
    })
}

#[test]
fn a_tab_whose_bsp_worker_says_nothing_any_more_starts_afresh() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    let hung = server.wait_for_contributors(1)?[0].id;
    // Once it has answered this, it never comes to another event.
    tab.evaluate_in_workers("bsp-worker.js", "setTimeout(() => { for (;;); })")?;
    tab.wait_until("a fresh start", |view| {
        view.states.iter().any(|state| state == "restarting")
    })?;
    let fresh = contributor_besides(&server, &[hung])?;
    server.wait_for_more_of(fresh)?;
    tab.wait_for_state("training")?;
    driver.expect_no_console_errors()
}

#[test]
fn a_tab_survives_a_server_that_is_killed_and_started_again() -> Result<()> {
    let mut server = Serve::kiosk().start()?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &server.joining_url(1))?;
    server.wait_for_contributors(1)?;
    driver.expect_no_console_errors()?;
    let samples = tab.look()?.number("my-samples");

    server.kill()?;
    tab.wait_for_state("reconnecting")?;
    // Its cores go on meanwhile, and the page says that the server is not there.
    tab.wait_until("that it computes on", |view| {
        view.server == "unreachable" && view.number("my-samples") > samples
    })?;

    // Another start is another run: nothing of the old one may be added to it.
    let server = Serve {
        port: server.address().port(),
        ..Serve::kiosk()
    }
    .start()?;
    server.wait_for_contributors(1)?;
    let view = tab.wait_until("that it trains again", |view| {
        view.state == "training" && view.server == "reachable"
    })?;
    ensure!(
        view.states.iter().any(|state| state == "restarting"),
        "it did not start afresh: {view:#?}"
    );
    server.wait_for_more_of(server.volunteers()?[0].id)
}

#[test]
fn a_frozen_tab_says_hello_before_it_is_read_out_and_holds_nobody_up() -> Result<()> {
    /// Longer than what the local BSP module takes for a slow machine.
    const FROZEN: Duration = Duration::from_secs(7);
    let server = Serve::kiosk().start()?;
    let relay = Relay::start(server.address())?;
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &format!("{}/?join=1&workers=1", relay.url()))?;
    let frozen = server.wait_for_contributors(1)?[0].id;
    let _native = native_volunteer(server.url())?;
    let native = contributor_besides(&server, &[frozen])?;

    driver.signal_pages("STOP")?;
    let began = Instant::now();
    server.wait_for_more_of(native)?;
    wait_until("the tab to be frozen for long", || Ok(began.elapsed() > FROZEN))?;
    let version = server.version()?;
    wait_until("supersteps without the frozen tab", || {
        Ok(server.version()? > version + 1)
    })?;
    let before = relay.messages()?.len();
    driver.signal_pages("CONT")?;

    server.wait_for_more_of(frozen)?;
    let messages = relay.messages()?;
    let hello = messages[before..]
        .iter()
        .position(|message| matches!(message, FromVolunteer::Hello(_)));
    // One message may have been on its way out at the instruction where the tab was frozen.
    ensure!(
        hello.is_some_and(|position| position <= 1),
        "it says {:?} …",
        &messages[before..][..4]
    );
    let FromVolunteer::Hello(hello) = &messages[before + hello.unwrap_or(0)] else {
        unreachable!("it was found")
    };
    ensure!(
        hello.session.is_some_and(|(session, _)| session.0 == frozen),
        "it is not itself any more: {hello:?}"
    );
    ensure!(tab.look()?.state == "training", "{:#?}", tab.look()?);
    driver.expect_no_console_errors()
}
