//! Lending: an idle buffer if there is one, otherwise fresh memory.

use std::ops::Deref;

use super::Pool;
use crate::bucket::Bucket;
use crate::buffer::{Buffer, Lent};
use crate::error::Error;
use crate::stats::Reason;
use crate::storage::Storage;
use crate::sync::Arc;

/// The most bytes that one object can have in Rust, and in Python.
pub(super) const LARGEST_REQUEST: usize = isize::MAX.unsigned_abs();

/// Whether memory is fresh from the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Fresh,
    Reused,
}

impl Pool {
    /// Lends a buffer of exactly `n` bytes: an idle one if there is one, otherwise a fresh one. A request above
    /// `max_size` is *transient*: served, counted, never pooled. `n` may be 0.
    ///
    /// # Errors
    /// `n` is more than the platform can address or the system has; the budget (`max_bytes`) is used up or
    /// has waiters; the pool is closed.
    #[inline]
    pub fn acquire(&self, n: usize) -> Result<Buffer<&Self>, Error> {
        Self::lend(self, n)?.prepared()
    }

    /// Like [`acquire`](Self::acquire), for a buffer that moves into a task, another thread, or a struct: it
    /// keeps the pool alive. This costs two more atomic operations, on a counter that all threads share.
    ///
    /// # Errors
    /// Those of [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_owned(pool: &Arc<Self>, n: usize) -> Result<Buffer<Arc<Self>>, Error> {
        Self::lend(Arc::clone(pool), n)?.prepared()
    }
}

impl Pool {
    #[inline]
    pub(crate) fn lend<P: Deref<Target = Self>>(pool: P, n: usize) -> Result<Lent<P>, Error> {
        let bucket = pool.bucket(n);
        let (storage, source) = match bucket.and_then(Bucket::pop) {
            Some(storage) => (storage, Source::Reused),
            None => pool.acquire_slow(bucket, n)?,
        };
        Ok(Self::lend_storage(pool, n, storage, source))
    }

    #[inline]
    pub(crate) fn lend_storage<P: Deref<Target = Self>>(
        pool: P,
        n: usize,
        storage: Storage,
        source: Source,
    ) -> Lent<P> {
        if source == Source::Reused && pool.prepares {
            return Lent::Unprepared(Buffer::new(storage, n, pool));
        }
        Lent::Ready(Buffer::new(storage, n, pool))
    }

    /// The bucket that serves `n` bytes; `None` for a transient request.
    #[inline]
    pub(crate) fn bucket(&self, n: usize) -> Option<&Bucket<Storage>> {
        self.buckets.get(self.classes.class_of(n)?)
    }

    /// Serves a request for which this thread's shard is empty.
    #[cold]
    fn acquire_slow(
        &self,
        bucket: Option<&Bucket<Storage>>,
        n: usize,
    ) -> Result<(Storage, Source), Error> {
        if self.budget.is_closed() {
            return Err(Error::Closed { requested: n });
        }
        let Some(bucket) = bucket else {
            if n > LARGEST_REQUEST {
                return Err(Error::TooLarge {
                    requested: n,
                    limit: LARGEST_REQUEST,
                });
            }
            self.reserve(n)?;
            return Ok((self.transient(n)?, Source::Fresh));
        };
        let miss = match bucket.pop_slow() {
            Ok(storage) => return Ok((storage, Source::Reused)),
            Err(miss) => miss,
        };
        let reserved = self.reserve(bucket.size());
        let fresh = reserved.and_then(|()| self.allocate(bucket.size(), n));
        let fresh = fresh.inspect_err(|_| bucket.undo_miss(&miss))?;
        Ok((fresh, Source::Fresh))
    }

    /// Allocates fresh memory, of which `used` bytes are requested now. Its bytes are reserved in the budget
    /// already. If the system has none left this frees idle memory, provided that there is enough of it.
    pub(crate) fn allocate(&self, size: usize, used: usize) -> Result<Storage, Error> {
        let fresh = self.fresh(size, used).or_else(|error| {
            if self.idle_bytes() < size || self.evict_unused_first(size, Reason::Capped) == 0 {
                return Err(error);
            }
            self.fresh(size, used)
        });
        fresh.inspect_err(|_| self.budget.release(size))
    }

    fn fresh(&self, size: usize, used: usize) -> Result<Storage, Error> {
        if self.buckets.is_empty() {
            Storage::heap(size)
        } else {
            Storage::new(size, used)
        }
    }

    pub(crate) fn transient(&self, n: usize) -> Result<Storage, Error> {
        let storage = self.allocate(n, n)?;
        self.transient.served.count();
        self.transient.outstanding.add(1);
        self.transient.outstanding_bytes.add(n as u64);
        Ok(storage)
    }
}
