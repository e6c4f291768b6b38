//! The promises of the aggregate, each checked by loom in every order of events that its bounds allow.

use loom::thread;

use super::super::model_slots::ModelStamp;
use super::*;

const PARAMETERS: usize = 2;

/// Adds gradient number `step`, from 0 on. Its values and its samples are 2^step, so that a sum tells its gradients.
fn add(adder: &mut Adder, step: u64) {
    adder.add(&[(1 << step) as f32; PARAMETERS], &gradient(step));
}

fn gradient(step: u64) -> Gradient {
    Gradient {
        stamp: ModelStamp::default(),
        step,
        samples: 1 << step,
        loss_sum: 0.5,
    }
}

/// The set of gradients in a buffer, as the bits of a number; header and sum must agree on it.
fn gradients(header: &Header, sum: &[f32]) -> u64 {
    let set = header.samples;
    assert!(sum.iter().all(|&value| value == set as f32), "half a gradient");
    assert_eq!(header.gradients, u64::from(set.count_ones()), "header and sum disagree");
    assert_eq!(header.loss_sum, 0.5 * f64::from(set.count_ones()));
    assert_eq!(
        header.runs().iter().map(|run| u64::from(run.count)).sum::<u64>(),
        header.gradients
    );
    set
}

/// A turn of the local side: asks for a read-out, and adds its gradients to `all`, which must not hold any of them yet.
fn read_out(taker: &mut Taker, all: &mut u64) -> bool {
    taker.flip();
    let is_pending = taker.is_pending();
    let taken = taker.take(gradients);
    if let Taken::Read(set) = taken {
        assert_eq!(*all & set, 0, "a gradient in two read-outs");
        *all |= set;
    }
    // Between the two looks a lease can only end.
    assert!(is_pending || taken != Taken::Pending);
    taken != Taken::Pending
}

/// The adder has left: two read-outs more empty both buffers.
fn drain(taker: &mut Taker, all: &mut u64) {
    assert!(read_out(taker, all), "nobody holds the lease");
    assert!(read_out(taker, all));
}

fn explore(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

/// Invariant: header and sum of a read-out agree, and no add is under way in the buffer that is read: loom panics at
/// accesses to it that are not ordered.
#[test]
fn a_read_out_never_holds_half_a_gradient() {
    explore(None, || {
        let (mut adder, mut taker) = aggregate(PARAMETERS);
        let adding = thread::spawn(move || {
            add(&mut adder, 0);
            add(&mut adder, 1);
        });
        let mut all = 0;
        read_out(&mut taker, &mut all);
        read_out(&mut taker, &mut all);
        adding.join().unwrap();
    });
}

/// Invariant: each gradient that was added is in one read-out and in no other, wherever flips and turns fall.
#[test]
fn every_gradient_is_in_exactly_one_read_out() {
    explore(Some(4), || {
        let (mut adder, mut taker) = aggregate(PARAMETERS);
        let adding = thread::spawn(move || {
            for step in 0..3 {
                add(&mut adder, step);
            }
        });
        let mut all = 0;
        for _ in 0..3 {
            read_out(&mut taker, &mut all);
        }
        adding.join().unwrap();
        drain(&mut taker, &mut all);
        assert_eq!(all, 0b111, "a gradient in no read-out");
    });
}

/// Invariant: a buffer is empty when it becomes active again, for every lease: nothing of an earlier aggregate is in
/// it.
#[test]
fn a_buffer_that_was_read_out_is_empty_when_it_is_added_to_again() {
    explore(Some(4), || {
        let (mut adder, mut taker) = aggregate(PARAMETERS);
        let mut all = 0;
        add(&mut adder, 0);
        assert!(read_out(&mut taker, &mut all));
        let adding = thread::spawn(move || {
            add(&mut adder, 1);
            add(&mut adder, 2);
        });
        read_out(&mut taker, &mut all);
        read_out(&mut taker, &mut all);
        adding.join().unwrap();
        drain(&mut taker, &mut all);
        assert_eq!(all, 0b111);
    });
}

/// Invariant: a read-out that has begun is not begun anew: what was added before its flip is in it, however often the
/// local side flips while it is pending.
#[test]
fn a_read_out_holds_all_that_was_added_before_its_flip() {
    explore(None, || {
        let (mut adder, mut taker) = aggregate(PARAMETERS);
        add(&mut adder, 0);
        let adding = thread::spawn(move || add(&mut adder, 1));
        taker.flip();
        taker.flip();
        let mut taken = taker.take(gradients);
        adding.join().unwrap();
        if taken == Taken::Pending {
            taken = taker.take(gradients);
        }
        assert!(matches!(taken, Taken::Read(0b01 | 0b11)), "{taken:?}");
    });
}

/// Dies in the add of gradient `step`: half of the sum is written, the header isn't, and the lease is not given back.
/// It never ends for loom either, which panics if the buffer is touched afterwards.
fn die_in_add(adder: &mut Adder, step: u64) {
    let lease = adder.lease(&gradient(step));
    let buffer = lease.adder.aggregate.buffers[lease.buffer].get_mut();
    // SAFETY: as in Lease::add.
    unsafe { buffer.deref() }.sum[0] += 1000.0;
    std::mem::forget(buffer);
}

/// Invariant: the gradients that are read out and those counted as lost are together exactly those that were begun, and
/// no half gradient is read, whether the death fell before or after a flip and whatever was pending. drain_dead() comes
/// while the dying thread may still run; if it found the thread alive, a second call is exact.
#[test]
fn a_lease_held_by_the_dead_is_discarded_never_sent() {
    explore(Some(4), || {
        let (mut adder, mut taker) = aggregate(PARAMETERS);
        let dying = thread::spawn(move || {
            add(&mut adder, 0);
            add(&mut adder, 1);
            die_in_add(&mut adder, 2);
        });
        let mut all = 0;
        read_out(&mut taker, &mut all);
        read_out(&mut taker, &mut all);
        dying.join().unwrap();
        let loss = taker.drain_dead();
        assert!(loss.is_discarded);
        assert_eq!(taker.drain_dead(), Discarded::default(), "a loss is told once");
        assert!(!taker.is_pending());
        // A buffer that a flip had retired before can still be read; the rest is lost.
        read_out(&mut taker, &mut all);
        assert_eq!(taker.take(gradients), Taken::NotFlipped);
        assert_eq!(all + loss.samples, 0b111);
        assert_eq!(u64::from(all.count_ones()) + loss.gradients, 3);
        assert_eq!(all & 0b100, 0, "the gradient that was being added was sent");
    });
}

/// Invariant: drain_dead() that finds the lease of a gradient counts the samples of that gradient. Nothing else (no
/// join, no event) makes them visible.
#[test]
fn a_death_counts_the_samples_of_the_gradient_that_was_being_added() {
    explore(None, || {
        let (mut adder, mut taker) = aggregate(PARAMETERS);
        let dying = thread::spawn(move || {
            add(&mut adder, 0);
            die_in_add(&mut adder, 1);
        });
        let mut all = 0;
        read_out(&mut taker, &mut all);
        let loss = taker.drain_dead();
        if loss.gradients == 2 || (all == 1 && loss.is_discarded) {
            assert_eq!(loss.samples + all, 0b11);
        }
        dying.join().unwrap();
    });
}

/// Invariant: drain_dead() of an ML module that still lives touches nothing that it may still write, and an aggregate
/// without a lease stays readable.
#[test]
fn draining_a_living_ml_module_is_sound_and_the_unleased_stays_readable() {
    explore(Some(4), || {
        let (mut adder, mut taker) = aggregate(PARAMETERS);
        let adding = thread::spawn(move || {
            add(&mut adder, 0);
            add(&mut adder, 1);
        });
        let mut all = 0;
        read_out(&mut taker, &mut all);
        let loss = taker.drain_dead();
        read_out(&mut taker, &mut all);
        adding.join().unwrap();
        if !loss.is_discarded {
            drain(&mut taker, &mut all);
            assert_eq!(all, 0b11);
        }
    });
}

/// Invariant: the death of an ML module in an add hinders neither the read-out of another ML module nor a publish: the
/// sides share no lock.
#[test]
fn the_others_are_read_out_and_published_to_after_a_death_in_an_add() {
    explore(Some(2), || {
        let (mut local, sides) = super::super::shared_memory(1, 2);
        let [mut dying, mut other] = <[_; 2]>::try_from(sides).ok().unwrap();
        let stamp = ModelStamp {
            incarnation: 1,
            version: 1,
        };
        local.publish(stamp, 0, |_, slot| slot.fill(1.0));
        let dying = thread::spawn(move || {
            // With its pin on, and with the lease.
            std::mem::forget(dying.model());
            die_in_add_of(&mut dying);
            std::mem::forget(dying);
        });
        let living = thread::spawn(move || {
            other.add(&[3.0], gradient(0)).unwrap();
            let version = other.model().map(|model| (model.stamp().version, model[0]));
            assert!(matches!(version, Some((1, 1.0) | (2, 2.0))), "{version:?}");
            other
        });
        dying.join().unwrap();
        assert_eq!(local.drain_dead(0).gradients, 1);
        local.publish(ModelStamp { version: 2, ..stamp }, 0, |_, slot| slot.fill(2.0));
        let mut all = 0.0;
        local.flip(1);
        local.take(1, |_, sum| all += sum[0]);
        let mut other = living.join().unwrap();
        assert_eq!(other.model().map(|model| model[0]), Some(2.0));
        for _ in 0..2 {
            local.flip(1);
            assert_eq!(local.take(1, |_, sum| all += sum[0]), Taken::Read(()));
        }
        assert_eq!(all, 3.0);
    });
}

fn die_in_add_of(side: &mut super::super::MlSide) {
    die_in_add(&mut side.adder, 0);
}
