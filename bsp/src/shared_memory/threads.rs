//! The whole shared memory under real threads: what loom's small models promise, at full speed and at length.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const PARAMETERS: usize = 1031;

fn stamp(version: u64) -> ModelStamp {
    ModelStamp {
        incarnation: 1,
        version,
    }
}

fn gradient(step: u64) -> Gradient {
    Gradient {
        stamp: stamp(step / 10),
        step,
        samples: 1 + (step % 3) as u32,
        loss_sum: 0.25,
    }
}

/// The content of all read-outs of one ML module.
#[derive(Default)]
struct Collected {
    gradients: u64,
    samples: u64,
    loss_sum: f64,
    next_step: u64,
}

impl Collected {
    /// Checks that the sum is the header's, and that the steps follow on those before, without a gap or an overlap.
    fn collect(&mut self, header: &Header, sum: &[f32]) {
        // Every gradient is all ones, and a sum of less than 2²⁴ ones is exact.
        assert!(
            sum.iter().all(|&value| value == header.gradients as f32),
            "half a gradient"
        );
        for run in header.runs() {
            if header.unlisted_runs() == 0 {
                assert_eq!(run.first_step, self.next_step, "a gradient in no read-out, or in two");
            }
            self.next_step = run.first_step + u64::from(run.count);
        }
        self.gradients += header.gradients;
        self.samples += header.samples;
        self.loss_sum += header.loss_sum;
        if header.unlisted_runs() > 0 {
            self.next_step = self.gradients;
        }
    }
}

/// Reads out all that is left, once the ML module has stopped.
fn drain(local: &mut LocalSide, module: usize, collected: &mut Collected) {
    for _ in 0..2 {
        local.flip(module);
        let Taken::Read(()) = local.take(module, |header, sum| collected.collect(header, sum)) else {
            panic!("a read-out of a module that stopped is pending");
        };
    }
}

/// An ML module that adds ones on each whole model that it reads, and now and then something that is not a gradient,
/// until it is told to stop. Returns its steps.
fn add_ones_until_stopped(mut side: MlSide) -> u64 {
    let ones = vec![1.0; PARAMETERS];
    let mut not_a_gradient = ones.clone();
    not_a_gradient[PARAMETERS / 2] = f32::NAN;
    let (mut step, mut last_version) = (0, 0);
    while side.control().state != State::Stop {
        let Some(model) = side.model() else {
            side.wait_for_publish(None);
            continue;
        };
        let version = model.stamp().version;
        assert!(
            model.iter().all(|&value| value == version as f32),
            "a mixture of models"
        );
        assert!(version >= last_version, "an older model after a newer one");
        last_version = version;
        assert!(side.add(&ones, gradient(step)).is_ok());
        if step % 7 == 0 {
            let refused = NotFinite::Gradient {
                step,
                parameter: PARAMETERS / 2,
            };
            assert_eq!(side.add(&not_a_gradient, gradient(step)), Err(refused));
        }
        step += 1;
    }
    step
}

/// Checks that the read-outs and the progress of an ML module that has stopped hold all its `steps` steps.
fn assert_all_is_read_out(local: &mut LocalSide, module: usize, steps: u64, mut collected: Collected) {
    drain(local, module, &mut collected);
    let samples: u64 = (0..steps).map(|step| u64::from(gradient(step).samples)).sum();
    assert_eq!((collected.gradients, collected.samples), (steps, samples));
    assert_eq!(collected.loss_sum, 0.25 * steps as f64);
    let progress = local.progress(module);
    assert_eq!((progress.gradients, progress.samples), (steps, samples));
    assert_eq!(progress.not_finite, steps.div_ceil(7));
    assert_eq!(progress.steps, progress.gradients + progress.not_finite);
}

#[test]
fn at_full_speed_every_gradient_is_in_exactly_one_read_out_and_every_model_is_whole() {
    const MODULES: usize = 3;
    const STOP: Control = Control {
        state: State::Stop,
        duty_percent: 100,
    };
    let (mut local, sides) = shared_memory(PARAMETERS, MODULES);
    let start = |side| thread::spawn(move || add_ones_until_stopped(side));
    let ml_modules: Vec<_> = sides.into_iter().map(start).collect();

    let mut collected: Vec<Collected> = (0..MODULES).map(|_| Collected::default()).collect();
    let end = Instant::now() + Duration::from_millis(400);
    let (mut version, mut pending) = (0, 0_u64);
    while Instant::now() < end {
        version += 1;
        local.publish(stamp(version), 0, |_, slot| slot.fill(version as f32));
        for (module, collected) in collected.iter_mut().enumerate() {
            local.flip(module);
            if local.take(module, |header, sum| collected.collect(header, sum)) == Taken::Pending {
                pending += 1;
            }
        }
    }
    (0..MODULES).for_each(|module| local.set_control(module, STOP));
    for (module, (ml_module, collected)) in ml_modules.into_iter().zip(collected).enumerate() {
        let steps = ml_module.join().unwrap();
        assert_all_is_read_out(&mut local, module, steps, collected);
    }
    println!("{version} models published, {pending} read-outs found the buffer leased");
}

#[test]
fn a_module_in_lockstep_computes_once_for_each_version() {
    let (mut local, mut sides) = shared_memory(3, 1);
    let mut side = sides.pop().unwrap();
    let ml_module = thread::spawn(move || {
        while side.control().state != State::Stop {
            if !side.has_newer_model() {
                side.wait_for_publish(None);
                continue;
            }
            let model = side.model().unwrap();
            let (stamp, gradient) = (model.stamp(), [model[0]; 3]);
            side.add(
                &gradient,
                Gradient {
                    stamp,
                    step: stamp.version,
                    samples: 1,
                    loss_sum: 0.0,
                },
            )
            .unwrap();
        }
    });
    for version in 1..2000 {
        local.publish(stamp(version), 0, |_, slot| slot.fill(version as f32));
        while local.progress(0).gradients < version {
            thread::yield_now();
        }
        local.flip(0);
        while local.take(0, |header, sum| {
            assert_eq!((header.gradients, sum[2]), (1, version as f32))
        }) == Taken::Pending
        {
            thread::yield_now();
        }
    }
    drop(local);
    ml_module.join().unwrap();
}

#[test]
fn a_paused_module_sleeps_through_publishes_and_wakes_when_it_is_told_to_run() {
    let (mut local, mut sides) = shared_memory(1, 1);
    let side = sides.pop().unwrap();
    let pause = Control {
        state: State::Pause,
        duty_percent: 50,
    };
    local.set_control(0, pause);
    let woken = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Moved here whole: a side belongs to one thread.
            let side = side;
            assert_eq!(side.control(), pause);
            side.wait_while(pause, None);
            woken.store(true, Ordering::SeqCst);
            assert_eq!(side.control(), Control::default());
        });
        for version in 0..20 {
            local.publish(stamp(version), 0, |_, _| {});
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!woken.load(Ordering::SeqCst), "a publish ended the pause");
        local.set_control(0, Control::default());
    });
    assert!(woken.load(Ordering::SeqCst));
}

#[test]
fn a_sleep_ends_when_its_time_is_up() {
    let (_local, mut sides) = shared_memory(1, 1);
    let side = sides.pop().unwrap();
    let begin = Instant::now();
    side.wait_while(side.control(), Some(Duration::from_millis(20)));
    side.wait_for_publish(Some(Duration::from_millis(20)));
    assert!(begin.elapsed() >= Duration::from_millis(40));
}

#[test]
fn a_module_that_was_told_to_stop_before_it_waits_for_a_publish_does_not_sleep() {
    let (local, mut sides) = shared_memory(1, 1);
    let side = sides.pop().unwrap();
    assert_eq!(side.control(), Control::default());
    local.set_control(
        0,
        Control {
            state: State::Stop,
            duty_percent: 100,
        },
    );
    side.wait_for_publish(None);
    assert_eq!(side.control().state, State::Stop);
}

#[test]
fn an_aggregate_without_gradients_is_read_as_zeros() {
    let (mut local, mut sides) = shared_memory(2, 1);
    sides[0].add(&[1.0, 2.0], gradient(0)).unwrap();
    assert_eq!(local.take(0, |_, _| ()), Taken::NotFlipped);
    for expected in [[1.0, 2.0], [0.0, 0.0], [0.0, 0.0]] {
        local.flip(0);
        assert!(!local.is_pending(0));
        let taken = local.take(0, |header, sum| (header.gradients, [sum[0], sum[1]]));
        assert_eq!(taken, Taken::Read((u64::from(expected[0] > 0.0), expected)));
    }
    assert_eq!(local.drain_dead(0), Discarded::default());
}

#[test]
#[should_panic(expected = "one value for each parameter")]
fn a_gradient_of_another_length_is_not_added() {
    let (_local, mut sides) = shared_memory(2, 1);
    let _ = sides[0].add(&[1.0], gradient(0));
}

/// The deeds of a local side and an ML module, one after the other.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Add { samples: u32 },
    AddNotFinite,
    Flip,
    Take,
    Publish,
    Read,
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (0_u32..5).prop_map(|samples| Deed::Add { samples }),
        1 => Just(Deed::AddNotFinite),
        2 => Just(Deed::Flip),
        3 => Just(Deed::Take),
        1 => Just(Deed::Publish),
        1 => Just(Deed::Read),
    ]
}

proptest! {
    /// Against a plain description: two lists of gradients, of which the flip retires one.
    #[test]
    fn in_any_order_of_deeds_a_read_out_is_what_was_added_before_its_flip(deeds in vec(deed(), 0..200)) {
        let (mut local, mut sides) = shared_memory(2, 1);
        let side = &mut sides[0];
        let (mut active, mut retired): (Vec<u32>, Option<Vec<u32>>) = (Vec::new(), None);
        let (mut step, mut version, mut read) = (0, 0, 0);
        let mut flips = 0;
        for deed in deeds {
            match deed {
                Deed::Add { samples } => {
                    step += 1;
                    let read_out = side.add(&[samples as f32, 1.0], Gradient { samples, ..gradient(step) });
                    prop_assert_eq!(read_out, Ok(flips + 1), "the read-out that the next flip begins");
                    active.push(samples);
                }
                Deed::AddNotFinite => {
                    let refused = side.add(&[1.0, 1.0], Gradient { loss_sum: f64::NAN, ..gradient(step) });
                    prop_assert_eq!(refused, Err(NotFinite::Loss { step }));
                }
                Deed::Flip => {
                    local.flip(0);
                    if retired.is_none() {
                        retired = Some(std::mem::take(&mut active));
                        flips += 1;
                    }
                    prop_assert_eq!(local.read_outs(0), flips);
                }
                Deed::Take => {
                    let taken = local.take(0, |header, sum| (header.samples, header.gradients, sum.to_vec()));
                    let expected = retired.take().map_or(Taken::NotFlipped, |gradients| {
                        let (samples, count) = (gradients.iter().sum::<u32>(), gradients.len());
                        Taken::Read((u64::from(samples), count as u64, vec![samples as f32, count as f32]))
                    });
                    prop_assert_eq!(taken, expected);
                }
                Deed::Publish => {
                    version += 1;
                    local.publish(stamp(version), 0, |_, slot| slot.fill(version as f32));
                }
                Deed::Read => {
                    prop_assert_eq!(side.has_newer_model(), version > read);
                    read = version;
                    if let Some(model) = side.model() {
                        prop_assert_eq!((model.stamp(), model[1]), (stamp(version), version as f32));
                    }
                }
            }
            prop_assert!(!local.is_pending(0), "no add was under way");
        }
    }
}
