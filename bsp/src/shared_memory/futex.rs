//! A word that a thread can sleep on until it changes: `Atomics.wait` in the browser, a condition variable elsewhere.

use std::time::Duration;

use super::sync::AtomicU32;

#[cfg(not(all(target_arch = "wasm32", target_feature = "atomics", not(feature = "loom"))))]
pub(super) use self::condition_variable::{Futex, Patience};
#[cfg(all(target_arch = "wasm32", target_feature = "atomics", not(feature = "loom")))]
pub(super) use self::wasm::{Futex, Patience};

/// Why a sleep is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// It was woken, or the word was not as expected. Look again.
    LookAgain,
    /// The time is up.
    TimeIsUp,
}

#[cfg(all(target_arch = "wasm32", target_feature = "atomics", not(feature = "loom")))]
mod wasm {
    use super::{AtomicU32, Duration, Woken};

    pub(crate) struct Futex {
        pub(crate) word: AtomicU32,
    }

    /// The time for which a sleeper may still sleep. There is no clock here, and none is needed: `wait` never returns
    /// without a reason, so a sleeper that looks again has not slept, or its word has changed.
    pub(crate) struct Patience(Option<Duration>);

    impl Patience {
        pub(crate) fn new(timeout: Option<Duration>) -> Patience {
            Patience(timeout)
        }

        fn left_ns(&self) -> i64 {
            // Negative: for ever.
            self.0
                .map_or(-1, |timeout| i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX))
        }
    }

    impl Futex {
        pub(crate) fn new(word: u32) -> Futex {
            Futex {
                word: AtomicU32::new(word),
            }
        }

        /// Sleeps if the word is as expected, until it is woken or the time is up.
        pub(crate) fn wait(&self, expected: u32, patience: &Patience) -> Woken {
            const TIMED_OUT: i32 = 2;
            // SAFETY: the pointer is that of a live, aligned atomic word in this module's shared memory.
            let woken = unsafe {
                core::arch::wasm32::memory_atomic_wait32(
                    self.word.as_ptr().cast::<i32>(),
                    expected.cast_signed(),
                    patience.left_ns(),
                )
            };
            if woken == TIMED_OUT {
                Woken::TimeIsUp
            } else {
                Woken::LookAgain
            }
        }

        /// Wakes all sleepers on the word. The word must have changed before, or they sleep again.
        pub(crate) fn wake(&self) {
            // SAFETY: as in `wait`.
            unsafe { core::arch::wasm32::memory_atomic_notify(self.word.as_ptr().cast::<i32>(), u32::MAX) };
        }
    }
}

#[cfg(not(all(target_arch = "wasm32", target_feature = "atomics", not(feature = "loom"))))]
mod condition_variable {
    #[cfg(feature = "loom")]
    use loom::sync::{Condvar, Mutex, MutexGuard};
    use std::sync::PoisonError;
    #[cfg(not(feature = "loom"))]
    use std::sync::{Condvar, Mutex, MutexGuard};
    use std::time::Instant;

    use super::super::sync::Ordering;
    use super::{AtomicU32, Duration, Woken};

    pub(crate) struct Futex {
        pub(crate) word: AtomicU32,
        lock: Mutex<()>,
        woken: Condvar,
    }

    /// The time for which a sleeper may still sleep.
    pub(crate) struct Patience {
        until: Option<Instant>,
    }

    impl Patience {
        pub(crate) fn new(timeout: Option<Duration>) -> Patience {
            // A time beyond the clock's range is for ever.
            Patience {
                until: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            }
        }
    }

    impl Futex {
        pub(crate) fn new(word: u32) -> Futex {
            Futex {
                word: AtomicU32::new(word),
                lock: Mutex::new(()),
                woken: Condvar::new(),
            }
        }

        /// Sleeps if the word is as expected, until it is woken or the time is up.
        pub(crate) fn wait(&self, expected: u32, patience: &Patience) -> Woken {
            let guard = self.lock();
            // Relaxed: the lock orders it. A waker that has passed the lock has changed the word before; one that has
            // not will find this sleeper asleep.
            if self.word.load(Ordering::Relaxed) != expected {
                return Woken::LookAgain;
            }
            let Some(until) = patience.until else {
                drop(self.woken.wait(guard).unwrap_or_else(PoisonError::into_inner));
                return Woken::LookAgain;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::TimeIsUp;
            }
            drop(
                self.woken
                    .wait_timeout(guard, left)
                    .unwrap_or_else(PoisonError::into_inner),
            );
            Woken::LookAgain
        }

        /// Wakes all sleepers on the word. The word must have changed before, or they sleep again.
        pub(crate) fn wake(&self) {
            // The lock is taken and given back: a sleeper that still saw the old word is asleep after this, not on its
            // way there.
            drop(self.lock());
            self.woken.notify_all();
        }

        fn lock(&self) -> MutexGuard<'_, ()> {
            // There is nothing under the lock that a panic could leave half done.
            self.lock.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
