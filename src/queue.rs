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
        let turn = self.join_queue(n, parker.waker())?;
        loop {
            let in_time = parker.park(deadline);
            if let Some(result) = Self::lend_turn(self, n, &turn, Buffer::zero) {
                return result;
            }
            if !in_time {
                self.leave_queue(&turn);
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

    /// Lines up for a buffer of `n` bytes. `wake` is called once it is there, or the pool is closed,
    /// by the thread that made it so and without any lock.
    pub(crate) fn join_queue(&self, n: usize, wake: Wake) -> Result<Arc<Turn>, Error> {
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
        zero: impl FnOnce(&mut Buffer<P>),
    ) -> Option<Result<Buffer<P>, Error>> {
        let taken = match pool.budget.take(turn)? {
            Ok(Some(storage)) => Ok((storage, true)),
            Ok(None) => pool.take_promised(n),
            Err(error) => Err(error),
        };
        Some(taken.map(|(storage, reused)| Self::lend_storage(pool, n, storage, reused, zero)))
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

    /// Leaves the queue. What the turn has brought meanwhile goes home.
    pub(crate) fn leave_queue(&self, turn: &Arc<Turn>) {
        if let Some(storage) = self.budget.leave(turn) {
            drop(Buffer::new(storage, 0, self));
        }
    }
}
