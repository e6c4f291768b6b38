//! The end of a run: the faults are over, everything comes to rest, and the books are closed.

use std::time::Duration;

use bsp::local::End;
use simulator::random::Random;

use super::deeds;
use super::outcome::Outcome;
use super::plan::{FAULTS_END, FaultWorld, let_pass};
use super::watch::Watch;

/// Backing off and giving up a silent connection take their time.
const CALM: Duration = Duration::from_secs(60);
/// The system tells a tab of a link that is silent for so long that what it has sent was not confirmed.
const SYSTEM_NOTICES: Duration = Duration::from_secs(20);
/// A farewell, and one more reconnect.
const FAREWELL: Duration = Duration::from_secs(12);

/// Lets the run come to rest, and checks what it came to.
pub(super) fn bring_to_rest(world: &mut FaultWorld) -> Outcome {
    if let Some(disk) = world.server.disk() {
        disk.leave_room(None);
        disk.fail_next(0);
    }
    let random = Random::stream(world.random.seed(), 3);
    world.at(world.now + Duration::from_secs(2), move |world| {
        deeds::start(world, 0, random)
    });
    for tab in 0..world.tabs.len() {
        // They need not compute on: what they have is to arrive.
        world.at(world.now + Duration::from_secs(6), move |world| world.pause(tab));
    }
    world.at(world.now + SYSTEM_NOTICES, |world| {
        for tab in 0..world.tabs.len() {
            world.notice_dead_link(tab);
        }
    });
    let end = world.now + CALM;
    let_pass(world, end);
    assert!(world.server.is_up(), "the server is up again");
    assert_tabs_agree(world);
    let living: Vec<usize> = living(world);
    for tab in &living {
        world.leave(*tab);
    }
    let end = world.now + FAREWELL;
    let_pass(world, end);
    for tab in living {
        assert_eq!(world.end_of(tab), Some(&End::Left), "tab {tab}");
    }
    close_books(world)
}

/// Tabs that are open and have not ended.
fn living(world: &FaultWorld) -> Vec<usize> {
    let tabs = world.tabs.iter().enumerate();
    tabs.filter(|(_, tab)| tab.local.is_some() && tab.ended.is_none())
        .map(|(number, _)| number)
        .collect()
}

/// Now that all is quiet, what each volunteer was told is what the server has.
fn assert_tabs_agree(world: &FaultWorld) {
    let has_lied = world.observer.durable.has_lied;
    for tab in living(world) {
        let state = &world.tabs[tab];
        let (Some(local), Some(session)) = (&state.local, state.session) else {
            continue;
        };
        assert!(world.is_welcomed(tab), "tab {tab} is back");
        let Watch {
            once, durable, added, ..
        } = &world.observer;
        let missing = once.missing(session, &added[tab], durable.may_be_lost(session));
        let told = local.accepted_samples();
        let counted = world.observer.once.samples_of(session);
        assert_eq!(missing, 0, "tab {tab} lives, and gradients of it are not settled");
        if !has_lied {
            assert_eq!(told, counted, "tab {tab} was told of {told} accepted samples");
        }
        // It may not have noticed that its link is dead: it has nothing to send.
        if let Some(status) = world.central.volunteer(world.server_time(), session) {
            assert_eq!(status.samples, counted, "the server's own count for tab {tab}");
        }
    }
}

/// What was accepted and lost is what the server says, and no more than tabs that died have taken with them.
fn close_books(world: &FaultWorld) -> Outcome {
    let Watch {
        once,
        durable,
        counts,
        fingerprint,
        is_ledger_whole,
        ..
    } = &world.observer;
    let lost = once.lost();
    let lost_samples: u64 = lost.iter().map(|(_, samples)| samples).sum();
    let now = world.server_time();
    let said = world.central.samples_awaited(now) + world.central.samples_lost(now).total();
    if *is_ledger_whole {
        assert_eq!(said, lost_samples, "the samples that are lost: {lost:?}");
    } else {
        assert!(said <= lost_samples, "{said} are said to be lost, {lost_samples} are");
    }
    if !durable.has_lied {
        for tab in &world.tabs {
            let is_safe = tab
                .ended
                .as_ref()
                .is_some_and(|(at, end)| *end == End::Left && *at > FAULTS_END + Duration::from_secs(10));
            let session = tab.session.filter(|_| is_safe);
            assert!(
                lost.iter().all(|((of, _), _)| Some(*of) != session),
                "a tab that lived to the end has lost something"
            );
        }
    }
    let totals = world.central.totals();
    Outcome {
        counts: *counts,
        samples: totals.samples,
        lost: lost_samples,
        duplicates: totals.duplicates,
        resent: totals.resent,
        lies: u64::from(durable.has_lied),
        fingerprint: fingerprint.value(),
    }
}
