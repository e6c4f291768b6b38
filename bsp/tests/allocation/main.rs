//! After warm-up, reading out and computing allocate nothing: in a tab the memory is shared, an allocation takes the
//! allocator's lock, and an ML module that died may hold it.
//!
//! - [`death`]: after an ML module's death nothing calls the allocator.

// Builders outside of the test functions may fail as loudly as these.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use bsp::local::{Action, Config, Local};
use bsp::ml_module::working_copy::LocalOptimizer;
use bsp::ml_module::{Engine, MlModule, Outcome, Turn};
use bsp::protocol::codec::Codec;
use bsp::protocol::message::{Ack, FromCentral, Mode, RunId, SessionId, Token, Welcome};
use bsp::shared_memory::{LocalSide, MlSide, ModelStamp, shared_memory};
use bsp::time::Time;
use bytes::Bytes;

mod death;

/// The system's allocator, and counts for each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static RELEASES: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting on the side allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        RELEASES.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

/// How often `work` calls the allocator: to release memory takes its lock, too.
fn calls_of_the_allocator(work: impl FnOnce()) -> u64 {
    let before = RELEASES.with(Cell::get);
    allocations(work) + RELEASES.with(Cell::get) - before
}

const PARAMETERS: usize = 100;

struct Ones;

impl Engine for Ones {
    fn next_step(&mut self, step: u64) -> Option<u64> {
        Some(step)
    }

    fn gradient(&mut self, parameters: &[f32], _: u64, gradient: &mut [f32]) -> Outcome {
        gradient.copy_from_slice(parameters);
        Outcome {
            samples: 1,
            loss_sum: 1.0,
        }
    }
}

fn publish(memory: &mut LocalSide, version: u64) {
    memory.publish(
        ModelStamp {
            incarnation: 1,
            version,
        },
        0,
        |_, slot| slot.fill(1.0),
    );
}

fn ml_modules(sides: Vec<MlSide>) -> Vec<MlModule<Ones>> {
    let ml_module = |side| MlModule::new(side, Mode::Decoupled, None, Ones);
    sides.into_iter().map(ml_module).collect()
}

/// ML modules that move along their own gradients.
fn ml_modules_with_local_steps(sides: Vec<MlSide>) -> Vec<MlModule<Ones>> {
    let ml_module = |side| MlModule::new(side, Mode::Decoupled, Some(Box::new(Hundredth)), Ones);
    sides.into_iter().map(ml_module).collect()
}

/// Moves along a hundredth of the gradient.
struct Hundredth;

impl LocalOptimizer for Hundredth {
    fn displace(&mut self, _: &[f32], gradient: &mut [f32], _: u32) {
        gradient.iter_mut().for_each(|value| *value *= 0.01);
    }
}

/// A welcomed local BSP module with three ML modules.
fn welcomed() -> (Local, Vec<MlModule<Ones>>, Vec<Action>) {
    welcomed_to(Codec::F32, false)
}

/// The same, in a run whose contributions are encoded so, with local steps or without.
fn welcomed_to(codec: Codec, has_local_steps: bool) -> (Local, Vec<MlModule<Ones>>, Vec<Action>) {
    let (mut memory, sides) = shared_memory(PARAMETERS, 3);
    publish(&mut memory, 1);
    let config = Config {
        run: RunId(1),
        spec_hash: 2,
        mode: Mode::Decoupled,
        has_local_steps,
        max_read_out_gradients: 3,
        jitter_seed: 3,
    };
    let mut local = Local::new(Time::ZERO, config, memory);
    let mut actions = Vec::with_capacity(100);
    local.on_timeout(Time::ZERO, &mut actions);
    local.on_open(Time::ZERO, &mut actions);
    let welcome = Welcome {
        session: SessionId(1),
        token: Token(1),
        period_us: 10_000,
        settled: 0,
        durable: 0,
        is_last_refused: false,
        codec,
    };
    local
        .on_frame(Time::ZERO, &FromCentral::Welcome(welcome).encode(), &mut actions)
        .expect("a welcome");
    actions.clear();
    let ml_modules = match has_local_steps {
        true => ml_modules_with_local_steps(sides),
        false => ml_modules(sides),
    };
    (local, ml_modules, actions)
}

#[test]
fn an_allocation_is_noticed() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn an_ml_modules_turn_allocates_nothing() {
    let (mut memory, sides) = shared_memory(PARAMETERS, 1);
    let mut ml_modules = ml_modules(sides);
    for version in 0..50 {
        publish(&mut memory, version);
        let mut now = Time::from_micros(version);
        let mut clock = || {
            now = now + Duration::from_micros(1);
            now
        };
        let counted = allocations(|| assert_eq!(ml_modules[0].turn(&mut clock), Turn::Computed));
        assert_eq!(counted, 0, "in turn {version}");
    }
    assert_eq!(allocations(|| publish(&mut memory, 100)), 0, "nor does publishing");
}

#[test]
fn a_local_step_allocates_nothing_whatever_is_published_and_read_out_in_between() {
    let (mut memory, mut sides) = shared_memory(PARAMETERS, 1);
    let inner: Box<dyn LocalOptimizer> = Box::new(Hundredth);
    let mut ml_module = MlModule::new(sides.remove(0), Mode::Decoupled, Some(inner), Ones);
    for version in 0..50 {
        publish(&mut memory, version);
        let counted = allocations(|| assert_eq!(ml_module.turn(&mut || Time::ZERO), Turn::Computed));
        assert_eq!(counted, 0, "in turn {version}");
        if version % 3 == 0 {
            memory.flip(0);
            memory.take(0, |_, _| ());
        }
    }
}

#[test]
fn reading_out_allocates_nothing_however_contributions_are_encoded() {
    for codec in Codec::ALL {
        let (mut local, mut ml_modules, mut actions) = welcomed_to(codec, false);
        for ml_module in &mut ml_modules {
            assert_eq!(ml_module.turn(&mut || Time::ZERO), Turn::Computed);
        }
        let now = Time::ZERO + Duration::from_millis(10);
        let counted = allocations(|| local.on_timeout(now, &mut actions));
        assert_eq!(actions, [Action::SendContribution { sequence: 1 }]);
        assert_eq!(counted, 0, "{codec:?}");
    }
}

#[test]
fn reading_out_without_a_link_allocates_nothing_until_as_many_as_can_be_kept_are_full_nor_does_sleeping() {
    for (codec, has_local_steps) in [(Codec::F32, false), (Codec::Int8, false), (Codec::F32, true)] {
        let (mut local, mut ml_modules, mut actions) = welcomed_to(codec, has_local_steps);
        let mut now = Time::ZERO + Duration::from_millis(1);
        local.on_closed(now, &mut actions);
        // Connecting is not part of it.
        local.on_timeout(local.next_timeout(now), &mut actions);
        local.on_timeout(Time::ZERO + Duration::from_secs(1), &mut actions);
        now = Time::ZERO + Duration::from_secs(1);
        actions.clear();
        for _ in 0..100 {
            if !local.is_resting() {
                for ml_module in &mut ml_modules {
                    assert_eq!(ml_module.turn(&mut || Time::ZERO), Turn::Computed);
                }
            }
            now = now + Duration::from_millis(10);
            assert_eq!(allocations(|| local.on_timeout(now, &mut actions)), 0, "{codec:?}");
            assert_eq!(actions, []);
        }
        assert!(local.is_resting());
        let kept = (1..=100).filter(|sequence| local.contribution_frame(*sequence).is_some());
        assert_eq!(kept.count(), if has_local_steps { 1 } else { 64 });
    }
}

#[test]
fn what_a_closing_tab_sends_allocates_nothing() {
    let (mut local, mut ml_modules, mut actions) = welcomed();
    for sequence in 1..=2 {
        for ml_module in &mut ml_modules {
            assert_eq!(ml_module.turn(&mut || Time::ZERO), Turn::Computed);
        }
        let now = Time::from_micros(sequence);
        assert_eq!(allocations(|| local.on_closing(now, &mut actions)), 0);
    }
    let sent = [1, 2].map(|sequence| Action::SendContribution { sequence });
    assert_eq!(actions, sent, "one right behind the other");
}

#[test]
fn encoding_with_feedback_checking_and_decoding_allocate_nothing() {
    for codec in Codec::ALL {
        let mut values = [0.5; PARAMETERS];
        let mut error = [0.25; PARAMETERS];
        let mut payload = vec![0; codec.encoded_bytes(PARAMETERS)];
        let counted = allocations(|| {
            codec.encode_with_feedback(&mut values, &mut error, &mut payload);
            assert_eq!(codec.check(&payload, PARAMETERS), Ok(()));
            codec.decode_into(&payload, &mut error, |slot, value| *slot += value);
        });
        assert_eq!(counted, 0, "in {codec:?}");
        assert_eq!(error, [0.75; PARAMETERS], "decoded and lost make the whole");
    }
}

#[test]
fn reading_out_and_settling_allocate_nothing() {
    let (mut local, mut ml_modules, mut actions) = welcomed();
    let mut now = Time::ZERO;
    let mut read_outs = 0;
    for sequence in 1..=50 {
        for ml_module in &mut ml_modules {
            assert_eq!(ml_module.turn(&mut || now), Turn::Computed);
        }
        now = now + Duration::from_millis(10);
        let counted = allocations(|| {
            local.on_timeout(now, &mut actions);
            now = now.max(local.next_timeout(now).min(now));
        });
        assert_eq!(actions, [Action::SendContribution { sequence }]);
        assert_eq!(counted, 0, "for contribution {sequence}");
        actions.clear();
        assert!(
            local
                .contribution_frame(sequence)
                .is_some_and(|frame| frame.len() > 4 * PARAMETERS)
        );
        let ack = Ack {
            through: sequence,
            durable: sequence,
            refused: None,
        };
        let ack: Bytes = FromCentral::Ack(ack).encode();
        let counted = allocations(|| local.on_frame(now, &ack, &mut actions).expect("our own frame"));
        assert_eq!(counted, 0, "when contribution {sequence} was settled");
        assert_eq!(actions, []);
        read_outs += 1;
    }
    assert_eq!(read_outs, 50);
}
