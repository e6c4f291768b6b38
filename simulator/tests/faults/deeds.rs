//! What befalls a run: when, and what.

use std::time::Duration;

use bsp::local::Local;
use simulator::disk::Lie;
use simulator::random::Random;
use simulator::server::{Crash, StartError};

use super::plan::{FAULTS_END, FaultWorld, machine};

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

/// A fault of the server, its machine, or its disk.
fn befall_server(world: &mut FaultWorld, mut random: Random) {
    let span = random.between_ms(5, 1500);
    match random.below(17) {
        0..=4 => crash(world, Crash::Process, span, random),
        5..=7 => crash(world, Crash::Machine, span, random),
        8 => {
            world.stop_server();
            // Whether it has ended by then or not: a second signal ends it at once.
            world.at(world.now + span, move |world| {
                crash(world, Crash::Process, span / 2, random)
            });
        }
        9 => world.freeze_server(span * 4),
        10 => world.jump_server_clock(span * 8),
        11 => with_disk(world, |disk| disk.fail_next(1 + span.as_micros() as u64 % 6)),
        12 => {
            let room = random.below(3000) as usize;
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

fn with_disk(world: &FaultWorld, deed: impl FnOnce(&simulator::disk::SimulatedDisk)) {
    if let Some(disk) = world.server.disk() {
        deed(disk);
    }
}

/// The server crashes, and starts again after `down`. Some starts are crashes too.
pub(super) fn crash(world: &mut FaultWorld, crash: Crash, down: Duration, mut random: Random) {
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
        Ok(()) => {}
        Err(StartError::Killed) => {
            if random.chance(40) {
                world.stop_machine();
                world.observer.is_ledger_whole = false;
            }
            world.at(again, move |world| start(world, killed - 1, random));
        }
        Err(StartError::Open(state::OpenError::Disk(_))) => world.at(again, move |world| start(world, 0, random)),
        Err(StartError::Open(error)) => panic!("the run can't be opened: {error}"),
    }
}

/// No volunteer reaches the server.
fn partition(world: &mut FaultWorld, span: Duration) {
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
    let is_told = match random.below(3) {
        // Without any checkpoint a run can't go on, which is told to its operator.
        0 | 1 if checkpoints.len() > 1 && !world.observer.durable.has_lied => {
            let newest = checkpoints[checkpoints.len() - 1].checkpoint_file();
            world.observer.durable.has_lied = true;
            disk.lie(&newest, lie, &mut random)
        }
        _ if lie != Lie::Unreadable => disk.lie(state::newest::FILE, lie, &mut random),
        _ => false,
    };
    world.observer.is_ledger_whole &= !is_told;
    world.at(world.now + down, move |world| start(world, 0, random));
}

/// A fault of a tab or of its link, or what its owner does.
fn befall_tab(world: &mut FaultWorld, tab: usize, mut random: Random) {
    let span = random.between_ms(0, 400);
    // A frozen page takes no clicks.
    let is_frozen = world.tabs[tab].outage.frozen_until > world.now;
    match random.below(22) {
        0..=2 => world.cut(tab, Some(span), Some(random.between_ms(0, 400))),
        3 => world.cut(tab, Some(span), None),
        4 => world.cut(tab, None, Some(span)),
        5 => world.take_offline(tab, span * 10),
        6 => world.freeze(tab, if random.chance(20) { span * 25 } else { span }),
        7 => world.jump_clock(tab, span * 40),
        8 | 9 => {
            world.hold_up(tab, span * 10);
            if random.chance(70) {
                world.abandon(tab);
            }
        }
        10 => world.abandon(tab),
        11 => world.replay(tab),
        12 => world.tabs[tab].outage.echoes_until = world.now + span,
        _ if is_frozen => {}
        13 => match world.tabs[tab].local.as_ref().is_some_and(Local::is_paused) {
            true => world.resume(tab),
            false => world.pause(tab),
        },
        14 => {
            let active = random.below(3) as usize;
            world.with_local(tab, |local, now, actions| {
                local.set_active_ml_modules(now, active, actions)
            });
        }
        15 if random.chance(30) => world.leave(tab),
        16 if random.chance(30) => world.kill_ml_module(tab, 0),
        17 if random.chance(50) => {
            world.crash(tab);
            let machine = machine(&mut random);
            let next = world.join(machine);
            plan_tab(world, next, &mut random);
        }
        _ => {}
    }
}
