//! The aggregate of one ML module: it adds finished gradients, the local BSP module reads them out, and neither waits.
//!
//! There are two buffers and one word. Its lowest bit is the index of the active buffer. The other bits are a counter,
//! which is odd while the ML module leases the active buffer. Taking the lease adds one to the counter, and so does
//! giving it back. The flip inverts the index. All three are read-modify-writes: a lease knows the buffer that was
//! active when it was taken, and a flip knows whether the buffer that it retires was leased. If it was, that buffer is
//! ready as soon as the counter differs; the next lease, if any, is on the other buffer. The counter wraps around at
//! the top of the word and leaves the index alone. A read-out that asks after exactly 2³⁰ gradients, under lease again,
//! takes its own buffer for leased; it is ready the next time it asks.
//!
//! A gradient adds two to the counter, so the counter also counts gradients, and thereby those that a death loses.

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
    /// The sum of the gradients; before the first, the remains of an earlier aggregate.
    sum: Box<[f32]>,
}

struct Aggregate {
    word: AtomicU32,
    buffers: [UnsafeCell<Buffer>; 2],
    /// Samples of all gradients whose lease was ever taken. A gradient is counted just before its lease is taken.
    samples_begun: AtomicU64,
}

// SAFETY: a buffer is touched by the one adder, between taking the lease that names it and giving it back, or by the
// one taker, from a flip that retired it (or the release of the lease that the flip found) until the flip that makes it
// active again. All these steps are read-modify-writes of `word`, which order them.
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
    /// The number of flips, which is the number of the last read-out that has begun.
    flips: u64,
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

/// The outcome of asking for a read-out.
#[derive(Debug, PartialEq)]
pub enum Taken<R> {
    /// The result of `read`.
    Read(R),
    /// The flip came in the middle of an add that isn't over yet. Ask again at the next turn.
    Pending,
    /// No read-out was begun.
    NotFlipped,
}

/// The losses by the death of an ML module: none, unless it died in an add. The numbers are exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Discarded {
    /// It died while it held the lease, so its buffer will never be read.
    pub is_discarded: bool,
    /// Gradients lost with the buffer: the whole ones in it, and the one that was being added.
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
    let empty = |read_out| Buffer {
        header: Header::of_read_out(read_out),
        sum: vec![0.0; parameters].into_boxed_slice(),
    };
    let aggregate = Arc::new(Aggregate {
        word: AtomicU32::new(0),
        buffers: [UnsafeCell::new(empty(1)), UnsafeCell::new(empty(2))],
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
        flips: 0,
        gradients_taken: 0,
        samples_taken: 0,
        is_discarded: false,
    };
    (adder, taker)
}

impl Adder {
    /// Adds a gradient to the buffer that is active now. Returns the number of the read-out that will hold it.
    pub(super) fn add(&mut self, values: &[f32], gradient: &Gradient) -> u64 {
        let mut lease = self.lease(gradient);
        let read_out = lease.add(values, gradient);
        lease.give_back();
        read_out
    }

    fn lease(&mut self, gradient: &Gradient) -> Lease<'_> {
        assert!(
            !self.is_leased,
            "an earlier add was left in the middle; this aggregate can't be added to any more"
        );
        self.is_leased = true;
        self.samples_begun = self.samples_begun.wrapping_add(u64::from(gradient.samples));
        // Relaxed: the lease makes it visible to drain_dead().
        self.aggregate
            .samples_begun
            .store(self.samples_begun, Ordering::Relaxed);
        // Acquire: pairs with the Release of the flip that made this buffer active: it is empty. Release: pairs with
        // the Acquire in drain_dead(): the samples begun are those of this lease.
        let word = self.aggregate.word.fetch_add(LEASED, Ordering::AcqRel);
        debug_assert_eq!(word & LEASED, 0, "only this adder takes the lease");
        Lease {
            adder: self,
            buffer: (word & INDEX) as usize,
        }
    }
}

impl Lease<'_> {
    fn add(&mut self, values: &[f32], gradient: &Gradient) -> u64 {
        let buffer = self.adder.aggregate.buffers[self.buffer].get_mut();
        // SAFETY: this adder took the lease of this buffer while it was active and has not given it back; the taker
        // touches a retired buffer only when it has seen that lease given back.
        let buffer = unsafe { buffer.deref() };
        if buffer.header.gradients == 0 {
            buffer.sum.copy_from_slice(values);
        } else {
            for (sum, value) in buffer.sum.iter_mut().zip(values) {
                *sum += *value;
            }
        }
        buffer.header.count(gradient);
        buffer.header.read_out()
    }

    fn give_back(self) {
        // Release: pairs with the Acquire of the look in take() or drain_dead(): the gradient is whole.
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
        // Release: pairs with the Acquire in lease(): the other buffer has been emptied. No Acquire: what was added is
        // looked at only after take() or drain_dead() have looked at the word themselves.
        let word = self.aggregate.word.fetch_xor(INDEX, Ordering::Release);
        let buffer = (word & INDEX) as usize;
        self.flips += 1;
        self.read_out = match word & LEASED {
            0 => ReadOut::Ready { buffer },
            _ => ReadOut::Leased {
                buffer,
                counter: word & !INDEX,
            },
        };
    }

    /// The number of the last read-out that has begun.
    pub(super) fn flips(&self) -> u64 {
        self.flips
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
        // Acquire: pairs with the Release in give_back(): the sum is visible, whether the flip found the lease over
        // already or this look does. A plain load will do: everything that writes the word is a read-modify-write, so
        // what the release made visible is visible with every later value too.
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
        // SAFETY: the flip retired this buffer and its lease is over, so the adder doesn't touch it until the next
        // flip, which is this taker's.
        let Buffer { header, sum } = unsafe { buffer.deref() };
        if header.gradients == 0 {
            sum.fill(0.0);
        }
        let result = read(header, sum);
        self.gradients_taken = self.gradients_taken.wrapping_add(header.gradients as u32) % GRADIENTS;
        self.samples_taken = self.samples_taken.wrapping_add(header.samples);
        // The other buffer collects for the next read-out, so this one for the one after it.
        *header = Header::of_read_out(self.flips + 2);
        result
    }

    /// The ML module is dead: if it holds the lease, that buffer is given up.
    ///
    /// A buffer that was flipped before and isn't taken yet can still be taken. This is sound even if the ML module
    /// lives: a leased buffer is given up, not touched.
    pub(super) fn drain_dead(&mut self) -> Discarded {
        // Acquire: pairs with the Release in lease(): the samples begun are those of the lease that is found here, or
        // later ones. It also pairs with give_back(), as in take().
        let word = self.aggregate.word.load(Ordering::Acquire);
        self.look(word);
        if word & LEASED == 0 || self.is_discarded {
            return Discarded::default();
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
            // The other buffer is empty: the ML module died before it could add to it.
            self.read_out = ReadOut::None;
        }
        let finished = word >> GRADIENT_SHIFT;
        let held = finished.wrapping_sub(self.gradients_taken).wrapping_sub(gradients) % GRADIENTS;
        // Relaxed: see above.
        let begun = self.aggregate.samples_begun.load(Ordering::Relaxed);
        Discarded {
            is_discarded: true,
            gradients: u64::from(held) + 1,
            samples: begun.wrapping_sub(self.samples_taken).wrapping_sub(samples),
        }
    }

    /// Notes when the lease is over that the flip has found.
    fn look(&mut self, word: u32) {
        if let ReadOut::Leased { buffer, counter } = self.read_out
            && word & !INDEX != counter
        {
            self.read_out = ReadOut::Ready { buffer };
        }
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_models;
