//! What drawing minibatches promises.

use super::*;
use crate::data::draw::draw;
use crate::data::minibatch::Targets;
use crate::data::sample_format::ContentFormat;

const ELEMENTS: usize = 3;

fn format() -> SampleFormat {
    SampleFormat {
        shape: vec![ELEMENTS],
        content: ContentFormat::Bytes {
            scale: 0.5,
            shift: -1.0,
            classes: 256,
        },
    }
}

/// A shard whose samples tell where they are from: element 0 is the shard's index, element 1 and the label the
/// sample's.
fn shard(index: usize, samples: usize) -> Shard {
    let inputs = (0..samples).flat_map(|sample| [index as u8, sample as u8, 7]).collect();
    Shard::bytes(256, ELEMENTS, inputs, (0..samples).map(|sample| sample as u8).collect()).unwrap()
}

/// All shards have arrived, of these many samples each.
fn samples(shards: usize, shard_samples: usize) -> Samples {
    let samples = Samples::new(format(), shards, 1, 2);
    for index in 0..shards {
        samples.set(index, shard(index, shard_samples)).unwrap();
    }
    samples
}

fn labels<'a>(minibatch: &Minibatch<'a>) -> &'a [u32] {
    match minibatch.targets {
        Targets::Classes(labels) => labels,
        Targets::Values(_) => panic!("bytes have classes"),
    }
}

/// The (shard, sample) pairs that a step draws.
fn drawn(samples: &Samples, ml_module: u32, step: u64, batch: usize) -> Vec<(usize, usize)> {
    let mut buffer = MinibatchBuffer::new(samples.format(), batch);
    let minibatch = samples.draw(&samples.key(ml_module, step), batch, &mut buffer).unwrap();
    let byte = |input: f32| ((input + 1.0) / 0.5) as usize;
    let rows = minibatch.inputs.chunks_exact(ELEMENTS).zip(labels(&minibatch));
    rows.map(|(row, &label)| {
        assert_eq!((byte(row[1]), row[2]), (label as usize, 2.5));
        (byte(row[0]), byte(row[1]))
    })
    .collect()
}

#[test]
fn a_key_draws_the_same_samples_for_ever() {
    assert_eq!(
        drawn(&samples(5, 100), 0, 1000, 6),
        [23, 43, 28, 97, 20, 27].map(|sample| (1, sample))
    );
}

#[test]
fn a_minibatch_depends_on_its_key_and_not_on_what_was_drawn_before_or_has_arrived_since() {
    let all = samples(5, 100);
    let (in_order, key) = (drawn(&all, 3, 777, 8), all.key(3, 777));
    let one = Samples::new(format(), 5, 1, 2);
    let index = in_order[0].0;
    one.set(index, shard(index, 100)).unwrap();
    assert_eq!(drawn(&one, 3, 777, 8), in_order);
    let mut used = MinibatchBuffer::new(&format(), 1);
    all.draw(&all.key(0, 0), 20, &mut used).unwrap();
    let again = all.draw(&key, 8, &mut used).unwrap();
    assert_eq!(again.inputs.len(), 8 * ELEMENTS);
    assert_eq!(
        labels(&again),
        in_order.iter().map(|&(_, sample)| sample as u32).collect::<Vec<_>>()
    );
}

#[test]
fn a_key_draws_the_same_samples_from_shards_that_are_all_there() {
    let (all, shards) = (samples(5, 100), [0, 1, 2, 3, 4].map(|index| shard(index, 100)));
    for step in [0, 63, 64, 1000] {
        let key = all.key(1, step);
        let mut buffers = [(); 2].map(|()| MinibatchBuffer::new(&format(), 6));
        let [one, other] = &mut buffers;
        let (one, other) = (all.draw(&key, 6, one).unwrap(), draw(&key, &shards, 6, other).unwrap());
        assert_eq!((one.inputs, labels(&one)), (other.inputs, labels(&other)));
    }
    assert!(draw(&all.key(0, 0), &[], 6, &mut MinibatchBuffer::new(&format(), 6)).is_none());
}

#[test]
fn every_part_of_a_key_changes_what_is_drawn() {
    let all = samples(5, 200);
    let first = drawn(&all, 0, 0, 8);
    assert_ne!(drawn(&all, 0, 1, 8), first);
    assert_ne!(drawn(&all, 1, 0, 8), first);
    for (run_seed, session) in [(9, 2), (1, 9)] {
        let other = Samples {
            run_seed,
            session,
            ..samples(5, 200)
        };
        assert_ne!(drawn(&other, 0, 0, 8), first);
    }
}

#[test]
fn a_pass_visits_every_shard_for_one_window() {
    let all = samples(7, 100);
    for pass in 0..3 {
        let mut visited = Vec::new();
        for window in pass * 7..(pass + 1) * 7 {
            let shard_of_step = |step| {
                let pairs = drawn(&all, 0, window * STEPS_PER_SHARD + step, 4);
                assert!(pairs.iter().all(|pair| pair.0 == pairs[0].0));
                pairs[0].0
            };
            let shard = shard_of_step(0);
            assert!((1..STEPS_PER_SHARD).all(|step| shard_of_step(step) == shard));
            visited.push(shard);
        }
        visited.sort_unstable();
        assert_eq!(visited, [0, 1, 2, 3, 4, 5, 6]);
    }
}

#[test]
fn every_sample_of_a_shard_is_drawn_once_before_any_is_drawn_again() {
    // A window is 192 samples, less than the shard has: the next visit goes on where the last one ended.
    let all = samples(2, 250);
    let mut drawn_by_shard: [Vec<usize>; 2] = Default::default();
    for step in 0..STEPS_PER_SHARD * 2 * 8 {
        for (shard, sample) in drawn(&all, 0, step, 3) {
            drawn_by_shard[shard].push(sample);
        }
    }
    for order in drawn_by_shard {
        let passes: Vec<&[usize]> = order.chunks_exact(250).collect();
        assert_eq!(passes.len(), 6);
        for pass in &passes {
            let mut sorted = pass.to_vec();
            sorted.sort_unstable();
            assert!(sorted.into_iter().eq(0..250));
        }
        assert_ne!(passes[0], passes[1]);
    }
}

#[test]
fn a_minibatch_larger_than_a_shard_is_filled() {
    let pairs = drawn(&samples(1, 5), 0, 3, 32);
    assert_eq!(pairs.len(), 32);
    for sample in 0..5 {
        let times = pairs.iter().filter(|pair| pair.1 == sample).count();
        assert!((5..=8).contains(&times), "sample {sample}: {times} times");
    }
}

#[test]
fn nobody_waits_for_a_shard_while_another_has_arrived() {
    let some = Samples::new(format(), 9, 1, 2);
    assert_eq!(some.next_drawable(0, 0), None);
    some.set(4, shard(4, 10)).unwrap();
    let mut step = 0;
    for _ in 0..3 * STEPS_PER_SHARD {
        let next = some.next_drawable(0, step).unwrap();
        assert!(next >= step && next < step + 2 * 9 * STEPS_PER_SHARD);
        assert_eq!(drawn(&some, 0, next, 1)[0].0, 4);
        // What is left out could not have been drawn.
        let mut buffer = MinibatchBuffer::new(&format(), 1);
        assert!((step..next).all(|step| some.draw(&some.key(0, step), 1, &mut buffer).is_none()));
        step = next + 1;
    }
    assert!(some.next_drawable(0, u64::MAX).is_none_or(|step| step == u64::MAX));
}

#[test]
fn no_step_is_left_out_when_all_shards_have_arrived() {
    let all = samples(3, 10);
    assert!((0..1000).all(|step| all.next_drawable(1, step) == Some(step)));
}

#[test]
fn shards_are_fetched_once_each_and_first_those_that_are_wanted_first() {
    let all = samples(20, 10);
    for ml_modules in [1, 3] {
        let fetch: Vec<usize> = all.fetch_order(ml_modules).iter().map(|wanted| wanted.shard).collect();
        let mut sorted = fetch.clone();
        sorted.sort_unstable();
        assert!(sorted.into_iter().eq(0..20));
        let wanted_first = |ml_module| drawn(&all, ml_module, 0, 1)[0].0;
        assert!((0..ml_modules).all(|ml_module| fetch[..ml_modules as usize].contains(&wanted_first(ml_module))));
    }
    assert_ne!(
        all.fetch_order(1),
        Samples {
            session: 9,
            ..samples(20, 10)
        }
        .fetch_order(1)
    );
}

#[test]
fn a_shard_is_wanted_in_the_first_window_in_which_an_ml_module_draws_from_it() {
    let all = samples(5, 10);
    for Wanted { shard, window } in all.fetch_order(2) {
        let draws_from_it = |window: u64, ml_module| drawn(&all, ml_module, window * STEPS_PER_SHARD, 1)[0].0 == shard;
        assert!((0..2).any(|ml_module| draws_from_it(window, ml_module)));
        assert!((0..window).all(|window| (0..2).all(|ml_module| !draws_from_it(window, ml_module))));
    }
}

#[test]
fn the_furthest_window_is_that_of_the_ml_module_that_is_ahead() {
    let all = samples(5, 10);
    assert_eq!(all.furthest_window(), 0);
    all.next_drawable(1, 3 * STEPS_PER_SHARD);
    all.next_drawable(0, 2 * STEPS_PER_SHARD + 1);
    assert_eq!(all.furthest_window(), 3);
}

#[test]
fn shards_that_do_not_fit_the_run_are_refused() {
    let some = Samples::new(format(), 2, 1, 2);
    assert_eq!(
        some.set(2, shard(2, 1)),
        Err(SamplesError::NoSuchShard { index: 2, shards: 2 })
    );
    let error = some
        .set(0, Shard::bytes(10, 4, vec![0; 4], vec![1]).unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "shard 0 has samples of 4 bytes and 10 classes, but the run says samples of 3 bytes and 256 classes; reload \
         the page"
    );
    some.set(0, shard(0, 1)).unwrap();
    assert_eq!(some.set(0, shard(1, 1)), Err(SamplesError::AlreadySet { index: 0 }));
    assert_eq!((some.loaded(), some.shards()), (1, 2));
}

#[test]
fn a_run_without_shards_has_nothing_to_draw() {
    let none = Samples::new(format(), 0, 1, 2);
    assert_eq!(none.next_drawable(0, 0), None);
    assert!(none.fetch_order(1).is_empty());
    let mut buffer = MinibatchBuffer::new(&format(), 1);
    assert!(none.draw(&none.key(0, 0), 1, &mut buffer).is_none());
}

#[test]
fn one_thread_sets_while_others_draw() {
    let some = Samples::new(format(), 8, 1, 2);
    std::thread::scope(|scope| {
        for ml_module in 0..2 {
            let some = &some;
            scope.spawn(move || {
                let mut step = 0;
                while step < 10_000 {
                    if let Some(next) = some.next_drawable(ml_module, step) {
                        drawn(some, ml_module, next, 2);
                        step = next + 1;
                    }
                }
            });
        }
        for Wanted { shard: index, .. } in some.fetch_order(2) {
            some.set(index, shard(index, 50)).unwrap();
        }
    });
}
