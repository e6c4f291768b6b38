//! An ML module allocates nothing per step: this binary's allocator counts.

use nn::{Minibatch, Model, ModelSpec};
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

const MODEL: &str = r#"
    input = [2, 9, 9]
    [[layers]]
    kind = "conv2d"
    filters = 5
    kernel = 3
    stride = 2
    padding = 1
    [[layers]]
    kind = "relu"
    [[layers]]
    kind = "max_pool2d"
    size = 2
    [[layers]]
    kind = "conv2d"
    filters = 3
    kernel = 1
    [[layers]]
    kind = "flatten"
    [[layers]]
    kind = "linear"
    outputs = 4
"#;

// One test alone in this file: another's thread would be counted too.
#[test]
fn a_step_allocates_nothing_after_the_scratch_is_made() {
    let spec: ModelSpec = toml::from_str(MODEL).unwrap();
    let model = Model::new(&spec).unwrap();
    let parameters = model.initial_parameters(1);
    let mut gradient = vec![0.0; parameters.len()];
    let inputs = vec![0.25; 3 * model.inputs()];
    let batch = Minibatch {
        inputs: &inputs,
        labels: &[0, 1, 2],
    };
    let mut scratch = model.scratch(3);

    let before = ALLOCATIONS.load(Ordering::Relaxed);
    assert!(before > 0, "the allocator does not count");
    let mut losses = 0.0;
    for _ in 0..3 {
        losses += model
            .gradient(&parameters, &batch, &mut gradient, &mut scratch)
            .loss_sum;
        losses += model.evaluate(&parameters, &batch, &mut scratch).loss_sum;
    }
    assert_eq!(
        ALLOCATIONS.load(Ordering::Relaxed) - before,
        0,
        "after losses of {losses}"
    );
}
