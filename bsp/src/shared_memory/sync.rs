//! The primitives that the protocol is made of: the standard library's, or loom's with the crate feature `loom`.
//!
//! Loom's replacements record every access, so that its models find each order of events that the memory model allows,
//! and panic when two accesses to one cell are not ordered by it.

#[cfg(feature = "loom")]
pub(super) use loom::{
    cell::{ConstPtr, UnsafeCell},
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(not(feature = "loom"))]
pub(super) use self::cell::{ConstPtr, UnsafeCell};
#[cfg(not(feature = "loom"))]
pub(super) use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

/// The standard library's `UnsafeCell` behind the interface of loom's, at no cost.
#[cfg(not(feature = "loom"))]
mod cell {
    /// A cell whose accesses the protocol orders.
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    /// A pointer to read through; under loom the cell counts as being read while it exists.
    pub(crate) struct ConstPtr<T>(*const T);

    /// A pointer to write through; under loom the cell counts as being written while it exists.
    pub(crate) struct MutPtr<T>(*mut T);

    impl<T> UnsafeCell<T> {
        pub(crate) fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }

        pub(crate) fn get(&self) -> ConstPtr<T> {
            ConstPtr(self.0.get())
        }

        pub(crate) fn get_mut(&self) -> MutPtr<T> {
            MutPtr(self.0.get())
        }
    }

    impl<T> ConstPtr<T> {
        /// # Safety
        ///
        /// The cell lives, and nobody writes to it while the reference does.
        pub(crate) unsafe fn deref(&self) -> &T {
            // SAFETY: the pointer comes from a cell, so it is aligned and initialised; the caller promises the rest.
            unsafe { &*self.0 }
        }
    }

    impl<T> MutPtr<T> {
        /// # Safety
        ///
        /// The cell lives, and nobody else reads or writes it while the reference does.
        #[allow(clippy::mut_from_ref)] // the signature of loom's; the caller's promise makes the reference the only one
        pub(crate) unsafe fn deref(&self) -> &mut T {
            // SAFETY: the pointer comes from a cell, so it is aligned and initialised; the caller promises the rest.
            unsafe { &mut *self.0 }
        }
    }
}
