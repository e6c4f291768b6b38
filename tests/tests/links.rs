//! Links that are cut, that stall, or on which everything comes twice: each sample counts once, as its volunteer was
//! told, and the volunteers go on.

use anyhow::{Context, Result, ensure};
use tests::browser::Browser;
use tests::driver::Driver;
use tests::faulty_link::{Cut, Direction, FaultyLink};
use tests::native_volunteer::{accepted_samples_at_the_end, native_volunteer};
use tests::program::Program;
use tests::random::Random;
use tests::server::{Serve, Server, Volunteer, whole};
use tests::tab::Tab;
use tests::wait::{wait_for, wait_until};

/// Where the order of faults begins, unless the environment says `SEED=n`.
const SEED: u64 = 0x11f7;
/// How often each fault comes, unless the environment says `ROUNDS=n`.
const ROUNDS: u64 = 1;

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Every connection ends.
    CutAll(Cut),
    /// One ends in the middle of a contribution, or of a model.
    CutWithin(Direction, Cut),
    /// All that came on each socket comes once more, on another connection.
    Replay,
}

const FAULTS: [Fault; 7] = [
    Fault::CutAll(Cut::Closed),
    Fault::CutAll(Cut::Reset),
    Fault::CutWithin(Direction::Up, Cut::Closed),
    Fault::CutWithin(Direction::Up, Cut::Reset),
    Fault::CutWithin(Direction::Down, Cut::Closed),
    Fault::CutWithin(Direction::Down, Cut::Reset),
    Fault::Replay,
];

#[test]
fn whatever_happens_to_links_each_sample_counts_once_as_its_volunteer_was_told() -> Result<()> {
    let mut random = Random::new(number("SEED", SEED)?);
    let server = Serve::kiosk().start()?;
    let link = FaultyLink::start(server.address())?;
    let natives = [native_volunteer(&link.url())?, native_volunteer(&link.url())?];
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &format!("{}/?join=1&workers=1", link.url()))?;
    let volunteers = server.wait_for_contributors(3)?;
    for round in 1..=number("ROUNDS", ROUNDS)? {
        let mut left = FAULTS.to_vec();
        while !left.is_empty() {
            let fault = left.swap_remove(random.below(left.len() as u64) as usize);
            println!("round {round}: {fault:?}");
            match fault {
                Fault::CutAll(cut) => link.cut_all(cut),
                Fault::CutWithin(direction, cut) => link.cut_within_a_frame(direction, cut)?,
                Fault::Replay => {
                    let duplicates = whole(&server.status()?, "duplicates_refused")?;
                    let replayed = link.replay_all()?;
                    ensure!(replayed >= 3, "{replayed} sockets");
                    println!(
                        "{duplicates} duplicates before, {} after",
                        server.status()?["duplicates_refused"]
                    );
                }
            }
            wait_for_more_of_all(&server, &volunteers).with_context(|| format!("after {fault:?}"))?;
        }
    }
    // By now each volunteer has said hello with its session, in which all comes again.
    link.replay_all()?;
    wait_for_more_of_all(&server, &volunteers)?;
    let status = server.status()?;
    ensure!(
        whole(&status, "duplicates_refused")? > 0,
        "nothing came twice: {status}"
    );
    expect_books_that_add_up(&server, natives, &tab)
}

#[test]
fn links_that_are_open_and_silent_are_noticed_and_said_and_what_was_held_up_counts_once() -> Result<()> {
    let server = Serve::kiosk().start()?;
    let [up, down, both] = [(); 3].map(|()| FaultyLink::start(server.address()));
    let (up, down, both) = (up?, down?, both?);
    let natives = [native_volunteer(&up.url())?, native_volunteer(&down.url())?];
    let driver = Driver::start(Browser::Chromium)?;
    let tab = Tab::open(&driver, &format!("{}/?join=1&workers=1", both.url()))?;
    let volunteers = server.wait_for_contributors(3)?;
    up.stall(&[Direction::Up]);
    down.stall(&[Direction::Down]);
    both.stall(&[Direction::Up, Direction::Down]);
    for native in &natives {
        wait_until("a native volunteer to say so", || {
            Ok(native.stdout().iter().any(|line| line.starts_with("away since ")))
        })?;
    }
    tab.wait_for_state("reconnecting")?;
    let said = tab.text("state-detail")?;
    ensure!(said.starts_with("The server is away: your cores compute on."), "{said}");
    for link in [up, down, both] {
        // What it has held up arrives now, on connections that their volunteers have given up.
        link.go_on();
    }
    wait_for_more_of_all(&server, &volunteers)?;
    for native in &natives {
        wait_until("a native volunteer to say that it is back", || {
            let said = native.stdout();
            Ok(said.iter().any(|line| line.starts_with("training: resumed after ")))
        })?;
        println!("{:#?}", native.stdout());
    }
    tab.wait_for_state("training")?;
    expect_books_that_add_up(&server, natives, &tab)
}

/// Waits until each of these is there, has contributed more than it had then, and again more than that.
fn wait_for_more_of_all(server: &Server, volunteers: &[Volunteer]) -> Result<()> {
    for Volunteer { id, .. } in volunteers {
        // Between two connections it is not in the list.
        let samples = || Ok(server.volunteers()?.iter().find(|v| v.id == *id).map(|v| v.samples));
        for _ in 0..2 {
            let before = wait_for(&format!("volunteer {id}"), samples)?;
            wait_until(&format!("more of volunteer {id}"), || {
                Ok(samples()?.is_some_and(|now| now > before))
            })?;
        }
    }
    Ok(())
}

/// All leave, and what they were told is what the server counts.
fn expect_books_that_add_up(server: &Server, natives: [Program; 2], tab: &Tab<'_>) -> Result<()> {
    tab.press("stop")?;
    tab.wait_for_state("not-contributing")?;
    let by_tab = tab.look()?.number("my-accepted").context("a number")? as u64;
    let mut told = vec![by_tab];
    for mut native in natives {
        told.push(accepted_samples_at_the_end(&mut native)?);
    }
    wait_until("all to be gone", || Ok(server.volunteers()?.is_empty()))?;
    let status = server.status()?;
    println!("the tab and the native volunteers were told {told:?}: {status}");
    ensure!(whole(&status, "contributions_refused")? == 0, "{status}");
    ensure!(
        whole(&status, "samples")? == told.iter().sum::<u64>(),
        "volunteers were told {told:?}: {status}"
    );
    ensure!(whole(&status, "samples_lost")? == 0, "{status}");
    Ok(())
}

fn number(variable: &str, otherwise: u64) -> Result<u64> {
    std::env::var(variable)
        .ok()
        .map_or(Ok(otherwise), |text| Ok(text.parse()?))
}
