//! A crash at every step of a checkpoint's writing, and at every step of a restore.

use std::time::Duration;

use bsp::central::ServerOptimizer;
use bsp::time::Time;
use simulator::Machine;
use simulator::fault_run::{self, FaultRun, FaultWorld, Outcome, config, world};
use simulator::server::{Crash, StartError, StorageSettings};
use simulator::small_model::{Sgd, SmallModel};

const STEP: Duration = Duration::from_millis(20);

/// A run whose steps of writing take 20 ms each.
fn slow_writer(seed: u64) -> FaultWorld {
    let storage = StorageSettings {
        keep: 2,
        shortest_step: STEP,
        longest_step: STEP,
        optimizer: Box::new(|| Box::new(Sgd { rate: 0.1 }) as Box<dyn ServerOptimizer>),
    };
    let mut world = world(seed, config(), SmallModel::Counting, storage).expect("an empty disk takes a run");
    for _ in 0..2 {
        world.join(Machine {
            step: Duration::from_millis(15),
            ..Machine::default()
        });
    }
    world
}

/// Lets time pass, with all invariants.
fn let_pass(world: &mut FaultWorld, end: Time) {
    fault_run::let_pass(world, end).unwrap_or_else(|violation| panic!("{violation}"));
}

/// Lets the run come to rest, with all invariants.
fn bring_to_rest(world: FaultWorld) -> Outcome {
    let run = FaultRun::without_further_faults(world);
    run.finish().unwrap_or_else(|violation| panic!("{violation}"))
}

fn at(millis: u64) -> Time {
    Time::ZERO + Duration::from_millis(millis)
}

#[test]
fn a_crash_at_any_step_of_a_checkpoints_writing_loses_nothing() {
    // The fourth checkpoint is made at about 4 s; it is written in eight steps, and then the second one is removed.
    for crash in [Crash::Process, Crash::Machine] {
        for step in 0..14 {
            for seed in 0..4 {
                let mut world = slow_writer(seed);
                let_pass(&mut world, at(3990 + 20 * step));
                world.crash_server(crash);
                let_pass(&mut world, at(4500));
                world.start_server(None).expect("it starts");
                let_pass(&mut world, at(7000));
                let outcome = bring_to_rest(world);
                assert_eq!((outcome.lost, outcome.counts.starts), (0, 2));
            }
        }
    }
}

#[test]
fn a_crash_at_any_step_of_a_restore_loses_nothing() {
    for crash in [Crash::Process, Crash::Machine] {
        for step in 0..8 {
            let mut world = slow_writer(step);
            let_pass(&mut world, at(3300));
            world.crash_server(crash);
            match world.start_server(Some(step)) {
                Ok(()) => {}
                Err(StartError::Killed) => {
                    if crash == Crash::Machine {
                        world.stop_machine();
                    }
                    world.start_server(None).expect("it starts");
                }
                Err(StartError::Open(error)) => panic!("{error}"),
            }
            let_pass(&mut world, at(6000));
            let outcome = bring_to_rest(world);
            assert_eq!(outcome.lost, 0);
        }
    }
}

#[test]
fn a_run_that_crashes_before_its_first_checkpoint_begins_anew_and_its_tabs_bring_what_they_have() {
    let mut world = slow_writer(1);
    let_pass(&mut world, at(700));
    world.crash_server(Crash::Machine);
    world.start_server(None).expect("it starts");
    assert_eq!(
        (world.central.stamp().incarnation, world.central.totals().samples),
        (2, 0)
    );
    let_pass(&mut world, at(3000));
    let outcome = bring_to_rest(world);
    assert!(outcome.resent > 0);
    assert_eq!(outcome.lost, 0);
}

#[test]
fn a_server_that_stops_properly_loses_nothing_even_of_tabs_that_are_closed_meanwhile() {
    let mut world = slow_writer(1);
    let_pass(&mut world, at(2500));
    world.stop_server();
    let_pass(&mut world, at(3500));
    assert!(!world.server.is_up());
    world.crash(0);
    let_pass(&mut world, at(4000));
    world.start_server(None).expect("it starts");
    let_pass(&mut world, at(6000));
    let outcome = bring_to_rest(world);
    assert_eq!((outcome.lost, outcome.counts.crashes), (0, 0));
}
