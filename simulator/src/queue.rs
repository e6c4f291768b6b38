//! The queue of events, ordered by their time, and at the same time by the order in which they were queued.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bsp::time::Time;

/// The queue of events.
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Entry<E>>,
    serial: u64,
}

struct Entry<E> {
    at: Time,
    serial: u64,
    event: E,
}

impl<E> Queue<E> {
    /// An empty queue.
    pub(crate) fn new() -> Queue<E> {
        Queue {
            heap: BinaryHeap::new(),
            serial: 0,
        }
    }

    /// Queues an event, behind those of the same time that are queued already.
    pub(crate) fn push(&mut self, at: Time, event: E) {
        self.serial += 1;
        self.heap.push(Entry {
            at,
            serial: self.serial,
            event,
        });
    }

    /// All events, in any order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &E> {
        self.heap.iter().map(|entry| &entry.event)
    }

    /// The time of the next event.
    pub(crate) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// Takes the next event out, with its time.
    pub(crate) fn pop(&mut self) -> Option<(Time, E)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

impl<E> Ord for Entry<E> {
    /// The heap gives its greatest first, so the earliest is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Entry<E> {}
