//! Model slots: the local BSP module publishes, the ML modules of its tab read, and neither waits for the other.
//!
//! With K readers there are K + 2 slots: one current, at most K pinned, and so always one to write the next version to.
//!
//! *Read*: load current, store it as the pin, fence, load current again, and start over if it changed. *Publish*: fence,
//! scan the pins, write a slot that is neither current nor pinned, store current.
//!
//! Why that is enough: a slot is written again only by a later publish than the one that replaced it as current. If that
//! publish's fence comes after the reader's, its scan finds the pin. If it comes before, then the store that replaced the
//! slot as current precedes it too, and the reader's second look finds that the slot is not current any more. (The slot may
//! have become current once more: then the second look has found its new content, and the same argument holds from there.)

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::sync::{AtomicUsize, ConstPtr, Ordering, UnsafeCell, fence};

/// Which model: a version number means one model only together with the incarnation of the run that made it.
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
    parameters: Box<[f32]>,
}

/// The slot that a reader may be reading. On a cache line of its own, as each reader writes its own at every step.
#[repr(align(64))]
struct Pin(AtomicUsize);

struct ModelSlots {
    slots: Box<[UnsafeCell<Slot>]>,
    /// Written by the publisher only.
    current: AtomicUsize,
    /// Each is written by its reader only.
    pins: Box<[Pin]>,
}

// SAFETY: a slot is written by the one publisher only, and only while it is neither current nor pinned; a reader reads it
// only after it has pinned it and found it current after that. The comment of this module says why these exclude each other.
unsafe impl Send for ModelSlots {}
// SAFETY: as above.
unsafe impl Sync for ModelSlots {}

/// The local BSP module's end. There is one for each `ModelSlots`.
pub(super) struct Publisher {
    slots: Arc<ModelSlots>,
    published: Option<ModelStamp>,
    /// The scan's scratch memory: which slots are current or pinned.
    is_taken: Box<[bool]>,
}

/// An ML module's end. There is one for each pin.
pub(super) struct Reader {
    slots: Arc<ModelSlots>,
    pin: usize,
    /// Its pin is stored from shared references too, so it belongs to one thread at a time.
    of_one_thread: PhantomData<std::cell::Cell<()>>,
}

/// A model that will not be overwritten until this is dropped.
pub struct PinnedModel<'a> {
    // Declared first, so dropped first: the reading ends before the pin is taken off.
    slot: ConstPtr<Slot>,
    _pinned: Pinned<'a>,
}

/// Takes the pin off when dropped.
struct Pinned<'a>(&'a Pin);

/// Slots for models of `parameters` parameters and that many readers.
pub(super) fn model_slots(parameters: usize, readers: usize) -> (Publisher, Vec<Reader>) {
    let empty = || Slot {
        stamp: ModelStamp::default(),
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
        of_one_thread: PhantomData,
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
    /// Writes a model to a free slot and makes it the current one. `write` gets what an older model has left there.
    pub(super) fn publish(&mut self, stamp: ModelStamp, write: impl FnOnce(&mut [f32])) {
        let shared = &*self.slots;
        // SeqCst: pairs with the fence in Reader::pin. Either the scan below finds a reader's pin, or that reader finds, at its
        // second look, the store to `current` that this publisher made before.
        fence(Ordering::SeqCst);
        self.is_taken.fill(false);
        // Relaxed: only this publisher stores it.
        let current = shared.current.load(Ordering::Relaxed);
        if current != NONE {
            self.is_taken[current] = true;
        }
        // Each pin is looked at once: one that moves during the scan must not take two slots.
        for pin in shared.pins.iter() {
            // Acquire: pairs with the Release of every store to a pin: what its reader has read before comes before the write.
            let pinned = pin.0.load(Ordering::Acquire);
            if pinned != NONE {
                self.is_taken[pinned] = true;
            }
        }
        let Some(free) = self.is_taken.iter().position(|is_taken| !is_taken) else {
            unreachable!("K + 2 slots, of which one is current and at most K are pinned")
        };
        {
            let slot = shared.slots[free].get_mut();
            // SAFETY: this is the only publisher, and the slot is neither current nor pinned: nobody reads it now, and by the
            // argument of this module nobody begins to before it is current again.
            let slot = unsafe { slot.deref() };
            slot.stamp = stamp;
            write(&mut slot.parameters);
        }
        // Release: pairs with the Acquire of the second look in Reader::pin: the model is visible, whole, before its slot is
        // current.
        shared.current.store(free, Ordering::Release);
        self.published = Some(stamp);
    }

    /// What is current.
    pub(super) fn published(&self) -> Option<ModelStamp> {
        self.published
    }
}

impl Reader {
    /// The current model, pinned. Starts over only when a publish came in between.
    pub(super) fn model(&mut self) -> Option<PinnedModel<'_>> {
        self.pin()
    }

    /// Which model is current.
    pub(super) fn published(&self) -> Option<ModelStamp> {
        // Through `&self` the pin is free: a PinnedModel that is alive borrows the reader exclusively.
        self.pin().map(|model| model.stamp())
    }

    fn pin(&self) -> Option<PinnedModel<'_>> {
        let shared = &*self.slots;
        let pin = &shared.pins[self.pin];
        // Relaxed: a guess only, which the second look confirms.
        let mut seen = shared.current.load(Ordering::Relaxed);
        if seen == NONE {
            return None;
        }
        loop {
            // Release: pairs with the scan in publish(), which may see this pin and not the one before it: what was read under
            // the earlier pin is over.
            pin.0.store(seen, Ordering::Release);
            // SeqCst: pairs with the fence in publish(), which says what it ensures.
            fence(Ordering::SeqCst);
            // Acquire: pairs with the Release store in publish(): the model in the slot is whole.
            let current = shared.current.load(Ordering::Acquire);
            if current == seen {
                return Some(PinnedModel {
                    slot: shared.slots[seen].get(),
                    _pinned: Pinned(pin),
                });
            }
            seen = current;
        }
    }
}

impl PinnedModel<'_> {
    /// Which model it is.
    pub fn stamp(&self) -> ModelStamp {
        // SAFETY: see `deref`.
        unsafe { self.slot.deref() }.stamp
    }
}

impl Deref for PinnedModel<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: the slot is pinned as long as `self` lives, and was current after it was pinned, so the publisher does not
        // write to it; it lives in the Arc of the Reader that `self` borrows.
        &unsafe { self.slot.deref() }.parameters
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        // Release: pairs with the scan in publish(): what was read comes before what will be written.
        self.0.0.store(NONE, Ordering::Release);
    }
}

#[cfg(all(test, feature = "loom"))]
mod loom_models {
    use loom::thread;

    use super::*;

    const PARAMETERS: usize = 2;

    fn publish(publisher: &mut Publisher, version: u64) {
        publisher.publish(
            ModelStamp {
                incarnation: 0,
                version,
            },
            |slot| slot.fill(version as f32),
        );
    }

    /// Reads once; the model must be whole, and not older than the one before.
    fn read(reader: &mut Reader, oldest: u64) -> u64 {
        let Some(model) = reader.model() else { return 0 };
        let version = model.stamp().version;
        assert!(
            model.iter().all(|&value| value == version as f32),
            "a mixture of versions"
        );
        assert!(version >= oldest, "an older version after a newer one");
        version
    }

    fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
    }

    /// Invariant: what a pin shows was written whole, and each read is of the version read before or of a later one. Also from
    /// nothing: a reader that comes before the first publish gets none.
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

    /// Invariant: from a reader's second look until its pin is off, the publisher doesn't write that slot. Loom panics at any
    /// access to the cell that is not ordered with the others. Three slots and three publishes, so that slots are used again.
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

    /// The same with two readers, each with a pin of its own: K + 2 slots are enough, and no reader is taken for another.
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
