//! Drawing a minibatch allocates nothing: this binary's allocator counts. One test alone in its binary, or tests beside it
//! would be counted too.

use nn::samples::{MinibatchBuffer, STEPS_PER_SHARD, Samples};
use nn::shard::{SampleFormat, Shard};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is the system allocator's own, which keeps the contract; counting touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of this function, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, that is from the system allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn drawing_allocates_nothing_from_the_first_step_on() {
    const BATCH: usize = 8;
    let format = SampleFormat {
        shape: vec![3],
        scale: 1.0,
        shift: 0.0,
        classes: 2,
    };
    let samples = Samples::new(format.clone(), 4, 1, 2);
    // Shards of different sizes, one of them smaller than a minibatch, and one that never comes.
    for (index, size) in [5, 100, 300].into_iter().enumerate() {
        samples
            .set(index, Shard::new(2, 3, vec![1; 3 * size], vec![1; size]).unwrap())
            .unwrap();
    }
    let mut buffer = MinibatchBuffer::new(&format, BATCH);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > 0, "the allocator counts");
    let mut step = 0;
    while step < 3 * 4 * STEPS_PER_SHARD {
        let Some(next) = samples.next_drawable(1, step) else {
            panic!("shards have arrived")
        };
        assert!(samples.draw(&samples.key(1, next), BATCH, &mut buffer).is_some());
        step = next + 1;
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before);
}
