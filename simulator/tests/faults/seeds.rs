//! Many seeds, on all cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use simulator::fault_run::{FaultRun, Outcome};

/// The run of this seed, to its end.
///
/// # Panics
/// An invariant does not hold.
fn run(seed: u64) -> Outcome {
    match FaultRun::new(seed).finish() {
        Ok(outcome) => outcome,
        Err(violation) => panic!("{violation}"),
    }
}

/// Runs these seeds. Prints each that fails, and how to repeat it.
///
/// # Panics
/// A seed fails.
fn run_all(first: u64, count: u64) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (next, failed, sums) = (
        AtomicU64::new(first),
        Mutex::new(Vec::new()),
        Mutex::new(Outcome::default()),
    );
    let begun = Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                Ok(outcome) => sums.lock().unwrap().add(&outcome),
                Err(_) => {
                    eprintln!("seed {seed} fails (above): repeat it with `make soak SEEDS=1 FIRST={seed}`");
                    failed.lock().unwrap().push(seed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let took = begun.elapsed().as_secs_f64();
    println!("{count} seeds from {first} in {took:.1} s: {}", sums.lock().unwrap());
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "{} of {count} seeds failed: {failed:?}",
        failed.len()
    );
}

#[test]
fn nothing_is_lost_and_nothing_is_counted_twice_through_1000_seeds_of_crashes_and_faults() {
    run_all(0, 1000);
}

/// `make soak`: as many seeds as it is told.
#[test]
#[ignore = "make soak runs it"]
fn soak() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse().expect("a number"));
    run_all(number("FIRST", 1000), number("SEEDS", 10_000));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [3, 4] {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(3).fingerprint, run(4).fingerprint);
}
