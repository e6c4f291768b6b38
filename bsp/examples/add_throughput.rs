//! Measures what adding a gradient to the shared aggregate costs, beside the fallback: compare-and-swap on each float.
//!
//! `cargo run -p bsp --release --example add_throughput`

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use bsp::shared_memory::{Gradient, ModelStamp, shared_memory};

const FLOATS: usize = 1_000_000;
const TIMES: u64 = 400;

fn main() {
    let values = vec![1e-3_f32; FLOATS];
    let gradient = |step| Gradient {
        stamp: ModelStamp::default(),
        step,
        samples: 64,
        loss_sum: 0.0,
    };

    let (_local, mut sides) = shared_memory(FLOATS, 1);
    let add_ms = fastest_ms(|step| {
        let added = sides[0].add(black_box(&values), gradient(step));
        assert!(added.is_ok());
    });

    let sum: Vec<AtomicU32> = (0..FLOATS).map(|_| AtomicU32::new(0)).collect();
    let swap_ms = fastest_ms(|_| {
        for (sum, value) in sum.iter().zip(black_box(&values)) {
            let mut old = sum.load(Ordering::Relaxed);
            loop {
                let new = (f32::from_bits(old) + value).to_bits();
                match sum.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(now) => old = now,
                }
            }
        }
    });

    println!(
        "ms per million floats: {add_ms:.3} add (check, lease, sum), {swap_ms:.3} compare-and-swap on each: {:.1} ×",
        swap_ms / add_ms
    );
}

/// The fastest of many calls: what the work costs when nothing else disturbs it.
fn fastest_ms(mut call: impl FnMut(u64)) -> f64 {
    let time_ms = |step| {
        let begin = Instant::now();
        call(step);
        begin.elapsed().as_secs_f64() * 1e3
    };
    (0..TIMES).map(time_ms).fold(f64::INFINITY, f64::min)
}
