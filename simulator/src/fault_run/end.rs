//! The end of a run: the faults are over, everything comes to rest, and the books are closed.

use std::time::Duration;

use bsp::local::End;
use bsp::time::Time;

use super::invariants::{Checks, Invariant};
use super::outcome::Outcome;
use super::watch::Watch;
use super::{FAULTS_END, FaultWorld, planned_faults};
use crate::random::Random;

/// Backing off and giving up a silent connection take their time.
const CALM: Duration = Duration::from_secs(60);
/// The system tells a tab of a link that is silent for so long that what it has sent was not confirmed.
const SYSTEM_NOTICES: Duration = Duration::from_secs(20);
/// A farewell, and one more reconnect.
const FAREWELL: Duration = Duration::from_secs(12);

/// No further faults happen: the disk works, the server is started, and volunteers send what they have. Returns the
/// time at which all is quiet.
pub(super) fn begin_calm(world: &mut FaultWorld) -> Time {
    if let Some(disk) = world.server.disk() {
        disk.leave_room(None);
        disk.fail_next(0);
    }
    let random = Random::stream(world.random.seed(), 3);
    world.at(world.now + Duration::from_secs(2), move |world| {
        planned_faults::start(world, 0, random)
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
    world.now + CALM
}

/// All is quiet: volunteers have what they should, and leave. Returns who leaves, and the time at which they are gone.
pub(super) fn begin_farewell(world: &mut FaultWorld) -> (Vec<usize>, Time) {
    let is_up = world.server.is_up();
    let mut checks = std::mem::take(&mut world.observer.checks);
    checks.require(Invariant::Start, is_up, || {
        "the server is not up again when all is quiet".to_owned()
    });
    check_agreement(world, &mut checks);
    world.observer.checks = checks;
    let living = living(world);
    for tab in &living {
        world.leave(*tab);
    }
    (living, world.now + FAREWELL)
}

/// Tabs that are open and have not ended.
fn living(world: &FaultWorld) -> Vec<usize> {
    let tabs = world.tabs.iter().enumerate();
    tabs.filter(|(_, tab)| tab.local.is_some() && tab.ended.is_none())
        .map(|(number, _)| number)
        .collect()
}

/// Now that all is quiet, what each volunteer was told is what the server has.
fn check_agreement(world: &FaultWorld, checks: &mut Checks) {
    let has_lied = world.observer.durable.has_lied;
    for tab in living(world) {
        let state = &world.tabs[tab];
        let (Some(local), Some(session)) = (&state.local, state.session) else {
            continue;
        };
        checks.require(Invariant::Agreement, world.is_welcomed(tab), || {
            format!("volunteer {} is not back", tab + 1)
        });
        let Watch {
            once, durable, added, ..
        } = &world.observer;
        let missing = once.missing(session, &added[tab], durable.may_be_lost(session));
        let told = local.accepted_samples();
        let counted = once.samples_of(session);
        checks.require_eq(Invariant::Agreement, missing, 0, || {
            format!("gradients of volunteer {}, which lives, that are not settled", tab + 1)
        });
        if !has_lied {
            checks.require_eq(Invariant::Agreement, told, counted, || {
                format!("accepted samples that volunteer {} was told of", tab + 1)
            });
        }
        // It may not have noticed that its link is dead: it has nothing to send.
        if let Some(status) = world.central.volunteer(world.server_time(), session) {
            checks.require_eq(Invariant::Agreement, status.samples, counted, || {
                format!("the server's own count for volunteer {}", tab + 1)
            });
        }
    }
}

/// What was accepted and lost is what the server says, and no more than tabs that died have taken with them.
pub(super) fn close_books(world: &mut FaultWorld, left: &[usize]) -> Outcome {
    let mut checks = std::mem::take(&mut world.observer.checks);
    for tab in left {
        checks.require_eq(Invariant::Agreement, world.end_of(*tab), Some(&End::Left), || {
            format!("the end of volunteer {}", tab + 1)
        });
    }
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
    let agrees = match is_ledger_whole {
        true => said == lost_samples,
        false => said <= lost_samples,
    };
    checks.require(Invariant::Books, agrees, || {
        format!("{said} samples are said to be lost, {lost_samples} are: {lost:?}")
    });
    if !durable.has_lied {
        for (number, tab) in world.tabs.iter().enumerate() {
            let is_safe = tab
                .ended
                .as_ref()
                .is_some_and(|(at, end)| *end == End::Left && *at > FAULTS_END + Duration::from_secs(10));
            let Some(session) = tab.session.filter(|_| is_safe) else {
                continue;
            };
            checks.require_eq(Invariant::Books, once.lost_of(session), 0, || {
                format!("samples lost of volunteer {}, which lived to the end", number + 1)
            });
        }
    }
    let totals = world.central.totals();
    let outcome = Outcome {
        counts: *counts,
        samples: totals.samples,
        lost: lost_samples,
        duplicates: totals.duplicates,
        resent: totals.resent,
        lies: u64::from(durable.has_lied),
        fingerprint: fingerprint.value(),
    };
    world.observer.checks = checks;
    outcome
}
