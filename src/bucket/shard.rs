//! A part of a bucket that a few threads share: a stack of idle items with two counters. Callers hold its lock.

use std::collections::VecDeque;
use std::mem;

use crate::error::Error;
use crate::stats::ReturnedBy;

/// How many shards a bucket has. More threads than this share shards. (loom has to try all orders.)
pub(crate) const SHARDS: usize = if cfg!(loom) { 2 } else { 4 };

/// The most items that are moved from one shard to another at a time.
const BATCH: usize = 8;

/// The same, if the other shard's threads only return items. More would keep all items in use in turn, so that none
/// could be evicted.
const RETURNED_BATCH: usize = 32;

/// The most items that are evicted at a time. The more, the less often a thread that frees much memory detaches
/// from Python's interpreter.
const EVICTED: usize = if cfg!(loom) { 8 } else { 32 };

/// Evicted items, on the stack: they are freed after the locks are released, and when items are freed for
/// want of memory there is none for a list.
pub(crate) type Batch<T> = [Option<T>; EVICTED];

/// Which idle items may be evicted. Always the oldest of them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victims {
    Any,
    /// Not used since the low-water marks were last reset, which happens when nothing can be evicted.
    UnusedSinceEviction,
    /// Not used since the last decay.
    UnusedSinceDecay,
}

/// The fields that a pop or a push needs come first, in one cache line with the lock.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Shard<T> {
    /// The newest item, unless it was taken.
    newest: Option<T>,
    /// The other items, newest last. Its capacity is the limit of the whole class.
    older: VecDeque<T>,
    /// How many items the shard may keep: its part of the bucket's quota.
    pub(crate) quota: usize,
    /// The fewest items since the mark was last reset. So many items, the oldest, were not used since then. All of
    /// them are in `older`, so that taking the newest item leaves the mark as it is.
    low_water: usize,
    /// The fewest items between the last decay and the last reset of `low_water`.
    low_water_before: usize,
    pub(crate) returned: u64,
    pub(crate) dropped: u64,
    /// `returned` and the depth when items last moved from this shard to another, or the other way.
    returned_at_move: u64,
    depth_at_move: usize,
}

impl<T> Shard<T> {
    /// A shard with no space reserved and no quota.
    pub(crate) const EMPTY: Self = Self {
        newest: None,
        older: VecDeque::new(),
        quota: 0,
        low_water: 0,
        low_water_before: 0,
        returned: 0,
        dropped: 0,
        returned_at_move: 0,
        depth_at_move: 0,
    };

    /// Reserves space for `limit` items. The shard never grows beyond that.
    pub(crate) fn reserve(&mut self, limit: usize) -> Result<(), Error> {
        let reserved = self.older.try_reserve_exact(limit);
        reserved.map_err(|_| Error::OutOfMemory {
            requested: limit.saturating_mul(size_of::<T>()),
        })
    }

    /// How many items fit without growing.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.older.capacity().saturating_add(1)
    }

    #[inline]
    pub(crate) fn depth(&self) -> usize {
        let newest = usize::from(self.newest.is_some());
        self.older.len().wrapping_add(newest) // a length is far below the largest number
    }

    #[inline]
    pub(crate) fn has_quota(&self) -> bool {
        self.depth() < self.quota
    }

    #[inline(always)]
    pub(crate) fn pop(&mut self) -> Option<T> {
        match self.newest.take() {
            Some(item) => Some(item),
            None => self.pop_older(),
        }
    }

    #[inline]
    fn pop_older(&mut self) -> Option<T> {
        let item = self.older.pop_back();
        self.low_water = self.low_water.min(self.older.len());
        item
    }

    #[inline(always)]
    pub(crate) fn push(&mut self, item: T, by: ReturnedBy) {
        self.count_return(by);
        if let Some(older) = self.newest.replace(item) {
            // Always true. It tells the compiler that nothing grows.
            if self.older.len() < self.older.capacity() {
                self.older.push_back(older);
            }
        }
    }

    #[inline]
    pub(crate) fn count_return(&mut self, by: ReturnedBy) {
        self.returned = self.returned.wrapping_add(1);
        if by == ReturnedBy::Drop {
            self.dropped = self.dropped.wrapping_add(1);
        }
    }

    /// Takes some of the other shard's items for this shard, which is empty, and pops the newest: up to half of them, or
    /// more if the other shard's threads only return items, because they do not need them.
    pub(crate) fn pop_from(&mut self, other: &mut Self) -> Option<T> {
        debug_assert_eq!(self.depth(), 0);
        let only_returns = other.only_returns();
        let newest = other.pop()?;
        if only_returns && other.older.len() <= RETURNED_BATCH {
            // Moving them one by one would keep the other shard's threads waiting. Both lists have space for as many.
            debug_assert_eq!(self.older.capacity(), other.older.capacity());
            mem::swap(&mut self.older, &mut other.older);
        } else {
            let moved = if only_returns {
                RETURNED_BATCH
            } else {
                other.older.len().div_ceil(2).min(BATCH)
            };
            let stay = other.older.len().saturating_sub(moved);
            self.older.extend(other.older.drain(stay..));
        }
        other.low_water = other.low_water.min(other.older.len());
        // Only the missing quota moves along: a thread that returns items will return more of them.
        let missing = self.older.len().saturating_sub(self.quota);
        other.quota = other.quota.saturating_sub(missing);
        self.quota = self.quota.saturating_add(missing);
        self.note_move();
        other.note_move();
        Some(newest)
    }

    fn note_move(&mut self) {
        self.returned_at_move = self.returned;
        self.depth_at_move = self.depth();
    }

    /// Whether no item was taken or evicted since items last moved. Then the depth has grown by the returns. No counter
    /// is needed for what was taken, so taking an item costs nothing more.
    fn only_returns(&self) -> bool {
        let returned = self.returned.wrapping_sub(self.returned_at_move);
        self.depth().wrapping_sub(self.depth_at_move) as u64 == returned
    }

    /// Moves up to `count` items, the oldest, into the batch as far as it has space, with their quota.
    /// Returns how many.
    pub(crate) fn evict(&mut self, count: usize, batch: &mut Batch<T>) -> usize {
        let mut evicted = 0_usize;
        let free = batch.iter_mut().filter(|slot| slot.is_none());
        for slot in free.take(count) {
            *slot = self.older.pop_front().or_else(|| self.newest.take());
            evicted = evicted.saturating_add(usize::from(slot.is_some()));
        }
        self.low_water = self.low_water.saturating_sub(evicted);
        self.low_water_before = self.low_water_before.saturating_sub(evicted);
        self.quota = self.quota.saturating_sub(evicted);
        evicted
    }

    /// How many items may be evicted.
    pub(crate) fn count(&self, victims: Victims) -> usize {
        match victims {
            Victims::Any => self.depth(),
            Victims::UnusedSinceEviction => self.low_water,
            Victims::UnusedSinceDecay => self.low_water.min(self.low_water_before),
        }
    }

    /// From now on every item is `UnusedSinceEviction` until it is taken.
    pub(crate) fn reset_low_water(&mut self) {
        self.low_water_before = self.count(Victims::UnusedSinceDecay);
        self.mark_all_unused();
    }

    /// From now on every item is `UnusedSinceDecay` until it is taken.
    pub(crate) fn begin_decay(&mut self) {
        self.mark_all_unused();
        self.low_water_before = self.low_water;
    }

    fn mark_all_unused(&mut self) {
        self.older.extend(self.newest.take());
        self.low_water = self.older.len();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_shard_steals_the_newest_half_with_the_missing_quota_and_the_rest_stays_unused() {
        let [mut own, mut other] = [const { Shard::EMPTY }; 2];
        own.reserve(16).unwrap();
        other.reserve(16).unwrap();
        other.quota = 8;
        own.quota = 2;
        (0..7).for_each(|item| other.push(item, ReturnedBy::Release));
        other.pop();
        other.reset_low_water();
        assert_eq!(own.pop_from(&mut other), Some(5));
        assert_eq!((own.depth(), own.quota, own.pop()), (3, 3, Some(4)));
        assert_eq!((other.depth(), other.quota), (2, 7));
        (6..9).for_each(|item| other.push(item, ReturnedBy::Release));
        assert_eq!(other.count(Victims::UnusedSinceEviction), 2);
    }

    #[test]
    fn few_items_move_between_shards_at_a_time() {
        let [mut own, mut other] = [const { Shard::EMPTY }; 2];
        own.reserve(64).unwrap();
        other.reserve(64).unwrap();
        (0..64).for_each(|item| other.push(item, ReturnedBy::Release));
        assert_eq!(own.pop_from(&mut other), Some(63));
        assert_eq!((own.depth(), other.depth()), (32, 31)); // nobody took one from there
        other.pop();
        while own.pop().is_some() {}
        assert_eq!(own.pop_from(&mut other), Some(29));
        assert_eq!((own.depth(), other.depth()), (8, 21));
    }

    #[test]
    fn most_of_many_items_stay_unused_while_few_are_handed_over() {
        let [mut own, mut other] = [const { Shard::EMPTY }; 2];
        own.reserve(256).unwrap();
        other.reserve(256).unwrap();
        (0..200).for_each(|item| other.push(item, ReturnedBy::Release));
        other.begin_decay();
        for _ in 0..1000 {
            let item = own.pop().or_else(|| own.pop_from(&mut other));
            other.push(item.unwrap(), ReturnedBy::Release);
        }
        let unused = own.count(Victims::UnusedSinceDecay) + other.count(Victims::UnusedSinceDecay);
        assert!(unused >= 200 - RETURNED_BATCH - 1, "{unused}");
    }

    #[test]
    fn a_shard_steals_all_items_of_one_whose_threads_only_return() {
        let [mut own, mut other] = [const { Shard::EMPTY }; 2];
        own.reserve(64).unwrap();
        other.reserve(64).unwrap();
        other.quota = 64;
        for stolen in [6, 1, RETURNED_BATCH + 1] {
            (0..stolen).for_each(|item| other.push(item, ReturnedBy::Release));
            assert_eq!(own.pop_from(&mut other), Some(stolen - 1));
            assert_eq!((own.depth(), other.depth()), (stolen - 1, 0));
            while own.pop().is_some() {}
        }
        (0..6).for_each(|item| other.push(item, ReturnedBy::Release));
        other.reset_low_water();
        own.pop_from(&mut other);
        assert_eq!(other.count(Victims::UnusedSinceEviction), 0);
        let mut batch = Batch::default();
        assert_eq!(own.evict(1, &mut batch), 1);
        assert_eq!(batch.first(), Some(&Some(0))); // the oldest
        while own.pop().is_some() {}
        (0..6).for_each(|item| other.push(item, ReturnedBy::Release));
        other.pop();
        own.pop_from(&mut other);
        assert_eq!((own.depth(), other.depth()), (2, 2));
    }
}
