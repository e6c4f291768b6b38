//! Model slots: the local BSP module publishes, the ML modules of its tab read, and neither waits for the other.
//!
//! With K readers there are K + 2 slots: one current, at most K pinned, and so always one free for the next version. A
//! reader keeps its pin until it reads again: under local steps it comes back to the model that it began from.
//!
//! *Read*: load current, store it as the pin, fence, load current again, and start over if it changed. *Publish*:
//! fence, scan the pins, write a slot that is neither current nor pinned, store current.
//!
//! Why that is enough: only a later publish than the one that replaced a slot as current writes the slot again. If that
//! publish's fence comes after the reader's, its scan finds the pin. If it comes before, then the store that replaced
//! the slot as current precedes it too, and the reader's second look finds that the slot is not current any more. (The
//! slot may have become current once more: then the second look has found its new content, and the same argument holds
//! from there.)
//!
//! A pinned slot is not written, so a reader whose pinned slot is current knows that nothing newer is.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sync::{AtomicUsize, ConstPtr, Ordering, UnsafeCell, fence};

/// Names a model: a version number means one model only together with the incarnation of the run that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelStamp {
    /// Raised at every restart of the server from a checkpoint.
    pub incarnation: u32,
    /// Counts supersteps.
    pub version: u64,
}

/// No slot: nothing is published, or nothing is pinned.
const NONE: usize = usize::MAX;

struct Slot {
    stamp: ModelStamp,
    /// See [`PinnedModel::settled_read_outs`].
    settled_read_outs: u64,
    parameters: Box<[f32]>,
}

/// The slot that a reader may be reading. It has a cache line of its own, since its reader writes it at every step.
#[repr(align(64))]
struct Pin(AtomicUsize);

struct ModelSlots {
    slots: Box<[UnsafeCell<Slot>]>,
    /// Written by the publisher only.
    current: AtomicUsize,
    /// Each is written by its reader only.
    pins: Box<[Pin]>,
}

// SAFETY: a slot is written by the one publisher only, and only while it is neither current nor pinned; a reader reads
// it only after it has pinned it and found it current after that. The comment of this module says why these exclude
// each other.
unsafe impl Send for ModelSlots {}
// SAFETY: as above.
unsafe impl Sync for ModelSlots {}

/// The local BSP module's end. There is one for each `ModelSlots`.
pub(super) struct Publisher {
    slots: Arc<ModelSlots>,
    published: Option<ModelStamp>,
    /// Scratch memory of the scan: the slots that are current or pinned.
    is_taken: Box<[bool]>,
}

/// An ML module's end. There is one for each pin.
pub(super) struct Reader {
    slots: Arc<ModelSlots>,
    pin: usize,
    /// The slot that its pin protects.
    held: Option<usize>,
}

/// A model that is not overwritten before its reader reads again.
pub struct PinnedModel<'a> {
    slot: ConstPtr<Slot>,
    of_the_reader: PhantomData<&'a Reader>,
}

/// Slots for models of `parameters` parameters and that many readers.
pub(super) fn model_slots(parameters: usize, readers: usize) -> (Publisher, Vec<Reader>) {
    let empty = || Slot {
        stamp: ModelStamp::default(),
        settled_read_outs: 0,
        parameters: vec![0.0; parameters].into_boxed_slice(),
    };
    let slots = Arc::new(ModelSlots {
        slots: (0..readers + 2).map(|_| UnsafeCell::new(empty())).collect(),
        current: AtomicUsize::new(NONE),
        pins: (0..readers).map(|_| Pin(AtomicUsize::new(NONE))).collect(),
    });
    let reader = |pin| Reader {
        slots: Arc::clone(&slots),
        pin,
        held: None,
    };
    let readers = (0..readers).map(reader).collect();
    let is_taken = vec![false; slots.slots.len()].into_boxed_slice();
    (
        Publisher {
            slots,
            published: None,
            is_taken,
        },
        readers,
    )
}

impl Publisher {
    /// Writes a model to a free slot and makes it the current one. `write` gets the current model, if there is one, and
    /// the free slot, which still holds an older model.
    pub(super) fn publish(
        &mut self,
        stamp: ModelStamp,
        settled_read_outs: u64,
        write: impl FnOnce(&[f32], &mut [f32]),
    ) {
        let shared = &*self.slots;
        // SeqCst: pairs with the fence in Reader::model. Either the scan below finds a reader's pin, or that reader
        // finds, at its second look, the store to `current` that this publisher made before.
        fence(Ordering::SeqCst);
        self.is_taken.fill(false);
        // Relaxed: only this publisher stores it.
        let current = shared.current.load(Ordering::Relaxed);
        if current != NONE {
            self.is_taken[current] = true;
        }
        // Each pin is read once: a pin that moves during the scan must not take two slots.
        for pin in shared.pins.iter() {
            // Acquire: pairs with the Release of every store to a pin: its reader's earlier reads come before the
            // write.
            let pinned = pin.0.load(Ordering::Acquire);
            if pinned != NONE {
                self.is_taken[pinned] = true;
            }
        }
        let Some(free) = self.is_taken.iter().position(|is_taken| !is_taken) else {
            unreachable!("K + 2 slots, of which one is current and at most K are pinned")
        };
        {
            let read = (current != NONE).then(|| shared.slots[current].get());
            let slot = shared.slots[free].get_mut();
            // SAFETY: only this publisher writes slots, and it is not writing this one.
            let read = read.as_ref().map(|slot| unsafe { slot.deref() });
            // SAFETY: this is the only publisher, and the slot is neither current nor pinned: nobody reads it now, and
            // by the argument of this module nobody begins to before it is current again.
            let slot = unsafe { slot.deref() };
            (slot.stamp, slot.settled_read_outs) = (stamp, settled_read_outs);
            write(read.map_or(&[], |slot| &slot.parameters), &mut slot.parameters);
        }
        // Release: pairs with the Acquire of the second look in Reader::model: the model is visible, whole, before its
        // slot is current.
        shared.current.store(free, Ordering::Release);
        self.published = Some(stamp);
    }

    /// The current model.
    pub(super) fn published(&self) -> Option<ModelStamp> {
        self.published
    }
}

impl Reader {
    /// The current model, pinned until this is called again. Starts over only when a publish came in between.
    pub(super) fn model(&mut self) -> Option<PinnedModel<'_>> {
        let shared = &*self.slots;
        let pin = &shared.pins[self.pin];
        // Relaxed: a guess only, which the second look confirms.
        let mut seen = shared.current.load(Ordering::Relaxed);
        if seen == NONE {
            return None;
        }
        loop {
            // Release: pairs with the scan in publish(), which may see this pin and not the one before it: the reads
            // under the earlier pin are over.
            pin.0.store(seen, Ordering::Release);
            // SeqCst: pairs with the fence in publish(), which says what it ensures.
            fence(Ordering::SeqCst);
            // Acquire: pairs with the Release store in publish(): the model in the slot is whole.
            let current = shared.current.load(Ordering::Acquire);
            if current == seen {
                break;
            }
            seen = current;
        }
        self.held = Some(seen);
        self.held()
    }

    /// The model that [`Reader::model`] returned last.
    pub(super) fn held(&self) -> Option<PinnedModel<'_>> {
        let slot = self.slots.slots[self.held?].get();
        Some(PinnedModel {
            slot,
            of_the_reader: PhantomData,
        })
    }

    /// Whether the current model is another than the held one.
    pub(super) fn has_newer(&self) -> bool {
        // Acquire: a reader that waits for a publish must see all that came with it, for instance its own retired
        // read-outs. The held slot is pinned, so while it is current it holds the same model.
        let current = self.slots.current.load(Ordering::Acquire);
        current != self.held.unwrap_or(NONE)
    }
}

impl PinnedModel<'_> {
    /// Which model it is.
    pub fn stamp(&self) -> ModelStamp {
        self.slot().stamp
    }

    /// Under local steps: this tab's gradients up to its read-out of this number are in the model, or were refused for
    /// good.
    pub fn settled_read_outs(&self) -> u64 {
        self.slot().settled_read_outs
    }

    fn slot(&self) -> &Slot {
        // SAFETY: the slot is the one that the reader holds: its pin was stored before the slot was found current, so
        // the publisher does not write to it until the reader reads again, which it can't while `self` borrows it. The
        // slot lives in the reader's Arc.
        unsafe { self.slot.deref() }
    }
}

impl Deref for PinnedModel<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.slot().parameters
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_models {
    use loom::thread;

    use super::*;

    const PARAMETERS: usize = 2;

    fn publish(publisher: &mut Publisher, version: u64) {
        let stamp = ModelStamp {
            incarnation: 0,
            version,
        };
        publisher.publish(stamp, version, |before, slot| {
            assert!(before.iter().all(|&value| value == version as f32 - 1.0));
            slot.fill(version as f32);
        });
    }

    /// Reads once; the model must be whole, and not older than the one before.
    fn read(reader: &mut Reader, oldest: u64) -> u64 {
        check(reader.model(), oldest)
    }

    fn check(model: Option<PinnedModel<'_>>, oldest: u64) -> u64 {
        let Some(model) = model else { return 0 };
        let version = model.stamp().version;
        assert!(
            model.iter().all(|&value| value == version as f32),
            "a mixture of versions"
        );
        assert_eq!(model.settled_read_outs(), version);
        assert!(version >= oldest, "an older version after a newer one");
        version
    }

    fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
    }

    /// Invariant: a pinned model was written whole, and each read gives the version read before or a later one. A
    /// reader that comes before the first publish gets none.
    #[test]
    fn a_reader_always_sees_one_whole_version() {
        explore(4, || {
            let (mut publisher, mut readers) = model_slots(PARAMETERS, 1);
            let mut reader = readers.remove(0);
            let reading = thread::spawn(move || {
                let first = read(&mut reader, 0);
                read(&mut reader, first);
            });
            for version in 1..=2 {
                publish(&mut publisher, version);
            }
            reading.join().unwrap();
        });
    }

    /// Invariant: from a reader's second look until its pin is off, the publisher doesn't write that slot. Loom panics
    /// at any access to the cell that is not ordered with the others. Three slots and three publishes, so that slots
    /// are used again.
    #[test]
    fn a_publish_never_writes_a_pinned_slot() {
        explore(4, || {
            let (mut publisher, mut readers) = model_slots(PARAMETERS, 1);
            let mut reader = readers.remove(0);
            publish(&mut publisher, 1);
            let reading = thread::spawn(move || {
                let first = read(&mut reader, 1);
                read(&mut reader, first);
            });
            for version in 2..=4 {
                publish(&mut publisher, version);
            }
            reading.join().unwrap();
        });
    }

    /// Invariant: a held model stays the same until its reader reads again, whatever is published meanwhile; and the
    /// reader never takes it for the newest model when it is not.
    #[test]
    fn a_model_that_is_held_stays_the_same_until_the_next_is_read() {
        explore(3, || {
            let (mut publisher, mut readers) = model_slots(PARAMETERS, 1);
            let mut reader = readers.remove(0);
            publish(&mut publisher, 1);
            let reading = thread::spawn(move || {
                let first = read(&mut reader, 1);
                let has_newer = reader.has_newer();
                assert_eq!(check(reader.held(), first), first, "what is held has changed");
                let second = read(&mut reader, first);
                assert!(!has_newer || second > first, "the newer model was none");
            });
            for version in 2..=4 {
                publish(&mut publisher, version);
            }
            reading.join().unwrap();
        });
    }

    /// The same with two readers, each with a pin of its own: K + 2 slots are enough, and no reader is taken for
    /// another.
    #[test]
    fn a_publish_never_writes_a_slot_that_either_of_two_readers_has_pinned() {
        explore(2, || {
            let (mut publisher, readers) = model_slots(PARAMETERS, 2);
            publish(&mut publisher, 1);
            let reading: Vec<_> = readers
                .into_iter()
                .map(|mut reader| {
                    thread::spawn(move || {
                        read(&mut reader, 1);
                    })
                })
                .collect();
            for version in 2..=4 {
                publish(&mut publisher, version);
            }
            for reading in reading {
                reading.join().unwrap();
            }
        });
    }
}
