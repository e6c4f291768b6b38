//! After an ML module's death no memory is taken or given back, whatever happens: in a tab the dead one may hold the
//! allocator's lock, which spins.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bsp::protocol::message::{FromCentral, Refusal};
use bytes::Bytes;
use volunteer::action::{Action, Ending};
use volunteer::fetch::{FetchError, Resource};
use volunteer::settings::Settings;
use volunteer::volunteer_loop::VolunteerLoop;
use world::{World, settings, shard};

/// The system's allocator, and a count for each thread of what is taken and given back.
struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting on the side allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CALLS.with(|calls| calls.set(calls.get() + 1));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` calls the allocator.
fn calls(work: impl FnOnce()) -> u64 {
    let before = CALLS.with(Cell::get);
    work();
    CALLS.with(Cell::get) - before
}

/// A training tab, one of whose ML modules is about to die.
fn tab() -> World {
    let mut world = World::training(Settings {
        restarts_here: false,
        ..settings()
    });
    world.compute();
    world.actions.clear();
    // The next read-out is due.
    world.now = world.now + 2 * world::PERIOD;
    // A side that died with its thread is never dropped.
    std::mem::forget(world.ml_modules.remove(0));
    world
}

/// Every event that a driver can hand in.
fn everything(volunteer: &mut VolunteerLoop, world: &mut Inputs) {
    let (now, actions) = (world.now, &mut world.actions);
    volunteer.on_closed(now, actions);
    volunteer.on_open(now, actions);
    volunteer.on_frame(now, &world.refusal, actions);
    volunteer.on_frame(now, &world.nonsense, actions);
    volunteer.pause(now, actions);
    volunteer.resume(now, actions);
    volunteer.set_active_ml_modules(now, 3, actions);
    volunteer.set_cpu_percent(now, 10, actions);
    volunteer.leave(now, actions);
    volunteer.on_ml_module_died(now, 0, actions);
    volunteer.on_fetched(now, &world.shard, Ok(&world.shard_bytes), actions);
    volunteer.on_fetched(now, &world.shard, Err(FetchError::Status(500)), actions);
    volunteer.on_timeout(now, actions);
    let _ = volunteer.next_timeout(now);
    let _ = volunteer.measure_progress(now);
}

struct Inputs {
    now: bsp::time::Time,
    actions: Vec<Action>,
    refusal: Bytes,
    nonsense: Bytes,
    shard: Resource,
    shard_bytes: Vec<u8>,
}

#[test]
fn after_a_death_nothing_is_allocated_or_freed_up_to_the_end() {
    let mut world = tab();
    let counted = calls(|| {
        world.on(|volunteer, now, actions| volunteer.on_ml_module_died(now, 0, actions));
    });
    assert_eq!(counted, 0);
    assert!(matches!(world.actions[..], [Action::SendContribution { sequence: 1 }]));
    // The other finishes its minibatch.
    world.ml_modules.clear();
    let counted = calls(|| while world.next_timeout().is_some() {});
    assert_eq!(counted, 0);
    assert!(matches!(world.actions.last(), Some(Action::End(Ending::Restarting))));
}

#[test]
fn after_a_death_no_event_allocates_or_frees_anything() {
    let mut world = tab();
    world.on(|volunteer, now, actions| volunteer.on_ml_module_died(now, 0, actions));
    let mut inputs = Inputs {
        now: world.now,
        actions: Vec::with_capacity(100),
        refusal: FromCentral::Refused(Refusal::AnotherRun).encode(),
        nonsense: Bytes::from_static(b"\xff\xff"),
        shard: Resource::Shard {
            index: 0,
            name: shard(0).name(),
        },
        shard_bytes: shard(0).encode(),
    };
    for _ in 0..20 {
        let counted = calls(|| everything(&mut world.volunteer, &mut inputs));
        assert_eq!(counted, 0, "at {:?}", inputs.now);
        inputs.now = inputs.now + std::time::Duration::from_millis(500);
    }
    assert!(inputs.actions.iter().any(|action| matches!(action, Action::End(_))));
}
