//! Who waits for bytes of the budget, seen from the pool: lining up, being served, leaving.

use std::ops::Deref;
use std::time::{Duration, Instant};

use crate::bucket::Bucket;
use crate::budget::{Turn, Wake};
use crate::buffer::Buffer;
use crate::error::Error;
use crate::pool::Pool;
use crate::stats::Reason;
use crate::storage::Storage;
use crate::sync::{Arc, Parker};

impl Pool {
    /// The same, and waits if the budget is used up, until the bytes are there or the time is over.
    /// First come, first served: a large request is not starved by small ones.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); at once for more bytes than the budget can ever hold.
    pub fn acquire_timeout(&self, n: usize, timeout: Duration) -> Result<Buffer<&Self>, Error> {
        match self.acquire(n) {
            Err(Error::Exhausted { .. }) => {}
            other => return other,
        }
        let deadline = Instant::now().checked_add(timeout);
        let parker = Parker::default();
        let place = Place::join(self, n, parker.waker())?;
        loop {
            let in_time = parker.park(deadline);
            if let Some(result) = Self::lend_turn(self, n, &place.turn, Buffer::prepare) {
                return result;
            }
            if !in_time {
                place.leave();
                return Err(self.exhausted(n));
            }
        }
    }

    /// What a request for `n` bytes takes of the budget.
    fn cost(&self, n: usize) -> usize {
        self.bucket(n).map_or(n, Bucket::size)
    }

    /// Why `n` bytes are not to be had now, or ever.
    pub(crate) fn exhausted(&self, n: usize) -> Error {
        self.budget.exhausted(self.cost(n))
    }

    fn join_queue(&self, n: usize, wake: Wake) -> Result<Arc<Turn>, Error> {
        let turn = self.budget.join(self.cost(n), wake)?;
        // From here on no bucket gets room, so when all are empty nothing lies idle any more.
        self.empty(Reason::Capped);
        self.budget.serve();
        Ok(turn)
    }

    /// What the turn has brought; `None` as long as it waits.
    pub(crate) fn lend_turn<P: Deref<Target = Self>>(
        pool: P,
        n: usize,
        turn: &Turn,
        prepare: impl FnOnce(&mut Buffer<P>) -> Result<(), Error>,
    ) -> Option<Result<Buffer<P>, Error>> {
        let taken = match pool.budget.take(turn)? {
            Ok(Some(storage)) => Ok((storage, true)),
            Ok(None) => pool.take_promised(n),
            Err(error) => Err(error),
        };
        Some(
            taken.and_then(|(storage, reused)| {
                Self::lend_storage(pool, n, storage, reused, prepare)
            }),
        )
    }

    /// Memory for bytes that are reserved already.
    fn take_promised(&self, n: usize) -> Result<(Storage, bool), Error> {
        let Some(bucket) = self.bucket(n) else {
            return Ok((self.transient(n)?, false));
        };
        match bucket.pop_any() {
            Ok(storage) => {
                self.budget.release(bucket.size());
                Ok((storage, true))
            }
            Err(miss) => {
                let fresh = self.allocate(bucket.size(), n);
                Ok((fresh.inspect_err(|_| bucket.undo(&miss))?, false))
            }
        }
    }
}

/// A place in the queue, which is left when this is dropped.
#[derive(Debug)]
pub(crate) struct Place<P: Deref<Target = Pool>> {
    pool: P,
    pub(crate) turn: Arc<Turn>,
}

impl<P: Deref<Target = Pool>> Place<P> {
    /// Lines up for a buffer of `n` bytes. `wake` is called once it is there, or the pool is closed,
    /// by the thread that made it so and without any lock.
    pub(crate) fn join(pool: P, n: usize, wake: Wake) -> Result<Self, Error> {
        let turn = pool.join_queue(n, wake)?;
        Ok(Self { pool, turn })
    }

    /// Leaves the queue. What the turn has brought meanwhile goes home.
    pub(crate) fn leave(&self) {
        if let Some(storage) = self.pool.budget.leave(&self.turn) {
            drop(Buffer::new(storage, 0, &*self.pool));
        }
    }
}

impl<P: Deref<Target = Pool>> Drop for Place<P> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_comes_home_while_the_pool_is_emptied_does_not_exceed_what_it_keeps() {
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
        let wake = Box::new(move || {
            drop(large);
            assert!(same.stats().idle_bytes <= KEPT as u64, "{:?}", same.stats());
        });
        let place = Place::join(&*pool, 64, wake).unwrap();
        let taken = Pool::lend_turn(&*pool, 64, &place.turn, Buffer::prepare);
        assert_eq!(taken.unwrap().unwrap().len(), 64);
        assert!(pool.stats().idle_bytes <= KEPT as u64, "{:?}", pool.stats());
    }
}
