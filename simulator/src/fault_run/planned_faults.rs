//! What befalls a run: when, and what.

use std::time::Duration;

use bsp::local::Local;

use super::invariants::Invariant;
use super::log::Subject;
use super::settings::machine;
use super::{FAULTS_END, FaultWorld};
use crate::disk::{Lie, SimulatedDisk};
use crate::random::Random;
use crate::server::{Crash, StartError};

/// Plans all faults of a run.
pub(super) fn plan(world: &mut FaultWorld) {
    let mut random = Random::stream(world.random.seed(), 2);
    let mean_ms = 200 + random.below(2500);
    let mut at = world.now;
    loop {
        at = at + random.between_ms(1, 2 * mean_ms);
        if at >= FAULTS_END {
            break;
        }
        let own = Random::new(random.next());
        world.at(at, move |world| befall_server(world, own));
    }
    for tab in 0..world.tabs.len() {
        plan_tab(world, tab, &mut random);
    }
}

fn plan_tab(world: &mut FaultWorld, tab: usize, random: &mut Random) {
    let mean_ms = 150 + random.below(1500);
    let mut at = world.now;
    loop {
        at = at + random.between_ms(1, 2 * mean_ms);
        if at >= FAULTS_END {
            return;
        }
        let own = Random::new(random.next());
        world.at(at, move |world| befall_tab(world, tab, own));
    }
}

/// Notes what happened to the server or its disk.
fn note(world: &mut FaultWorld, subject: Subject, text: impl Into<String>) {
    world.observer.log.add(world.now, subject, None, text);
}

/// Notes what happens to a volunteer or its link, unless the volunteer has gone: then it is no fault.
fn note_of(world: &mut FaultWorld, subject: Subject, tab: usize, text: impl Into<String>) {
    let state = &world.tabs[tab];
    if state.local.is_some() && state.ended.is_none() {
        world.observer.log.add(world.now, subject, Some(tab), text);
    }
}

/// A length of time, as the log has it.
fn seconds(span: Duration) -> String {
    format!("{:.1} s", span.as_secs_f64())
}

/// A fault of the server, its machine, or its disk.
fn befall_server(world: &mut FaultWorld, mut random: Random) {
    let span = random.between_ms(5, 1500);
    match random.below(17) {
        0..=4 => crash(world, Crash::Process, span, random),
        5..=7 => crash(world, Crash::Machine, span, random),
        8 => {
            if world.server.is_up() {
                note(
                    world,
                    Subject::Server,
                    "The server is asked to stop, and writes all that it has.",
                );
            }
            world.stop_server();
            // Whether it has ended by then or not: a second signal ends it at once.
            world.at(world.now + span, move |world| {
                crash(world, Crash::Process, span / 2, random)
            });
        }
        9 => {
            if world.server.is_up() {
                let text = format!("The server freezes for {}.", seconds(span * 4));
                note(world, Subject::Server, text);
            }
            world.freeze_server(span * 4);
        }
        10 => {
            let text = format!("The server’s clock jumps ahead by {}.", seconds(span * 8));
            note(world, Subject::Server, text);
            world.jump_server_clock(span * 8);
        }
        11 => {
            let changes = 1 + span.as_micros() as u64 % 6;
            let text = format!("The disk refuses the next changes, {changes} of them.");
            note(world, Subject::Disk, text);
            with_disk(world, |disk| disk.fail_next(changes));
        }
        12 => {
            let room = random.below(3000) as usize;
            let text = format!("The disk has room for {room} bytes more, for {}.", seconds(span * 2));
            note(world, Subject::Disk, text);
            with_disk(world, |disk| disk.leave_room(Some(room)));
            world.at(world.now + span * 2, |world| {
                with_disk(world, |disk| disk.leave_room(None))
            });
        }
        13 => partition(world, span * 2),
        14 => world.with_central(|central, now, actions| central.make_checkpoint(now, actions)),
        _ => lie(world, span, random),
    }
}

fn with_disk(world: &FaultWorld, deed: impl FnOnce(&SimulatedDisk)) {
    if let Some(disk) = world.server.disk() {
        deed(disk);
    }
}

/// The server crashes, and starts again after `down`. Some starts are crashes too.
fn crash(world: &mut FaultWorld, crash: Crash, down: Duration, mut random: Random) {
    world.crash_server(crash);
    let killed = random.below(3) * random.below(3);
    world.at(world.now + down, move |world| start(world, killed, random));
}

/// Starts the server. This many starts are killed in the middle.
pub(super) fn start(world: &mut FaultWorld, killed: u64, mut random: Random) {
    if world.server.is_up() {
        return;
    }
    let killed_after = (killed > 0).then(|| random.below(14));
    let again = world.now + random.between_ms(1, 300);
    match world.start_server(killed_after) {
        Ok(()) => world.observer.checks.require(Invariant::Start, true, String::new),
        Err(StartError::Killed) => {
            note(world, Subject::Crash, "The server is killed while it starts.");
            if random.chance(40) {
                world.stop_machine();
                world.observer.is_ledger_whole = false;
            }
            world.at(again, move |world| start(world, killed - 1, random));
        }
        Err(StartError::Open(state::OpenError::Disk(_))) => world.at(again, move |world| start(world, 0, random)),
        Err(StartError::Open(error)) => {
            let checks = &mut world.observer.checks;
            checks.require(Invariant::Start, false, || format!("the run can't be opened: {error}"));
        }
    }
}

/// No volunteer reaches the server.
fn partition(world: &mut FaultWorld, span: Duration) {
    let text = format!("No volunteer reaches the server for {}.", seconds(span));
    note(world, Subject::Server, text);
    for tab in 0..world.tabs.len() {
        world.take_offline(tab, span);
    }
}

/// The server crashes, and its disk has lost what it had said to hold for good.
fn lie(world: &mut FaultWorld, down: Duration, mut random: Random) {
    let Some(disk) = world.server.disk().cloned() else {
        return;
    };
    let seed = world.random.seed();
    // Most runs have an honest disk, so that their durability is checked to the end.
    if !seed.is_multiple_of(4) {
        return crash(world, Crash::Process, down, random);
    }
    world.crash_server(Crash::Process);
    let mut checkpoints: Vec<_> = disk
        .names()
        .iter()
        .filter_map(|name| state::Snapshot::of_checkpoint_file(name))
        .collect();
    checkpoints.sort_unstable();
    let lies = [Lie::Earlier, Lie::FlippedBit, Lie::CutShort, Lie::Unreadable];
    let lie = lies[random.below(4) as usize];
    // Which file the disk lies about, if it is there.
    let file = match random.below(3) {
        // Without any checkpoint a run can't go on, which is told to its operator.
        0 | 1 if checkpoints.len() > 1 && !world.observer.durable.has_lied => {
            world.observer.durable.has_lied = true;
            Some(checkpoints[checkpoints.len() - 1].checkpoint_file())
        }
        _ if lie != Lie::Unreadable => Some(state::newest::FILE.to_owned()),
        _ => None,
    };
    if let Some(file) = file.filter(|file| disk.lie(file, lie, &mut random)) {
        let text = format!("The disk had {file} for good, and now {}.", lie_text(lie));
        note(world, Subject::Disk, text);
        world.observer.is_ledger_whole = false;
    }
    world.at(world.now + down, move |world| start(world, 0, random));
}

fn lie_text(lie: Lie) -> &'static str {
    match lie {
        Lie::Earlier => "gives an earlier one",
        Lie::FlippedBit => "gives it with one bit changed",
        Lie::CutShort => "gives it without its end",
        Lie::Unreadable => "can’t read it",
    }
}

/// A fault of a tab or of its link, or what its owner does.
fn befall_tab(world: &mut FaultWorld, tab: usize, mut random: Random) {
    let span = random.between_ms(0, 400);
    // A frozen page takes no clicks.
    let is_frozen = world.tabs[tab].outage.frozen_until > world.now;
    match random.below(22) {
        fault @ 0..=12 => befall_link(world, tab, fault, span, random),
        _ if is_frozen => {}
        13 => match world.tabs[tab].local.as_ref().is_some_and(Local::is_paused) {
            true => {
                note_of(world, Subject::Volunteer, tab, "Goes on.");
                world.resume(tab);
            }
            false => {
                note_of(world, Subject::Volunteer, tab, "Pauses.");
                world.pause(tab);
            }
        },
        14 => {
            let active = random.below(3) as usize;
            note_of(
                world,
                Subject::Volunteer,
                tab,
                format!("Computes on {active} cores at most."),
            );
            world.with_local(tab, |local, now, actions| {
                local.set_active_ml_modules(now, active, actions)
            });
        }
        15 if random.chance(30) => {
            note_of(world, Subject::Volunteer, tab, "Leaves properly.");
            world.leave(tab);
        }
        16 if random.chance(30) => {
            note_of(world, Subject::Volunteer, tab, "One of its ML modules dies.");
            world.kill_ml_module(tab, 0);
        }
        17 if random.chance(50) => {
            note_of(world, Subject::Volunteer, tab, "Is closed, with all that it has.");
            world.crash(tab);
            let machine = machine(&mut random);
            let next = world.join(machine);
            note_of(world, Subject::Volunteer, next, "Comes.");
            plan_tab(world, next, &mut random);
        }
        _ => {}
    }
}

/// A fault of a tab's link, of its clock, or of the browser that freezes it; `fault` is below 13.
fn befall_link(world: &mut FaultWorld, tab: usize, fault: u64, span: Duration, mut random: Random) {
    let link = |world: &mut FaultWorld, text: String| note_of(world, Subject::Link, tab, text);
    match fault {
        0..=2 => {
            link(world, "The link is cut; both ends hear of it.".to_owned());
            world.cut(tab, Some(span), Some(random.between_ms(0, 400)));
        }
        3 => {
            link(world, "The link is cut; the server does not hear of it.".to_owned());
            world.cut(tab, Some(span), None);
        }
        4 => {
            link(world, "The link is cut; the volunteer does not hear of it.".to_owned());
            world.cut(tab, None, Some(span));
        }
        5 => {
            link(world, format!("Offline for {}.", seconds(span * 10)));
            world.take_offline(tab, span * 10);
        }
        6 => {
            let span = if random.chance(20) { span * 25 } else { span };
            note_of(
                world,
                Subject::Volunteer,
                tab,
                format!("Is frozen for {}.", seconds(span)),
            );
            world.freeze(tab, span);
        }
        7 => {
            note_of(
                world,
                Subject::Volunteer,
                tab,
                format!("Its clock jumps ahead by {}.", seconds(span * 40)),
            );
            world.jump_clock(tab, span * 40);
        }
        8 | 9 => {
            link(world, format!("What it sends is held up for {}.", seconds(span * 10)));
            world.hold_up(tab, span * 10);
            if random.chance(70) {
                world.abandon(tab);
            }
        }
        10 => {
            link(
                world,
                "It gives its connection up; what it has sent arrives all the same.".to_owned(),
            );
            world.abandon(tab);
        }
        11 => {
            link(world, "All that it has sent arrives a second time.".to_owned());
            world.replay(tab);
        }
        _ => {
            link(world, format!("What it sends within {} arrives twice.", seconds(span)));
            world.tabs[tab].outage.echoes_until = world.now + span;
        }
    }
}
