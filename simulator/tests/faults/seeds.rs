//! Many seeds, on all cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::plan::run;

/// Runs these seeds. Prints each that fails, and how to repeat it.
///
/// # Panics
/// A seed fails.
fn run_all(first: u64, count: u64) {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let sums = Mutex::new([0u64; 8]);
    let begun = Instant::now();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        Ok(outcome) => {
                            let counts = outcome.counts;
                            let numbers = [
                                counts.starts,
                                counts.crashes,
                                counts.checkpoints,
                                counts.failed_checkpoints,
                                outcome.samples,
                                outcome.lost,
                                outcome.duplicates,
                                outcome.resent,
                            ];
                            let mut sums = sums.lock().unwrap();
                            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
                        }
                        Err(_) => {
                            eprintln!("seed {seed} fails (above): repeat it with `make soak SEEDS=1 FIRST={seed}`");
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let [
        starts,
        crashes,
        checkpoints,
        not_written,
        samples,
        lost,
        duplicates,
        resent,
    ] = *sums.lock().unwrap();
    println!(
        "{count} seeds from {first} in {:.0} s: {starts} starts, {crashes} crashes, {checkpoints} checkpoints written and \
         {not_written} not, {samples} samples accepted, {lost} lost with tabs that died or disks that lied, {resent} \
         contributions sent again, {duplicates} duplicates",
        begun.elapsed().as_secs_f64()
    );
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
