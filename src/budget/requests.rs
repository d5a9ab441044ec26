//! The methods of [`Pool`] that use the budget: a request reserves bytes, waits for them, or takes its grant.

use std::ops::Deref;
use std::time::{Duration, Instant};

use super::{Grant, Waiter, Wake};
use crate::bucket::Bucket;
use crate::buffer::{Buffer, Lent};
use crate::error::Error;
use crate::pool::Pool;
use crate::pool::acquire::Taken;
use crate::stats::Reason;
use crate::sync::{Parker, Wakeup};

impl Pool {
    /// Like [`acquire`](Self::acquire), but if the budget is used up it waits until the bytes are free or
    /// `timeout` has passed. First come, first served: small requests do not starve a large one.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use bytepool::{Config, Error, Pool};
    /// let pool = Pool::new(Config { max_bytes: Some(1 << 20), ..Config::default() })?;
    /// let all = pool.acquire(1 << 20)?;
    /// let refused = pool.acquire_timeout(1, Duration::from_millis(1));
    /// assert!(matches!(refused, Err(Error::Exhausted { .. })));
    /// # drop(all);
    /// # Ok::<(), bytepool::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire). A request above the whole budget is an error immediately.
    pub fn acquire_timeout(&self, n: usize, timeout: Duration) -> Result<Buffer<&Self>, Error> {
        match self.acquire(n) {
            Err(Error::Exhausted { .. }) => {}
            other => return other,
        }
        let deadline = Instant::now().checked_add(timeout);
        let parker = Parker::default();
        let guard = WaiterGuard::enqueue(self, n, Wake::new(parker.waker())?)?;
        loop {
            let wakeup = parker.park(deadline);
            if let Some(lent) = Self::lend_to_waiter(self, n, &guard.waiter) {
                return lent?.prepared();
            }
            if wakeup == Wakeup::TooLate {
                guard.leave();
                return Err(self.exhausted(n));
            }
        }
    }

    /// Reserves bytes of the budget. If too few are free it frees idle memory, provided that this suffices.
    pub(crate) fn reserve(&self, bytes: usize) -> Result<(), Error> {
        loop {
            let reserved = self.budget.reserve(bytes);
            let Err(Error::Exhausted {
                used,
                max_bytes,
                waiters: 0,
                ..
            }) = reserved
            else {
                return reserved;
            };
            let missing = bytes.saturating_sub(max_bytes.saturating_sub(used));
            if self.idle_bytes() < missing || self.evict_unused_first(missing, Reason::Capped) == 0
            {
                // Another thread may have freed, meanwhile, the idle memory that this thread no longer found.
                return self.budget.reserve(bytes);
            }
        }
    }

    /// In a forked child: forgets the waiters of the parent, and all buffers in use.
    #[cfg(feature = "python")]
    pub(crate) fn settle_after_fork(&self) {
        self.budget.settle_after_fork(self.idle_bytes());
    }

    /// The cost of a request for `n` bytes: the bytes of the budget that it takes.
    fn cost(&self, n: usize) -> usize {
        let bucket = self.buckets.get(self.class_of(n));
        bucket.map_or(n, Bucket::size)
    }

    /// The error for a request of `n` bytes that does not fit in the budget.
    pub(crate) fn exhausted(&self, n: usize) -> Error {
        self.budget.exhausted(self.cost(n))
    }

    fn enqueue(&self, n: usize, wake: Wake) -> Result<Waiter, Error> {
        let waiter = self.budget.enqueue(self.cost(n), wake)?;
        // The budget grants no quota from here on, so drained buckets stay empty.
        self.drain(Reason::Capped);
        self.budget.grant_waiters();
        Ok(waiter)
    }

    /// Lends the waiter's grant. `None`: it has none yet.
    pub(crate) fn lend_to_waiter<P: Deref<Target = Self>>(
        pool: P,
        n: usize,
        waiter: &Waiter,
    ) -> Option<Result<Lent<P>, Error>> {
        let taken = match pool.budget.take(waiter)? {
            Ok(Grant::Returned(storage)) => Ok(Taken::reused(storage, pool.class_of(n))),
            Ok(Grant::Reserved) => pool.take_reserved(n),
            Err(error) => Err(error),
        };
        Some(taken.map(|taken| Self::lend_taken(pool, n, taken)))
    }

    /// Memory for bytes that are reserved in the budget already.
    fn take_reserved(&self, n: usize) -> Result<Taken, Error> {
        let class = self.class_of(n);
        let Some(bucket) = self.buckets.get(class) else {
            return self.transient(n);
        };
        match bucket.pop_slow() {
            Ok(storage) => {
                self.budget.release(bucket.size());
                Ok(Taken::reused(storage, class))
            }
            Err(miss) => {
                let fresh = self.allocate(bucket.size(), n);
                let storage = fresh.inspect_err(|_| bucket.undo_miss(&miss))?;
                Ok(Taken::fresh(storage, class))
            }
        }
    }
}

/// A queued request. Dropping the guard removes the request from the queue.
#[derive(Debug)]
pub(crate) struct WaiterGuard<P: Deref<Target = Pool>> {
    pool: P,
    pub(crate) waiter: Waiter,
}

impl<P: Deref<Target = Pool>> WaiterGuard<P> {
    /// Queues a request for `n` bytes. `wake` is called once, without any lock held, by the thread that grants
    /// the request or closes the pool.
    pub(crate) fn enqueue(pool: P, n: usize, wake: Wake) -> Result<Self, Error> {
        let waiter = pool.enqueue(n, wake)?;
        Ok(Self { pool, waiter })
    }

    #[cfg(feature = "python")]
    pub(crate) fn is_waiting(&self) -> bool {
        self.pool.budget.is_waiting(&self.waiter)
    }

    /// Leaves the queue. A grant that was not taken passes to the next waiter.
    pub(crate) fn leave(&self) {
        if let Some(storage) = self.pool.budget.leave(&self.waiter) {
            let class = self.pool.class_of(storage.len());
            drop(Buffer::new(storage, class, 0, &*self.pool));
        }
    }
}

impl<P: Deref<Target = Pool>> Drop for WaiterGuard<P> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use super::*;
    use crate::config::Config;
    use crate::sync::{Arc, Mutex};

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

    fn wait(pool: &Pool, n: usize) -> WaiterGuard<&Pool> {
        WaiterGuard::enqueue(pool, n, Wake::new(|| {}).unwrap()).unwrap()
    }

    fn is_granted(guard: &WaiterGuard<&Pool>, n: usize) -> bool {
        Pool::lend_to_waiter(guard.pool, n, &guard.waiter).is_some_and(|lent| lent.is_ok())
    }

    /// Queues three requests of 512 bytes. When they are woken, their numbers are noted.
    fn three_waiters(pool: &Pool) -> ([WaiterGuard<&Pool>; 3], Arc<Mutex<Vec<u8>>>) {
        let woken = Arc::new(Mutex::new(Vec::new()));
        let guards = [0, 1, 2].map(|number| {
            let woken = Arc::clone(&woken);
            let wake = Wake::new(move || woken.lock().push(number));
            WaiterGuard::enqueue(pool, 512, wake.unwrap()).unwrap()
        });
        (guards, woken)
    }

    #[test]
    fn freed_memory_wakes_as_many_waiters_as_it_suffices_for_oldest_first() {
        let pool = pool(256, 1024);
        let held = pool.acquire(1024).unwrap();
        let ([first, second, third], woken) = three_waiters(&pool);
        drop(held);
        assert_eq!(*woken.lock(), [0, 1]);
        assert!(is_granted(&first, 512));
        assert_eq!(*woken.lock(), [0, 1, 2]);
        assert!(is_granted(&second, 512) && is_granted(&third, 512));
    }

    #[test]
    fn closing_the_pool_wakes_all_waiters() {
        let pool = pool(256, 1024);
        let _held = pool.acquire(1024).unwrap();
        let (guards, woken) = three_waiters(&pool);
        pool.close();
        assert_eq!(*woken.lock(), [0, 1, 2]);
        for guard in guards {
            let lent = Pool::lend_to_waiter(&pool, 512, &guard.waiter).unwrap();
            assert!(matches!(lent, Err(Error::Closed { requested: 512 })));
        }
    }

    #[test]
    fn a_waiter_that_leaves_passes_its_grant_to_the_next() {
        // With 512, requests of 1024 are transient, so bytes are granted instead of a returned buffer.
        for max_size in [1024, 512] {
            let pool = pool(max_size, 1024);
            let held = pool.acquire(1024).unwrap();
            let (first, second) = (wait(&pool, 1024), wait(&pool, 1024));
            drop(held);
            assert!(!is_granted(&second, 1024));
            first.leave();
            assert!(is_granted(&second, 1024), "{max_size}");
        }
    }

    #[test]
    fn a_returned_buffer_is_handed_to_the_waiter_that_needs_its_size() {
        let pool = pool(1024, 1024);
        let held = pool.acquire(1024).unwrap();
        let guard = wait(&pool, 1024);
        drop(held);
        assert!(is_granted(&guard, 1024));
        let stats = pool.stats();
        assert_eq!((stats.buckets[0].hits, stats.buckets[0].misses), (1, 1));
    }

    #[test]
    fn a_waiter_that_leaves_makes_way_for_a_smaller_request() {
        let pool = pool(1024, 1024);
        let held = pool.acquire(512).unwrap();
        let (large, small) = (wait(&pool, 1024), wait(&pool, 512));
        assert!(!is_granted(&small, 512));
        assert!(matches!(pool.acquire(512), Err(Error::Exhausted { .. }))); // it must not overtake
        large.leave();
        assert!(is_granted(&small, 512));
        drop(held);
    }

    #[test]
    fn no_request_fails_because_another_thread_is_freeing_memory() {
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

    #[test]
    fn buffers_returned_while_the_pool_is_drained_stay_within_the_idle_limit() {
        const KEPT: usize = 1024;
        let pool = Arc::new(
            Pool::new(Config {
                min_size: 16,
                max_size: KEPT,
                max_buffers: 100,
                max_idle_bytes: Some(KEPT),
                max_bytes: Some(4 * KEPT),
                ..Config::DEFAULT
            })
            .unwrap(),
        );
        let acquire = |n| Pool::acquire_owned(&pool, n).unwrap();
        let small: Vec<_> = (0..KEPT / 16).map(|_| acquire(16)).collect();
        let large: Vec<_> = (0..6).map(|_| acquire(KEPT / 2)).collect();
        drop(small);
        assert_eq!(pool.stats().idle_bytes, KEPT as u64);
        let same = Arc::clone(&pool);
        let wake = Wake::new(move || {
            drop(large);
            assert!(same.stats().idle_bytes <= KEPT as u64, "{:?}", same.stats());
        });
        let guard = WaiterGuard::enqueue(&*pool, 64, wake.unwrap()).unwrap();
        let lent = Pool::lend_to_waiter(&*pool, 64, &guard.waiter);
        assert_eq!(lent.unwrap().unwrap().prepared().unwrap().len(), 64);
        assert!(pool.stats().idle_bytes <= KEPT as u64, "{:?}", pool.stats());
    }
}
