//! One size class: its idle items, and counters that are exact because they share its locks.
//!
//! Each thread uses one of a few *shards*, under the lock of that shard alone. Only if its shard is empty, or
//! has no quota left, a thread locks all shards (`locked.rs`) and sees the class as a whole. So the class's
//! limit bounds all shards together, one thread alone can use all of it, and a request is a miss only if no
//! shard has an item.
//!
//! A shard keeps as many items as its *quota* says. The pool's budget grants quota to the buckets, so that all
//! of them together stay within its bounds, and each bucket redistributes its quota among its shards.

#[cfg(all(test, not(loom)))]
mod fast_tests;
mod locked;
mod shard;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::budget::Budget;
use crate::error::Error;
use crate::stats::{BucketStats, Counter, Reason, ReturnedBy};
use crate::sync::{Mutex, MutexGuard, known_thread_index, thread_index};

pub(crate) use locked::{Evicted, Miss, Refusal};
use locked::{LockedShards, Totals};
pub(crate) use shard::Victims;
use shard::{SHARDS, Shard};

/// How often a thread looks through the other shards, if it has to skip locked ones, before it takes all locks.
const ATTEMPTS: usize = if cfg!(loom) { 1 } else { 4 };

/// A decay is due after this many returns to a shard.
const DECAY_EVERY: u64 = 1024;

/// One of so many requests that find a bucket empty does not borrow from another one but is a miss. So a bucket that is
/// often short of items grows, and the search of others stays rare.
const GROW_EVERY: u64 = 128;

#[derive(Debug)]
pub(crate) struct Bucket<T> {
    size: usize,
    totals: Mutex<Totals>,
    /// How many requests found no item here.
    empty: Counter,
    shards: [CacheAligned<Mutex<Shard<T>>>; SHARDS],
}

/// Alone in two cache lines, because processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct CacheAligned<T>(T);

/// The result of returning an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pushed<T> {
    Kept,
    /// It was kept, and so many were returned since the last time that the pool should decay.
    KeptAndDecayDue,
    /// The shard has no quota left, or its lock is taken: try [`push_slow`](Bucket::push_slow).
    Refused(T),
}

impl<T> Bucket<T> {
    /// A bucket of buffers of `size` bytes that keeps at most `limit` idle ones, and no more than `max_idle`
    /// bytes. The space for them is reserved here.
    pub(crate) fn new(size: usize, limit: usize, max_idle: usize) -> Result<Self, Error> {
        // The budget grants no more quota than this.
        let space = limit.min(max_idle.checked_div(size).unwrap_or(limit));
        let mut shards = [const { Shard::EMPTY }; SHARDS];
        for shard in &mut shards {
            shard.reserve(space)?;
        }
        Ok(Self {
            size,
            totals: Mutex::new(Totals::new(limit)),
            empty: Counter::default(),
            shards: shards.map(|shard| CacheAligned(Mutex::new(shard))),
        })
    }

    /// The capacity of each buffer, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    // The two fast paths call nothing: whatever is out of the ordinary is left to the slow paths, so that the
    // compiler saves no registers.

    /// Takes the newest item of this thread's shard. `None`: the shard is empty or its lock is taken, try
    /// [`steal`](Self::steal).
    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<T> {
        self.try_lock_own()?.pop()
    }

    /// Puts a returned item into this thread's shard.
    #[inline(always)]
    pub(crate) fn push(&self, item: T, by: ReturnedBy) -> Pushed<T> {
        let Some(mut shard) = self.try_lock_own() else {
            return Pushed::Refused(item);
        };
        if !shard.has_quota() {
            return Pushed::Refused(item);
        }
        shard.push(item, by);
        if shard.returned % DECAY_EVERY == 0 {
            Pushed::KeptAndDecayDue
        } else {
            Pushed::Kept
        }
    }

    /// Takes an item of any shard whose lock is free. `None`: try [`pop_slow`](Self::pop_slow).
    #[cold]
    pub(crate) fn steal(&self) -> Option<T> {
        let index = thread_index();
        let mut own = self.shard(index).lock();
        if let Some(item) = own.pop() {
            return Some(item); // returned meanwhile by a thread that shares the shard
        }
        for _ in 0..ATTEMPTS {
            let mut skipped = false;
            for distance in 1..SHARDS {
                // Only tried, because this thread holds a lock that the other's owner may be waiting for.
                match self.shard(index.wrapping_add(distance)).try_lock() {
                    Some(mut other) => {
                        if let Some(item) = own.pop_from(&mut other) {
                            return Some(item);
                        }
                    }
                    None => skipped = true,
                }
            }
            if !skipped {
                break;
            }
        }
        None
    }

    /// Counts a request that found no item here, and returns whether it may take one of another bucket.
    #[cold]
    pub(crate) fn may_borrow(&self) -> bool {
        self.empty.count();
        self.empty.get() % GROW_EVERY != 0
    }

    /// Takes an item of any shard, or counts a miss.
    #[cold]
    pub(crate) fn pop_slow(&self) -> Result<T, Miss> {
        self.lock().pop()
    }

    /// Puts a returned item into this thread's shard, with quota of any shard or fresh quota of the budget.
    /// Hands the item back if there is none.
    #[cold]
    pub(crate) fn push_slow(
        &self,
        item: T,
        by: ReturnedBy,
        budget: &Budget,
    ) -> Result<(), (T, Refusal)> {
        let mut own = self.shard(thread_index()).lock();
        if own.has_quota() {
            own.push(item, by);
            return Ok(());
        }
        drop(own);
        self.lock().push(item, by, budget, self.size)
    }

    /// Counts a return whose item is freed for this reason, or was handed to a waiter.
    #[cold]
    pub(crate) fn count_return(&self, by: ReturnedBy, freed: Option<Reason>) {
        let mut locked = self.lock();
        let [own, ..] = &mut locked.shards;
        own.count_return(by);
        if let Some(reason) = freed {
            locked.totals.count_freed(reason, 1);
        }
    }

    /// Uncounts a miss for which there was no fresh memory.
    #[cold]
    pub(crate) fn undo_miss(&self, miss: &Miss) {
        let mut locked = self.lock();
        let last = locked.totals.misses == miss.number;
        locked.totals.misses = locked.totals.misses.wrapping_sub(1);
        // After a later miss it is unknown what the peak would have been.
        if last {
            locked.totals.peak = miss.peak_before;
        }
    }

    /// Gives unused quota for up to `count` items back to the budget. Returns for how many.
    #[cold]
    pub(crate) fn reclaim_quota(&self, count: usize, budget: &Budget) -> usize {
        let mut locked = self.lock();
        let reclaimed = locked.reclaim_quota(count);
        budget.take_back(reclaimed.saturating_mul(self.size), 0);
        reclaimed
    }

    /// Evicts up to `count` idle items, no more than a batch, and gives their quota back to the budget.
    #[cold]
    pub(crate) fn evict(
        &self,
        count: usize,
        victims: Victims,
        reason: Reason,
        budget: &Budget,
    ) -> Evicted<T> {
        let mut locked = self.lock();
        let quota = locked.quota();
        let evicted = locked.evict(count, victims, reason);
        let returned = quota.saturating_sub(locked.quota());
        self.take_back(returned, evicted.count, budget);
        evicted
    }

    /// Evicts a batch of idle items, and gives all unused quota back to the budget. After the last batch every
    /// return has to ask for quota.
    #[cold]
    pub(crate) fn drain(&self, reason: Reason, budget: &Budget) -> Evicted<T> {
        let mut locked = self.lock();
        let quota = locked.quota();
        let evicted = locked.evict(usize::MAX, Victims::Any, reason);
        for shard in &mut locked.shards {
            shard.quota = shard.depth();
        }
        let returned = quota.saturating_sub(locked.quota());
        self.take_back(returned, evicted.count, budget);
        evicted
    }

    /// Called with all locks held, so that the budget always agrees with the bucket.
    fn take_back(&self, quota: usize, evicted: usize, budget: &Budget) {
        let bytes = |items: usize| items.saturating_mul(self.size);
        budget.take_back(bytes(quota), bytes(evicted));
    }

    /// From now on every idle item is [`UnusedSinceEviction`](Victims::UnusedSinceEviction) until it is taken.
    #[cold]
    pub(crate) fn reset_low_water(&self) {
        for shard in &mut self.lock().shards {
            shard.reset_low_water();
        }
    }

    /// From now on every idle item is [`UnusedSinceDecay`](Victims::UnusedSinceDecay) until it is taken.
    #[cold]
    pub(crate) fn begin_decay(&self) {
        for shard in &mut self.lock().shards {
            shard.begin_decay();
        }
    }

    /// How many items are idle.
    pub(crate) fn depth(&self) -> usize {
        self.lock().depth()
    }

    /// Whether nothing happened in it so far: the first event in a bucket of a pool is a miss.
    pub(crate) fn is_unused(&self) -> bool {
        self.totals.lock().misses == 0
    }

    /// The counters, and how many of the returned buffers were dropped instead of released.
    pub(crate) fn stats(&self) -> (BucketStats, u64) {
        let locked = self.lock();
        (locked.stats(self.size), locked.sum(|shard| shard.dropped))
    }

    /// `None` if the lock is taken, or if this thread has no index yet.
    #[inline(always)]
    fn try_lock_own(&self) -> Option<MutexGuard<'_, Shard<T>>> {
        self.shard(known_thread_index()?).try_lock()
    }

    #[inline(always)]
    fn shard(&self, thread_index: usize) -> &Mutex<Shard<T>> {
        let [first, ..] = &self.shards;
        let shard = self.shards.get(thread_index % SHARDS);
        &shard.unwrap_or(first).0
    }

    #[cold]
    fn lock(&self) -> LockedShards<'_, T> {
        let totals = self.totals.lock();
        let mut shards = self.shards.each_ref().map(|shard| shard.0.lock());
        shards.rotate_left(thread_index() % SHARDS);
        LockedShards { totals, shards }
    }
}
