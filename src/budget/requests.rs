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
    pub(super) pool: P,
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
