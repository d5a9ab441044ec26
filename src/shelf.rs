//! One thread's part of a size class, unless there are more threads than shelves: a stack and two
//! counters. Whoever uses it holds its lock.

use std::mem;

use crate::error::Error;

/// How many idle items move at most, in one go, to the shelf of a thread that takes what others return.
const BATCH: usize = 8;

/// What a thread needs for a round trip stands first, in one cache line with the lock.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shelf<T> {
    /// The newest item, unless it was taken.
    newest: Option<T>,
    /// The others, newest last. Its capacity is the class's whole limit.
    older: Vec<T>,
    /// How many it may keep: its part of the class's limit, dealt out by the bucket.
    pub(crate) room: usize,
    pub(crate) returned: u64,
    pub(crate) dropped: u64,
}

impl<T> Shelf<T> {
    /// It has no space yet, and no leave to keep anything.
    pub(crate) const EMPTY: Self = Self {
        newest: None,
        older: Vec::new(),
        room: 0,
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

    /// Hands out all that is idle, and may keep nothing from now on.
    pub(crate) fn close(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.room = 0;
        let newest = self.newest.take();
        mem::take(&mut self.older).into_iter().chain(newest)
    }

    #[inline]
    pub(crate) fn depth(&self) -> usize {
        let newest = usize::from(self.newest.is_some());
        self.older.len().saturating_add(newest)
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        self.newest.take().or_else(|| self.older.pop())
    }

    #[inline]
    fn push(&mut self, item: T) {
        if let Some(older) = self.newest.replace(item) {
            self.older.push(older);
        }
    }

    /// Moves half of what the other one has to this one, which is empty, and takes the newest.
    pub(crate) fn pop_from(&mut self, other: &mut Self) -> Option<T> {
        debug_assert_eq!(self.depth(), 0);
        let newest = other.pop()?;
        let moved = other.older.len().div_ceil(2).min(BATCH);
        let stay = other.older.len().saturating_sub(moved);
        self.older.extend(other.older.drain(stay..));
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
