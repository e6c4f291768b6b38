//! The aggregate of one ML module: it adds finished gradients, the local BSP module reads them out, and neither waits.
//!
//! Two buffers, and one word that holds the index of the active one (its lowest bit) and a counter (the others) that is odd
//! while the ML module leases the active buffer. Taking the lease adds one to the counter, and so does giving it back; the flip
//! inverts the index. All are read-modify-writes: each lease knows the buffer that was active when it was taken, and each flip
//! knows whether the buffer it retires was leased. If it was, that buffer is ready as soon as the counter differs; the next
//! lease, if any, is on the other buffer. The counter wraps around at the top of the word and leaves the index alone. A read-out that asks after
//! exactly 2³⁰ gradients, under lease again, believes its own buffer still leased; it is ready the next time it asks.
//!
//! Two leases are one gradient, so the counter also counts gradients: it says how many are lost when an ML module dies.

use std::sync::Arc;

use super::header::{Gradient, Header};
use super::sync::{AtomicU32, AtomicU64, Ordering, UnsafeCell};

/// The bit of the word that says which buffer is active.
const INDEX: u32 = 1;
/// One in the counter; set while the active buffer, or one that was active until a flip, is leased.
const LEASED: u32 = 1 << 1;
/// The counter counts each gradient twice: when its lease is taken and when it is given back.
const GRADIENT_SHIFT: u32 = 2;
/// Gradients are counted modulo this.
const GRADIENTS: u32 = 1 << (u32::BITS - GRADIENT_SHIFT);

struct Buffer {
    header: Header,
    /// The sum of the gradients; before the first, what an earlier aggregate has left.
    sum: Box<[f32]>,
}

struct Aggregate {
    word: AtomicU32,
    buffers: [UnsafeCell<Buffer>; 2],
    /// Samples of all gradients whose lease was ever taken, the next one's included before its lease is.
    samples_begun: AtomicU64,
}

// SAFETY: a buffer is touched by the one adder, between taking the lease that names it and giving it back, or by the one taker,
// from a flip that retired it (or the release of the lease that the flip found) until the flip that makes it active again.
// All these steps are read-modify-writes of `word`, which order them.
unsafe impl Send for Aggregate {}
// SAFETY: as above.
unsafe impl Sync for Aggregate {}

/// The ML module's end. There is one for each aggregate.
pub(super) struct Adder {
    aggregate: Arc<Aggregate>,
    samples_begun: u64,
    is_leased: bool,
}

/// The local BSP module's end. There is one for each aggregate.
pub(super) struct Taker {
    aggregate: Arc<Aggregate>,
    read_out: ReadOut,
    /// Gradients that were taken, modulo `GRADIENTS`.
    gradients_taken: u32,
    samples_taken: u64,
    is_discarded: bool,
}

/// How far a read-out has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadOut {
    /// None has begun. The buffer that isn't active is empty.
    None,
    /// The flip found the buffer leased and the counter (with a zero for an index) like this.
    Leased { buffer: usize, counter: u32 },
    /// The buffer belongs to the taker.
    Ready { buffer: usize },
}

/// What comes of asking for a read-out.
#[derive(Debug, PartialEq)]
pub enum Taken<R> {
    /// What `read` has made of the aggregate.
    Read(R),
    /// The flip came in the middle of an add that isn't over yet: ask again at the next turn.
    Pending,
    /// No read-out was begun.
    NotFlipped,
}

/// What is lost with an ML module that died: nothing, unless it died in an add. The numbers are exact, wherever it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Burial {
    /// It died while it held the lease, so that buffer will never be read.
    pub is_discarded: bool,
    /// Gradients lost with the buffer: those that it held whole, and one more, which was being added.
    pub gradients: u64,
    /// Samples of these gradients.
    pub samples: u64,
}

/// The lease of the active buffer. It isn't given back by dropping it: a buffer that a panic left in the middle of an
/// add stays leased, and so is never read.
struct Lease<'a> {
    adder: &'a mut Adder,
    buffer: usize,
}

/// An empty aggregate of `parameters` parameters.
pub(super) fn aggregate(parameters: usize) -> (Adder, Taker) {
    let empty = || Buffer {
        header: Header::default(),
        sum: vec![0.0; parameters].into_boxed_slice(),
    };
    let aggregate = Arc::new(Aggregate {
        word: AtomicU32::new(0),
        buffers: [UnsafeCell::new(empty()), UnsafeCell::new(empty())],
        samples_begun: AtomicU64::new(0),
    });
    let adder = Adder {
        aggregate: Arc::clone(&aggregate),
        samples_begun: 0,
        is_leased: false,
    };
    let taker = Taker {
        aggregate,
        read_out: ReadOut::None,
        gradients_taken: 0,
        samples_taken: 0,
        is_discarded: false,
    };
    (adder, taker)
}

impl Adder {
    /// Adds a gradient to whichever buffer is active now.
    pub(super) fn add(&mut self, gradient: &[f32], of: &Gradient) {
        let mut lease = self.lease(of);
        lease.add(gradient, of);
        lease.give_back();
    }

    fn lease(&mut self, of: &Gradient) -> Lease<'_> {
        assert!(
            !self.is_leased,
            "an earlier add was left in the middle; this aggregate can't be added to any more"
        );
        self.is_leased = true;
        self.samples_begun = self.samples_begun.wrapping_add(u64::from(of.samples));
        // Relaxed: the lease makes it visible to bury().
        self.aggregate
            .samples_begun
            .store(self.samples_begun, Ordering::Relaxed);
        // Acquire: pairs with the Release of the flip that made this buffer active: it is empty. Release: pairs with the Acquire
        // in bury(): the samples begun are those of this lease.
        let word = self.aggregate.word.fetch_add(LEASED, Ordering::AcqRel);
        debug_assert_eq!(word & LEASED, 0, "only this adder takes the lease");
        Lease {
            adder: self,
            buffer: (word & INDEX) as usize,
        }
    }
}

impl Lease<'_> {
    fn add(&mut self, gradient: &[f32], of: &Gradient) {
        let buffer = self.adder.aggregate.buffers[self.buffer].get_mut();
        // SAFETY: this adder took the lease of this buffer while it was active and has not given it back; the taker touches a
        // retired buffer only when it has seen that lease given back.
        let buffer = unsafe { buffer.deref() };
        if buffer.header.gradients == 0 {
            buffer.sum.copy_from_slice(gradient);
        } else {
            for (sum, value) in buffer.sum.iter_mut().zip(gradient) {
                *sum += *value;
            }
        }
        buffer.header.count(of);
    }

    fn give_back(self) {
        // Release: pairs with the Acquire of the look in take() or bury(): the gradient is whole.
        self.adder.aggregate.word.fetch_add(LEASED, Ordering::Release);
        self.adder.is_leased = false;
    }
}

impl Taker {
    /// Begins a read-out, unless one has begun already or the active buffer is a dead module's.
    pub(super) fn flip(&mut self) {
        if self.read_out != ReadOut::None || self.is_discarded {
            return;
        }
        // Release: pairs with the Acquire in lease(): the other buffer has been emptied. No Acquire: what was added is looked at
        // only after take() or bury() have looked at the word themselves.
        let word = self.aggregate.word.fetch_xor(INDEX, Ordering::Release);
        let buffer = (word & INDEX) as usize;
        self.read_out = match word & LEASED {
            0 => ReadOut::Ready { buffer },
            _ => ReadOut::Leased {
                buffer,
                counter: word & !INDEX,
            },
        };
    }

    /// Whether a read-out has begun that can't be taken yet.
    pub(super) fn is_pending(&self) -> bool {
        match self.read_out {
            // Relaxed: nothing is touched on the strength of it; take() looks for itself.
            ReadOut::Leased { counter, .. } => self.aggregate.word.load(Ordering::Relaxed) & !INDEX == counter,
            ReadOut::None | ReadOut::Ready { .. } => false,
        }
    }

    /// Reads the retired buffer, if its lease is over, and empties it.
    pub(super) fn take<R>(&mut self, read: impl FnOnce(&Header, &[f32]) -> R) -> Taken<R> {
        // Acquire: pairs with the Release in give_back(): the sum is visible, whether the flip found the lease over already or
        // this look does. A plain load will do: everything that writes the word is a read-modify-write, so what the release
        // made visible is visible with every later value too.
        self.look(self.aggregate.word.load(Ordering::Acquire));
        let buffer = match self.read_out {
            ReadOut::None => return Taken::NotFlipped,
            ReadOut::Leased { .. } => return Taken::Pending,
            ReadOut::Ready { buffer } => buffer,
        };
        let result = self.read_and_empty(buffer, read);
        self.read_out = ReadOut::None;
        Taken::Read(result)
    }

    fn read_and_empty<R>(&mut self, buffer: usize, read: impl FnOnce(&Header, &[f32]) -> R) -> R {
        let buffer = self.aggregate.buffers[buffer].get_mut();
        // SAFETY: the flip retired this buffer and its lease is over, so the adder doesn't touch it until the next flip, which is
        // this taker's.
        let Buffer { header, sum } = unsafe { buffer.deref() };
        if header.gradients == 0 {
            sum.fill(0.0);
        }
        let result = read(header, sum);
        self.gradients_taken = self.gradients_taken.wrapping_add(header.gradients as u32) % GRADIENTS;
        self.samples_taken = self.samples_taken.wrapping_add(header.samples);
        header.reset();
        result
    }

    /// The ML module is dead: if it holds the lease, that buffer is given up.
    ///
    /// What can hold gradients then is a buffer that was flipped before and isn't taken yet: it can be taken still. Sound even
    /// if the ML module should be alive: a leased buffer is given up, not touched.
    pub(super) fn bury(&mut self) -> Burial {
        // Acquire: pairs with the Release in lease(): the samples begun are those of the lease that is found here, or later ones.
        // It also pairs with give_back(), as in take().
        let word = self.aggregate.word.load(Ordering::Acquire);
        self.look(word);
        if word & LEASED == 0 || self.is_discarded {
            return Burial::default();
        }
        self.is_discarded = true;
        let (gradients, samples) = match self.read_out {
            ReadOut::Ready { buffer } => {
                let guard = self.aggregate.buffers[buffer].get_mut();
                // SAFETY: as in read_and_empty().
                let header = unsafe { &guard.deref().header };
                (header.gradients as u32, header.samples)
            }
            ReadOut::Leased { .. } | ReadOut::None => (0, 0),
        };
        if let ReadOut::Leased { .. } = self.read_out {
            // The other buffer is empty: the dead had no time to add to it.
            self.read_out = ReadOut::None;
        }
        let finished = word >> GRADIENT_SHIFT;
        let held = finished.wrapping_sub(self.gradients_taken).wrapping_sub(gradients) % GRADIENTS;
        // Relaxed: see above.
        let begun = self.aggregate.samples_begun.load(Ordering::Relaxed);
        Burial {
            is_discarded: true,
            gradients: u64::from(held) + 1,
            samples: begun.wrapping_sub(self.samples_taken).wrapping_sub(samples),
        }
    }

    /// Finds that a lease is over which the flip has found.
    fn look(&mut self, word: u32) {
        if let ReadOut::Leased { buffer, counter } = self.read_out
            && word & !INDEX != counter
        {
            self.read_out = ReadOut::Ready { buffer };
        }
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_models {
    use loom::thread;

    use super::super::model_slots::ModelStamp;
    use super::*;

    const PARAMETERS: usize = 2;

    /// Gradient number `step`, from 0 on, is 2^step everywhere and so are its samples: a sum says which gradients are in it.
    fn add(adder: &mut Adder, step: u64) {
        adder.add(&[(1 << step) as f32; PARAMETERS], &of(step));
    }

    fn of(step: u64) -> Gradient {
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

    /// A turn of the local side: asks for a read-out, and adds what it gets to `all`, which must not have any of it yet.
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

    /// Invariant: header and sum of a read-out agree, and no add is under way in the buffer that is read: loom panics at accesses
    /// to it that are not ordered.
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

    /// Invariant: a buffer is empty when it becomes active again, for whoever leases it: nothing of an earlier aggregate is in it.
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

    /// Invariant: a read-out that has begun is not begun anew: what was added before its flip is in it, however often the local
    /// side flips while it is pending.
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

    /// Dies in the add of gradient `step`: half of the sum is written, the header isn't, and the lease is not given back. It never
    /// ends for loom either, which panics if anybody touches the buffer afterwards.
    fn die_in_add(adder: &mut Adder, step: u64) {
        let lease = adder.lease(&of(step));
        let buffer = lease.adder.aggregate.buffers[lease.buffer].get_mut();
        // SAFETY: as in Lease::add.
        unsafe { buffer.deref() }.sum[0] += 1000.0;
        std::mem::forget(buffer);
    }

    /// Invariant: what is read out and what a burial counts as lost is together what was begun, exactly, and no half gradient is
    /// read, whether the death fell before or after a flip and whatever was pending. The burial comes while the dying may still
    /// run; if it found it alive, a second one is exact.
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
            let burial = taker.bury();
            assert!(burial.is_discarded);
            assert_eq!(taker.bury(), Burial::default(), "a loss is told once");
            assert!(!taker.is_pending());
            // What a flip had retired before can be read still; the rest is lost.
            read_out(&mut taker, &mut all);
            assert_eq!(taker.take(gradients), Taken::NotFlipped);
            assert_eq!(all + burial.samples, 0b111);
            assert_eq!(u64::from(all.count_ones()) + burial.gradients, 3);
            assert_eq!(all & 0b100, 0, "the gradient that was being added was sent");
        });
    }

    /// Invariant: a burial that finds the lease of a gradient counts that gradient's samples, without anything else (no join, no
    /// event) having made them visible.
    #[test]
    fn a_burial_knows_the_samples_of_the_gradient_that_was_being_added() {
        explore(None, || {
            let (mut adder, mut taker) = aggregate(PARAMETERS);
            let dying = thread::spawn(move || {
                add(&mut adder, 0);
                die_in_add(&mut adder, 1);
            });
            let mut all = 0;
            read_out(&mut taker, &mut all);
            let burial = taker.bury();
            if burial.gradients == 2 || (all == 1 && burial.is_discarded) {
                assert_eq!(burial.samples + all, 0b11);
            }
            dying.join().unwrap();
        });
    }

    /// Invariant: a burial of one that wasn't dead yet touches nothing that it may still write, and an unleased one stays readable.
    #[test]
    fn a_burial_of_the_living_is_sound_and_the_unleased_stays_readable() {
        explore(Some(4), || {
            let (mut adder, mut taker) = aggregate(PARAMETERS);
            let adding = thread::spawn(move || {
                add(&mut adder, 0);
                add(&mut adder, 1);
            });
            let mut all = 0;
            read_out(&mut taker, &mut all);
            let burial = taker.bury();
            read_out(&mut taker, &mut all);
            adding.join().unwrap();
            if !burial.is_discarded {
                drain(&mut taker, &mut all);
                assert_eq!(all, 0b11);
            }
        });
    }

    /// Invariant: an ML module that died in an add keeps nothing of another's from being read out, or of the model from being
    /// published: the sides share no lock.
    #[test]
    fn the_others_are_read_out_and_published_to_after_a_death_in_an_add() {
        explore(Some(2), || {
            let (mut local, sides) = super::super::shared_memory(1, 2);
            let [mut dying, mut other] = <[_; 2]>::try_from(sides).ok().unwrap();
            let stamp = ModelStamp {
                incarnation: 1,
                version: 1,
            };
            local.publish(stamp, |slot| slot.fill(1.0));
            let dying = thread::spawn(move || {
                // With its pin on, and with the lease.
                std::mem::forget(dying.model());
                die_in_add_of(&mut dying);
                std::mem::forget(dying);
            });
            let living = thread::spawn(move || {
                other.add(&[3.0], of(0)).unwrap();
                let version = other.model().map(|model| (model.stamp().version, model[0]));
                assert!(matches!(version, Some((1, 1.0) | (2, 2.0))), "{version:?}");
                other
            });
            dying.join().unwrap();
            assert_eq!(local.bury(0).gradients, 1);
            local.publish(ModelStamp { version: 2, ..stamp }, |slot| slot.fill(2.0));
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
}
