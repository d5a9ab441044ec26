//! One thread's part of a size class, unless there are more threads than shelves: a stack and two
//! counters. Whoever uses it holds its lock.

use std::collections::VecDeque;

use crate::error::Error;

/// How many idle items move at most, in one go, to the shelf of a thread that takes what others return.
const BATCH: usize = 8;

/// Idle items on their way out: as many as fit on the stack, for no lock is held when they are freed,
/// and none while there is memory to be allocated for a list of them.
pub(crate) type Batch<T> = [Option<T>; BATCH];

/// Which idle items are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// All of them.
    Any,
    /// Those that nobody has needed since room was last short.
    Cold,
    /// Those that nobody has needed since the last decay.
    Unneeded,
}

/// What a thread needs for a round trip stands first, in one cache line with the lock.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shelf<T> {
    /// The newest item, unless it was taken.
    newest: Option<T>,
    /// The others, newest last. Its capacity is the class's whole limit.
    older: VecDeque<T>,
    /// How many it may keep: its part of the class's limit, dealt out by the bucket.
    pub(crate) room: usize,
    /// The fewest it has had since it was last cooled: so many, the oldest, nobody needed.
    cold: usize,
    /// The fewest it had between the last decay and when it was last cooled.
    cold_before: usize,
    pub(crate) returned: u64,
    pub(crate) dropped: u64,
}

impl<T> Shelf<T> {
    /// It has no space yet, and no leave to keep anything.
    pub(crate) const EMPTY: Self = Self {
        newest: None,
        older: VecDeque::new(),
        room: 0,
        cold: 0,
        cold_before: 0,
        returned: 0,
        dropped: 0,
    };

    /// Makes space for so many items, beyond which it never grows.
    pub(crate) fn reserve(&mut self, limit: usize) -> Result<(), Error> {
        let reserved = self.older.try_reserve_exact(limit);
        reserved.map_err(|_| Error::OutOfMemory {
            requested: limit.saturating_mul(size_of::<T>()),
        })
    }

    /// How many it could hold without growing.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.older.capacity().saturating_add(1)
    }

    /// Hands out the oldest items, `count` at most and no more than a batch.
    pub(crate) fn evict(&mut self, count: usize, batch: &mut Batch<T>) -> usize {
        let mut evicted = 0_usize;
        let free = batch.iter_mut().filter(|place| place.is_none());
        for place in free.take(count) {
            *place = self.older.pop_front().or_else(|| self.newest.take());
            evicted = evicted.saturating_add(usize::from(place.is_some()));
        }
        self.cold = self.cold.saturating_sub(evicted);
        self.cold_before = self.cold_before.saturating_sub(evicted);
        self.room = self.room.saturating_sub(evicted);
        evicted
    }

    /// How many items, the oldest, are of that age.
    pub(crate) fn count(&self, age: Age) -> usize {
        match age {
            Age::Any => self.depth(),
            Age::Cold => self.cold,
            Age::Unneeded => self.cold.min(self.cold_before),
        }
    }

    /// From now on, all that it has is cold until somebody takes it.
    pub(crate) fn cool(&mut self) {
        self.cold_before = self.count(Age::Unneeded);
        self.cold = self.depth();
    }

    /// From now on, all that it has is not needed until somebody takes it.
    pub(crate) fn begin_decay(&mut self) {
        self.cold = self.depth();
        self.cold_before = self.cold;
    }

    #[inline]
    pub(crate) fn depth(&self) -> usize {
        let newest = usize::from(self.newest.is_some());
        self.older.len().saturating_add(newest)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let item = self.newest.take().or_else(|| self.older.pop_back());
        // The newest is gone, so the older ones are all there are.
        self.cold = self.cold.min(self.older.len());
        item
    }

    #[inline]
    fn push(&mut self, item: T) {
        if let Some(older) = self.newest.replace(item) {
            self.older.push_back(older);
        }
    }

    /// Moves half of what the other one has to this one, which is empty, and takes the newest.
    pub(crate) fn pop_from(&mut self, other: &mut Self) -> Option<T> {
        debug_assert_eq!(self.depth(), 0);
        let newest = other.pop()?;
        let moved = other.older.len().div_ceil(2).min(BATCH);
        let stay = other.older.len().saturating_sub(moved);
        self.older.extend(other.older.drain(stay..));
        other.cold = other.cold.min(stay);
        // Room moves along only where there is none yet: who returns will go on returning.
        let lacking = self.older.len().saturating_sub(self.room);
        other.room = other.room.saturating_sub(lacking);
        self.room = self.room.saturating_add(lacking);
        Some(newest)
    }

    #[inline]
    pub(crate) fn take_back(&mut self, item: T, dropped: bool) {
        self.count_return(dropped);
        self.push(item);
    }

    #[inline]
    pub(crate) fn count_return(&mut self, dropped: bool) {
        self.returned = self.returned.wrapping_add(1);
        if dropped {
            self.dropped = self.dropped.wrapping_add(1);
        }
    }
}
