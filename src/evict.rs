//! What is idle, and has to go: because somebody says so, for want of use, or for want of room.

use std::time::{Duration, Instant};

use crate::bucket::shard::Age;
use crate::bucket::{Bucket, Evicted};
use crate::error::Error;
use crate::pool::Pool;
use crate::stats::Reason;
use crate::storage::Storage;
use crate::sync::{AtomicU64, Ordering};

impl Pool {
    /// Frees idle memory now, down to `keep_bytes`, and says how many bytes it freed. What nobody
    /// has needed since room was last short goes first, and of that the largest.
    pub fn trim(&self, keep_bytes: usize) -> usize {
        let excess = self.idle_bytes().saturating_sub(keep_bytes);
        self.evict_cold_first(excess, Reason::Trimmed)
    }

    /// Frees what has lain idle and not been needed since the last time that this did something, and
    /// says how many bytes. It does something once every `idle_timeout`, so call it as often as you
    /// like: memory that is no longer needed goes after one to two of them.
    pub fn decay(&self) -> usize {
        let due = |timeout| self.decay.is_over(timeout);
        if !self.config.idle_timeout.is_some_and(due) {
            return 0;
        }
        let mut freed = 0_usize;
        for bucket in &self.buckets {
            freed = freed.saturating_add(self.evict_from(
                bucket,
                usize::MAX,
                Age::Unneeded,
                Reason::Decayed,
            ));
            bucket.begin_decay();
        }
        freed
    }

    /// Frees what is idle, keeps nothing from now on, and lends nothing; who waits is told. Buffers
    /// that are out stay valid.
    pub fn close(&self) {
        self.budget.close();
        self.empty(Reason::Closed);
    }
}

impl Pool {
    #[cfg(feature = "python")]
    pub(crate) fn is_closed(&self) -> bool {
        self.budget.is_closed()
    }

    pub(crate) fn idle_bytes(&self) -> usize {
        self.buckets.iter().fold(0_usize, |sum, bucket| {
            sum.saturating_add(bucket.size().saturating_mul(bucket.depth()))
        })
    }

    /// Takes bytes of the budget, if need be those of idle memory, which is freed if that is enough.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Error> {
        loop {
            let reserved = self.budget.reserve(bytes);
            let Err(Error::Exhausted {
                used,
                max_bytes,
                waiting: 0,
                ..
            }) = reserved
            else {
                return reserved;
            };
            let lacking = bytes.saturating_sub(max_bytes.saturating_sub(used));
            if self.idle_bytes() < lacking || self.evict_cold_first(lacking, Reason::Capped) == 0 {
                // Another thread may have freed, meanwhile, what was not found idle any more.
                return self.budget.reserve(bytes);
            }
        }
    }

    /// Has the buckets give up room for `bytes`: what they do not use, then that of items which nobody
    /// has needed since room was last short, the largest first. If that does not do, all is in use, and
    /// stays: then it is the newcomer that has to go, and what is not used from now on is next.
    pub(crate) fn make_room(&self, bytes: usize) -> bool {
        if !self.budget.could_keep(bytes) {
            return false;
        }
        let mut made = 0_usize;
        for bucket in self.buckets.iter().rev() {
            let count = bytes.saturating_sub(made).div_ceil(bucket.size());
            let given_up = bucket.give_up_room(count, &self.budget);
            made = made.saturating_add(given_up.saturating_mul(bucket.size()));
        }
        let lacking = bytes.saturating_sub(made);
        if self.evict(lacking, Age::Cold, Reason::Capped) >= lacking {
            return true;
        }
        self.buckets.iter().for_each(Bucket::cool);
        false
    }

    /// Frees idle memory of any age, `bytes` or somewhat more. Says how much it freed.
    pub(crate) fn evict_cold_first(&self, bytes: usize, reason: Reason) -> usize {
        let cold = self.evict(bytes, Age::Cold, reason);
        cold.saturating_add(self.evict(bytes.saturating_sub(cold), Age::Any, reason))
    }

    /// Frees idle memory of that age, `bytes` or somewhat more, the largest first. Says how much it
    /// freed.
    fn evict(&self, bytes: usize, age: Age, reason: Reason) -> usize {
        let mut freed = 0_usize;
        for bucket in self.buckets.iter().rev() {
            let lacking = bytes.saturating_sub(freed);
            freed = freed.saturating_add(self.evict_from(bucket, lacking, age, reason));
        }
        freed
    }

    fn evict_from(
        &self,
        bucket: &Bucket<Storage>,
        bytes: usize,
        age: Age,
        reason: Reason,
    ) -> usize {
        let mut freed = 0_usize;
        while freed < bytes {
            let count = bytes.saturating_sub(freed).div_ceil(bucket.size());
            let evicted = bucket.evict(count, age, reason, &self.budget);
            if evicted.count == 0 {
                break;
            }
            freed = freed.saturating_add(self.free(bucket, evicted));
        }
        freed
    }

    /// Frees all that is idle, and has every return ask for room anew; or as much of it as somebody who
    /// waits can use.
    pub(crate) fn empty(&self, reason: Reason) {
        for bucket in &self.buckets {
            while reason == Reason::Closed || self.budget.is_waited_for() {
                let evicted = bucket.empty(reason, &self.budget);
                if self.free(bucket, evicted) == 0 {
                    break;
                }
            }
        }
    }

    /// Frees what a bucket gave up, when its locks are gone, and says how many bytes those were.
    fn free(&self, bucket: &Bucket<Storage>, evicted: Evicted<Storage>) -> usize {
        let Evicted { items, count } = evicted;
        drop(items);
        self.budget.serve();
        count.saturating_mul(bucket.size())
    }
}

/// Says every so often that it is time, to one thread of all that ask.
#[derive(Debug)]
pub(crate) struct Interval {
    start: Instant,
    /// When it did so last, in nanoseconds since the start.
    last: AtomicU64,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }
}

impl Interval {
    pub(crate) fn is_over(&self, length: Duration) -> bool {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanoseconds(self.start.elapsed());
        let last = self.last.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        now.saturating_sub(last) >= nanoseconds(length)
            && (self.last.compare_exchange(last, now, order, order)).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::config::Config;

    fn pool(max_size: usize, max_bytes: usize) -> Pool {
        let max_bytes = Some(max_bytes);
        Pool::new(Config {
            min_size: 64,
            max_size,
            max_bytes,
            ..Config::DEFAULT
        })
        .unwrap()
    }

    #[test]
    fn a_request_that_cannot_be_served_frees_nothing() {
        let pool = pool(512, 1024);
        let held = [512, 64].map(|n| pool.acquire(n).unwrap());
        drop([256, 128].map(|n| pool.acquire(n).unwrap()));
        let before = pool.stats();
        assert_eq!((before.idle_bytes, before.outstanding_bytes), (384, 576));
        pool.acquire(512).unwrap_err();
        assert_eq!(pool.stats(), before);
        drop(held);
    }

    #[test]
    fn no_request_fails_because_another_thread_is_just_freeing() {
        const ALL: usize = 8 << 20;
        let pool = pool(ALL, ALL);
        for _ in 0..100 {
            pool.acquire(ALL).unwrap().fill(1);
            thread::scope(|scope| {
                let threads = [(); 2].map(|()| scope.spawn(|| pool.acquire(64).map(drop)));
                for thread in threads {
                    thread.join().unwrap().unwrap();
                }
            });
        }
    }
}
