//! After warm-up, drawing minibatches and computing gradients allocate nothing: in a tab the memory is shared, and an
//! ML module that waits for the allocator's lock waits for the others.

use nn::data::draw::STEPS_PER_SHARD;
use nn::data::minibatch::MinibatchBuffer;
use nn::data::sample_format::{ContentFormat, SampleFormat};
use nn::data::samples::Samples;
use nn::data::shard::Shard;
use nn::random::MinibatchKey;
use nn::{Minibatch, Model, ModelSpec, Targets};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, and a count for each thread: the test harness allocates in threads of its own, whenever it
/// likes.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is the system allocator's own, which keeps the contract; counting touches no memory of it and
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
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

/// How many allocations this thread has made.
fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

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
    kind = "residual"
    layers = [{ kind = "group_norm", groups = 3 }, { kind = "gelu" },
        { kind = "conv2d", filters = 6, kernel = 1, groups = 3 }]
    projection = { kind = "conv2d", filters = 6, kernel = 1 }
    [[layers]]
    kind = "avg_pool2d"
    size = [1, 2]
    [[layers]]
    kind = "dropout"
    share = 0.5
    [[layers]]
    kind = "flatten"
    [[layers]]
    kind = "layer_norm"
    [[layers]]
    kind = "linear"
    outputs = 4
"#;

const TRANSFORMER: &str = r#"
    input = [40]
    [[layers]]
    kind = "embedding"
    tokens = 9
    width = 6
    [[layers]]
    kind = "positional_embedding"
    [[layers]]
    kind = "residual"
    layers = [{ kind = "layer_norm" }, { kind = "causal_self_attention", heads = 2 }]
    [[layers]]
    kind = "residual"
    layers = [{ kind = "layer_norm" }, { kind = "linear", outputs = 12 }, { kind = "gelu" },
        { kind = "linear", outputs = 6 }]
    [[layers]]
    kind = "flatten"
    [[layers]]
    kind = "linear"
    outputs = 4
"#;

const VISION_TRANSFORMER: &str = r#"
    input = [2, 6, 4]
    [[layers]]
    kind = "patchify"
    size = [3, 2]
    [[layers]]
    kind = "linear"
    outputs = 6
    [[layers]]
    kind = "positional_embedding"
    [[layers]]
    kind = "causal_self_attention"
    heads = 3
    [[layers]]
    kind = "global_avg_pool"
    [[layers]]
    kind = "linear"
    outputs = 4
"#;

#[test]
fn a_step_allocates_nothing_after_the_scratch_is_made() {
    for (spec, input) in [(MODEL, 0.25), (TRANSFORMER, 8.0), (VISION_TRANSFORMER, 0.25)] {
        let spec: ModelSpec = toml::from_str(spec).unwrap();
        steps_allocate_nothing(&Model::new(&spec).unwrap(), input);
    }
}

fn steps_allocate_nothing(model: &Model, input: f32) {
    let parameters = model.initial_parameters(1);
    let mut gradient = vec![0.0; parameters.len()];
    let inputs = vec![input; 3 * model.inputs()];
    let batch = Minibatch {
        inputs: &inputs,
        targets: Targets::Classes(&[0, 1, 2]),
        key: Some(MinibatchKey {
            run_seed: 1,
            session: 2,
            ml_module: 0,
            step: 3,
        }),
    };
    let (mut scratch, mut evaluation_scratch) = (model.scratch(3), model.evaluation_scratch(3));

    let before = allocations();
    assert!(before > 0, "the allocator does not count");
    let mut losses = 0.0;
    for _ in 0..3 {
        losses += model
            .gradient(&parameters, &batch, &mut gradient, &mut scratch)
            .loss_sum;
        losses += model.evaluate(&parameters, &batch, &mut evaluation_scratch).loss_sum;
    }
    assert_eq!(allocations() - before, 0, "after losses of {losses}");
}

#[test]
fn drawing_allocates_nothing_from_the_first_step_on() {
    const BATCH: usize = 8;
    let format = SampleFormat {
        shape: vec![3],
        content: ContentFormat::Bytes {
            scale: 1.0,
            shift: 0.0,
            classes: 2,
        },
    };
    let samples = Samples::new(format.clone(), 4, 1, 2);
    // Shards of different sizes, one of them smaller than a minibatch, and one that never comes.
    for (index, size) in [5, 100, 300].into_iter().enumerate() {
        samples
            .set(index, Shard::bytes(2, 3, vec![1; 3 * size], vec![1; size]).unwrap())
            .unwrap();
    }
    let mut buffer = MinibatchBuffer::new(&format, BATCH);
    let before = allocations();
    assert!(before > 0, "the allocator counts");
    let mut step = 0;
    while step < 3 * 4 * STEPS_PER_SHARD {
        let Some(next) = samples.next_drawable(1, step) else {
            panic!("shards have arrived")
        };
        assert!(samples.draw(&samples.key(1, next), BATCH, &mut buffer).is_some());
        step = next + 1;
    }
    assert_eq!(allocations(), before);
}
