//! The eviction policy: which idle memory is freed when the pool is full, trimmed or closed.
//!
//! Buffers that were not used since the last eviction go first, of those the largest, within a size class the
//! oldest.

use crate::bucket::{Bucket, Evicted, Victims};
use crate::pool::Pool;
use crate::stats::Reason;
use crate::storage::Storage;

impl Pool {
    /// Frees idle memory until `keep_bytes` are left, and returns how many bytes it freed. Buffers that were
    /// not used since the last eviction go first, of those the largest.
    ///
    /// ```
    /// # use bytepool::{Config, Pool};
    /// let pool = Pool::new(Config::default())?;
    /// drop(pool.acquire(1 << 20)?);
    /// assert_eq!(pool.trim(0), 1 << 20);
    /// # Ok::<(), bytepool::Error>(())
    /// ```
    pub fn trim(&self, keep_bytes: usize) -> usize {
        let excess = self.idle_bytes().saturating_sub(keep_bytes);
        self.evict_unused_first(excess, Reason::Trimmed)
    }

    /// Frees idle memory and ends all waits; from now on the pool keeps nothing and lends nothing. Buffers in
    /// use stay valid.
    ///
    /// ```
    /// # use bytepool::{Config, Error, Pool};
    /// let pool = Pool::new(Config::default())?;
    /// let mut buffer = pool.acquire(10)?;
    /// pool.close();
    /// assert_eq!(pool.acquire(10).err(), Some(Error::Closed { requested: 10 }));
    /// buffer.fill(1); // still valid
    /// # Ok::<(), bytepool::Error>(())
    /// ```
    pub fn close(&self) {
        self.budget.close();
        self.drain(Reason::Closed);
    }

    #[cfg(feature = "python")]
    pub(crate) fn is_closed(&self) -> bool {
        self.budget.is_closed()
    }

    pub(crate) fn idle_bytes(&self) -> usize {
        self.buckets.iter().fold(0_usize, |sum, bucket| {
            sum.saturating_add(bucket.size().saturating_mul(bucket.depth()))
        })
    }

    /// Makes the buckets give back quota for `bytes`: first unused quota, then that of buffers that were not
    /// used since the last eviction, the largest first. If this does not suffice, all idle buffers are needed
    /// and stay: then the caller's buffer is freed, and the low-water marks start anew.
    pub(crate) fn reclaim_quota(&self, bytes: usize) -> bool {
        if !self.budget.could_keep(bytes) {
            return false;
        }
        let mut reclaimed = 0_usize;
        for bucket in self.buckets.iter().rev() {
            let count = bytes.saturating_sub(reclaimed).div_ceil(bucket.size());
            let unused = bucket.reclaim_quota(count, &self.budget);
            reclaimed = reclaimed.saturating_add(unused.saturating_mul(bucket.size()));
        }
        let missing = bytes.saturating_sub(reclaimed);
        if self.evict(missing, Victims::UnusedSinceEviction, Reason::Capped) >= missing {
            return true;
        }
        self.buckets.iter().for_each(Bucket::reset_low_water);
        false
    }

    /// Frees at least `bytes` of idle memory, if there is so much, and returns how many bytes it freed. Buffers
    /// that were not used since the last eviction go first.
    pub(crate) fn evict_unused_first(&self, bytes: usize, reason: Reason) -> usize {
        let unused = self.evict(bytes, Victims::UnusedSinceEviction, reason);
        let missing = bytes.saturating_sub(unused);
        unused.saturating_add(self.evict(missing, Victims::Any, reason))
    }

    /// Frees at least `bytes` of such memory, if there is so much, the largest buffers first. Returns how many
    /// bytes it freed.
    fn evict(&self, bytes: usize, victims: Victims, reason: Reason) -> usize {
        let mut freed = 0_usize;
        for bucket in self.buckets.iter().rev() {
            let missing = bytes.saturating_sub(freed);
            freed = freed.saturating_add(self.evict_from(bucket, missing, victims, reason));
        }
        freed
    }

    pub(crate) fn evict_from(
        &self,
        bucket: &Bucket<Storage>,
        bytes: usize,
        victims: Victims,
        reason: Reason,
    ) -> usize {
        let mut freed = 0_usize;
        while freed < bytes {
            let count = bytes.saturating_sub(freed).div_ceil(bucket.size());
            let evicted = bucket.evict(count, victims, reason, &self.budget);
            if evicted.count == 0 {
                break;
            }
            freed = freed.saturating_add(self.free(bucket, evicted));
        }
        freed
    }

    /// Frees all idle memory and takes all quota back. For waiters it stops when there are none left.
    pub(crate) fn drain(&self, reason: Reason) {
        for bucket in &self.buckets {
            while reason == Reason::Closed || self.budget.has_waiters() {
                let evicted = bucket.drain(reason, &self.budget);
                if self.free(bucket, evicted) == 0 {
                    break;
                }
            }
        }
    }

    /// Frees evicted buffers, with no lock held, and returns how many bytes they had.
    fn free(&self, bucket: &Bucket<Storage>, evicted: Evicted<Storage>) -> usize {
        let Evicted { mut items, count } = evicted;
        (self.free)(&mut items);
        self.budget.grant_waiters();
        count.saturating_mul(bucket.size())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::budget::Wake;
    use crate::budget::requests::WaiterGuard;
    use crate::buffer::Buffer;
    use crate::config::Config;
    use crate::sync::Arc;

    #[test]
    fn unused_buffers_are_evicted_before_used_ones_and_the_largest_of_them_first() {
        let pool = Pool::new(Config {
            min_size: 1024,
            max_size: 4096,
            ..Config::DEFAULT
        })
        .unwrap();
        drop([1024, 2048, 4096].map(|n| pool.acquire(n).unwrap()));
        pool.buckets.iter().for_each(Bucket::reset_low_water);
        drop(pool.acquire(4096).unwrap());
        assert_eq!(pool.trim(4096 + 1024), 2048);
        assert_eq!(pool.trim(4096), 1024);
        assert_eq!(pool.trim(0), 4096);
    }

    #[test]
    fn unused_quota_is_reclaimed_from_the_largest_size_class_first() {
        let pool = Pool::new(Config {
            min_size: 1024,
            max_size: 4096,
            max_idle_bytes: Some(16 << 10),
            ..Config::DEFAULT
        })
        .unwrap();
        let held = [1024, 4096].map(|n| {
            drop(pool.acquire(n).unwrap()); // the class gets quota
            pool.acquire(n).unwrap()
        });
        assert!(pool.reclaim_quota(1024));
        let left = [1024, 4096].map(|n| {
            let bucket = pool.buckets.iter().find(|bucket| bucket.size() == n);
            bucket.unwrap().reclaim_quota(usize::MAX, &pool.budget)
        });
        assert_eq!(left, [8, 0]);
        drop(held);
    }

    /// A pool with size classes from 1 to 4 KiB that keeps at most `max_idle_bytes`.
    fn pool(max_idle_bytes: usize) -> Pool {
        Pool::new(Config {
            min_size: 1024,
            max_size: 4096,
            max_buffers: 100,
            max_idle_bytes: Some(max_idle_bytes),
            ..Config::DEFAULT
        })
        .unwrap()
    }

    /// The idle buffers of the size classes that were used, smallest first.
    fn idle(pool: &Pool) -> Vec<usize> {
        let buckets = pool.stats().buckets;
        buckets.iter().map(|bucket| bucket.depth).collect()
    }

    /// Returns `count` buffers of this size. No other one is idle then.
    fn fill(pool: &Pool, size: usize, count: usize) {
        let held: Vec<_> = (0..count).map(|_| pool.acquire(size).unwrap()).collect();
        drop(held);
        assert_eq!(idle(pool), [count]);
    }

    #[test]
    fn unused_quota_of_one_size_class_lets_another_keep_a_buffer() {
        let pool = pool(8192);
        drop(pool.acquire(1024).unwrap()); // the class gets half of the quota
        let _held = pool.acquire(1024).unwrap();
        drop([4096, 4096].map(|n| pool.acquire(n).unwrap()));
        assert_eq!(idle(&pool), [0, 2]);
    }

    #[test]
    fn a_returned_buffer_replaces_unused_ones_and_may_fill_the_whole_limit() {
        let pool = pool(4096);
        fill(&pool, 1024, 4);
        pool.buckets.iter().for_each(Bucket::reset_low_water);
        drop(pool.acquire(4096).unwrap());
        assert_eq!(idle(&pool), [0, 1]);
        assert_eq!(pool.stats().buckets[0].capped, 4);
    }

    #[test]
    fn buffers_in_demand_stay_and_a_returned_one_that_does_not_fit_is_freed() {
        let pool = pool(2048);
        fill(&pool, 1024, 2);
        drop(pool.acquire(2048).unwrap());
        assert_eq!(idle(&pool), [2, 0]);
        // Since then nobody has used them.
        drop(pool.acquire(2048).unwrap());
        assert_eq!(idle(&pool), [0, 1]);
    }

    #[test]
    fn buffers_in_demand_make_room_later_also_if_some_were_unused() {
        let pool = pool(2048);
        fill(&pool, 1024, 2);
        pool.buckets.iter().for_each(Bucket::reset_low_water);
        drop(pool.acquire(1024).unwrap());
        (0..3).for_each(|_| drop(pool.acquire(2048).unwrap()));
        assert_eq!(idle(&pool), [0, 1]);
    }

    #[test]
    fn a_buffer_above_the_idle_limit_evicts_nothing() {
        let pool = pool(2048);
        fill(&pool, 1024, 2);
        pool.buckets.iter().for_each(Bucket::reset_low_water);
        drop(pool.acquire(4096).unwrap());
        assert_eq!(idle(&pool), [2, 0]);
    }

    #[test]
    fn any_number_of_buffers_is_trimmed_or_drained() {
        let [trimmed, closed] = [(); 2].map(|()| pool(1 << 20));
        fill(&trimmed, 1024, 100);
        fill(&closed, 1024, 100);
        assert_eq!(trimmed.trim(0), 100 * 1024);
        closed.close();
        assert_eq!([idle(&trimmed), idle(&closed)], [[0], [0]]);
    }

    #[test]
    fn as_many_buffers_are_trimmed_as_asked_for_wherever_they_are() {
        let pool = pool(1 << 20);
        let held = [(); 8].map(|()| [(); 4].map(|()| pool.acquire(1024).unwrap()));
        for buffers in held {
            std::thread::scope(|scope| scope.spawn(move || drop(buffers)).join().unwrap());
        }
        let before = pool.stats().idle_bytes as usize;
        assert_eq!(pool.trim(before - 3 * 1024), 3 * 1024);
    }

    #[test]
    fn a_request_above_the_free_budget_frees_what_is_missing_and_no_more() {
        let pool = Pool::new(Config {
            min_size: 512,
            max_size: 4096,
            max_bytes: Some(4096),
            ..Config::DEFAULT
        })
        .unwrap();
        let held = pool.acquire(1024).unwrap();
        drop([(); 4].map(|()| pool.acquire(512).unwrap()));
        let larger = pool.acquire(2048).unwrap();
        let stats = pool.stats();
        assert_eq!((stats.idle_bytes, stats.outstanding_bytes), (1024, 3072));
        assert_eq!((stats.buckets[0].capped, stats.buckets[0].freed()), (2, 2));
        drop((held, larger));
    }

    #[test]
    fn memory_is_freed_before_a_waiter_gets_its_bytes() {
        thread_local!(static FREED: Cell<usize> = const { Cell::new(0) });
        // An evicted buffer, a returned one of another size than the waiter needs, and a transient one.
        for (max_size, evicts) in [(1024, true), (1024, false), (256, false)] {
            let mut pool = Pool::new(Config {
                min_size: 64,
                max_size,
                max_bytes: Some(1024),
                ..Config::DEFAULT
            })
            .unwrap();
            pool.free = |storages| {
                FREED.set(FREED.get() + storages.iter_mut().filter_map(Option::take).count())
            };
            FREED.set(0);
            let held = pool.acquire(1024).unwrap();
            let held = (!evicts).then_some(held);
            let wake = Wake::new(|| assert_eq!(FREED.get(), 1)).unwrap();
            let guard = WaiterGuard::enqueue(&pool, 512, wake).unwrap();
            drop(held);
            assert!(Pool::lend_to_waiter(&pool, 512, &guard.waiter).is_some());
        }
    }

    #[test]
    fn a_return_is_counted_although_another_one_takes_the_reclaimed_quota() {
        thread_local!(static HELD: Cell<Option<Buffer<Arc<Pool>>>> = const { Cell::new(None) });
        let mut pool = pool(4096);
        pool.free = |storages| {
            storages.fill_with(|| None);
            drop(HELD.take());
        };
        let pool = Arc::new(pool);
        let held = [(); 5].map(|()| Pool::acquire_owned(&pool, 1024).unwrap());
        let large = pool.acquire(4096).unwrap();
        let [other, idle @ ..] = held;
        drop(idle);
        pool.buckets.iter().for_each(Bucket::reset_low_water);
        HELD.set(Some(other));
        drop(large);
        let stats = pool.stats();
        assert_eq!((stats.outstanding, stats.idle_bytes), (0, 1024));
        assert_eq!((stats.buckets[0].capped, stats.buckets[1].capped), (4, 1));
    }
}
