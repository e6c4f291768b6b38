//! Tabs that are closed, and ML modules that die.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bsp::local::{Action, End, Local};
use bsp::protocol::frame::Received;
use bsp::protocol::message::{Ack, FromCentral, FromVolunteer};
use bsp::shared_memory::{Gradient, ModelStamp, shared_memory};
use bsp::time::Time;
use bytes::Bytes;

use super::tab::{Machine, welcomed};
use super::world::{World, ms, seconds};

#[test]
fn a_tab_that_is_closed_in_the_middle_leaves_the_others_training() {
    let mut world = World::new(1);
    let (stays, goes) = (world.join(Machine::default()), world.join(Machine::default()));
    world.run_until(seconds(5));
    world.crash(goes);
    world.run_until(seconds(6));
    let (version, samples) = (world.central.stamp().version, world.central.totals().samples);
    world.run_until(seconds(16));
    assert!(world.central.stamp().version > version + 25);
    assert!(world.central.totals().samples > samples + 8000);
    assert_eq!(world.central.volunteers(world.now).count(), 1);
    world.leave(stays);
    world.run_until(seconds(20));
    world.assert_all_is_settled(stays);
    world.assert_totals();
}

#[test]
fn a_tab_that_vanishes_without_a_word_is_not_waited_for() {
    let mut world = World::new(1);
    let (_, goes) = (world.join(Machine::default()), world.join(Machine::default()));
    world.run_until(seconds(5));
    world.cut(goes, None, None);
    world.tabs[goes].local = None;
    world.run_until(seconds(8));
    let before = world.observer.closed.len();
    world.run_until(seconds(18));
    assert!(world.observer.closed.len() > before + 25);
}

#[test]
fn when_an_ml_module_dies_the_others_are_read_out_and_the_tab_ends() {
    for micros in (0..80_000).step_by(1_313) {
        let mut world = World::new(micros);
        let machine = Machine {
            ml_modules: 3,
            latency: ms(15),
            step: ms(9),
            ..Machine::default()
        };
        let (tab, other) = (world.join(machine), world.join(Machine::default()));
        world.run_until(seconds(2) + Duration::from_micros(micros));
        world.kill_ml_module(tab, 1);
        world.run_until(seconds(4));
        assert_eq!(world.end_of(tab), Some(&End::MlModuleDied));
        // It died between two adds, so no gradient is lost, not even its own.
        world.assert_all_is_settled(tab);
        world.assert_totals();
        assert_eq!(world.end_of(other), None);
        assert!(world.tabs[tab].ml.iter().all(|ml| ml.training.is_none()));
    }
}

#[test]
fn an_ml_module_that_dies_in_lockstep_ends_its_tab_and_the_others_go_on() {
    let mut world = World::with(1, super::lockstep::lockstep(), super::gradients::Gradients::Counting);
    let tabs = [0, 1].map(|_| {
        world.join(Machine {
            ml_modules: 2,
            ..Machine::default()
        })
    });
    world.run_until(seconds(2));
    world.kill_ml_module(tabs[0], 0);
    world.run_until(seconds(4));
    assert_eq!(world.end_of(tabs[0]), Some(&End::MlModuleDied));
    let before = world.observer.closed.len();
    world.run_until(seconds(6));
    assert!(world.observer.closed.len() > before + 30);
}

#[test]
fn a_dying_tab_whose_other_ml_module_takes_long_waits_for_it_without_spinning() {
    let mut world = World::new(1);
    let tab = world.join(Machine {
        ml_modules: 2,
        step: ms(3000),
        ..Machine::default()
    });
    world.run_until(seconds(4));
    world.kill_ml_module(tab, 0);
    world.run_until(seconds(12));
    assert_eq!(world.end_of(tab), Some(&End::MlModuleDied));
    world.assert_all_is_settled(tab);
}

/// Deaths in the middle of an add, which only another thread can be in, and so no simulation.
#[test]
fn a_death_in_the_middle_of_an_add_loses_only_what_its_buffer_held_and_the_report_says_so() {
    let mut deaths_in_adds = 0;
    for _ in 0..50 {
        let [sent, discarded, begun] = die_when_an_add_is_read_out(true);
        assert_eq!(sent + discarded, begun, "lost, or counted twice");
        deaths_in_adds += u64::from(discarded > 0);
        if deaths_in_adds == 3 {
            return;
        }
    }
    panic!("only {deaths_in_adds} deaths fell into an add");
}

#[test]
fn gradients_that_a_dying_ml_module_added_while_a_read_out_waited_for_it_are_read_out_too() {
    for _ in 0..5 {
        let [sent, discarded, begun] = die_when_an_add_is_read_out(false);
        assert_eq!([sent, discarded], [begun, 0]);
    }
}

/// Two ML modules; the first adds on a thread of its own. When a read-out finds it adding, it is said to be dead,
/// either then or after two adds more. Returns how many gradients were sent, how many the last report says are
/// discarded, and how many were begun.
fn die_when_an_add_is_read_out(dies_in_the_add: bool) -> [u64; 3] {
    const LARGE: usize = 1 << 18;
    let (memory, mut sides) = shared_memory(LARGE, 2);
    let mut local = welcomed(memory);
    let mut actions = Vec::new();

    let gradient = |step| Gradient {
        stamp: ModelStamp::default(),
        step,
        samples: 1,
        loss_sum: 0.0,
    };
    let ones = vec![1.0; LARGE];
    let (mut other, mut dying) = (sides.remove(1), sides.remove(0));
    let begun = AtomicU64::new(0);
    let is_over = AtomicBool::new(false);
    let mut sent = Vec::new();
    let mut now = Time::ZERO;
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            for step in 0..2000 {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                begun.fetch_add(1, Ordering::SeqCst);
                dying.add(&ones, gradient(step)).unwrap();
            }
            if !dies_in_the_add {
                begun.fetch_add(2, Ordering::SeqCst);
                dying.add(&ones, gradient(3000)).unwrap();
                dying.add(&ones, gradient(3001)).unwrap();
            }
            // A side that died with its thread is never dropped.
            std::mem::forget(dying);
        });
        while !adding.is_finished() && !local.memory().is_pending(0) {
            now = local.next_timeout(now);
            local.on_timeout(now, &mut actions);
            settle_all(&mut local, now, &mut actions, &mut sent);
        }
        // If its lease is the same after this, then it takes no other.
        is_over.store(true, Ordering::SeqCst);
        if dies_in_the_add {
            // Something to read out, so that there is a report. In the other case it would ask for the read-out that is
            // tested.
            begun.fetch_add(1, Ordering::SeqCst);
            other.add(&ones, gradient(0)).unwrap();
        }
        drop(other);
        if dies_in_the_add && local.memory().is_pending(0) {
            local.on_ml_module_died(now, 0, &mut actions);
        }
        adding.join().unwrap();
        local.on_ml_module_died(now, 0, &mut actions);
    });
    for _ in 0..20 {
        let has_ended = actions.last() == Some(&Action::Ended(End::MlModuleDied));
        settle_all(&mut local, now, &mut actions, &mut sent);
        if has_ended {
            let gradients = sent.iter().map(|(gradients, _)| gradients).sum();
            return [gradients, sent.last().unwrap().1, begun.load(Ordering::SeqCst)];
        }
        now = local.next_timeout(now);
        local.on_timeout(now, &mut actions);
    }
    panic!("the tab did not end");
}

/// Acknowledges each contribution that was sent, and notes its gradients and the discarded ones of its report.
fn settle_all(local: &mut Local, now: Time, actions: &mut Vec<Action>, sent: &mut Vec<(u64, u64)>) {
    for action in std::mem::take(actions) {
        let Action::SendContribution { sequence } = action else {
            continue;
        };
        let frame = Bytes::copy_from_slice(local.contribution_frame(sequence).unwrap());
        let Received { message, payload } = FromVolunteer::decode(&frame).unwrap();
        let FromVolunteer::Contribution(contribution) = message else {
            panic!("{message:?}")
        };
        assert!(
            super::gradients::floats(&payload).all(|value| value == contribution.gradients as f32),
            "half a gradient"
        );
        sent.push((contribution.gradients, contribution.report.discarded));
        let ack = Ack {
            through: sequence,
            durable: sequence,
            refused: None,
        };
        local.on_frame(now, &FromCentral::Ack(ack).encode(), actions).unwrap();
    }
}
