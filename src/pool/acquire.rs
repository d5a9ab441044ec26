//! Lending: an idle buffer if there is one, otherwise fresh memory.

use std::ops::Deref;

use super::Pool;
use crate::bucket::Bucket;
use crate::buffer::{Buffer, Class, Lent, TRANSIENT};
use crate::error::Error;
use crate::stats::Reason;
use crate::storage::Storage;
use crate::sync::Arc;

/// The most bytes that one object can have in Rust, and in Python.
pub(super) const LARGEST_REQUEST: usize = isize::MAX.unsigned_abs();

/// How many size classes up a request may borrow a buffer, which is then at most twice as large as its own class.
/// So small requests do not take the large buffers.
const BORROW: usize = 2;

/// Whether memory is fresh from the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Fresh,
    Reused,
}

/// Memory for a request.
pub(crate) struct Taken {
    storage: Storage,
    class: Class,
    source: Source,
}

impl Taken {
    #[inline]
    pub(crate) fn reused(storage: Storage, class: Class) -> Self {
        let source = Source::Reused;
        Self {
            storage,
            class,
            source,
        }
    }

    pub(crate) fn fresh(storage: Storage, class: Class) -> Self {
        let source = Source::Fresh;
        Self {
            storage,
            class,
            source,
        }
    }
}

impl Pool {
    /// Lends a buffer of exactly `n` bytes: an idle one if there is one, otherwise a fresh one. A request above
    /// `max_size` is *transient*: served, counted, never pooled. `n` may be 0.
    ///
    /// ```
    /// # use bytepool::{Config, Pool};
    /// let pool = Pool::new(Config::default())?;
    /// let mut message = pool.acquire(100_000)?;
    /// message[..5].copy_from_slice(b"hello");
    /// assert_eq!(message.len(), 100_000);
    /// # Ok::<(), bytepool::Error>(())
    /// ```
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
    /// ```
    /// # use std::sync::Arc;
    /// # use bytepool::{Config, Pool};
    /// let pool = Arc::new(Pool::new(Config::default())?);
    /// let buffer = Pool::acquire_owned(&pool, 100_000)?;
    /// std::thread::spawn(move || drop(buffer)).join().unwrap();
    /// # Ok::<(), bytepool::Error>(())
    /// ```
    ///
    /// A pool that lives as long as the process costs nothing more. Make it static, and `acquire` returns
    /// buffers that move anywhere:
    ///
    /// ```
    /// # use bytepool::{Buffer, Config, Pool};
    /// let pool: &'static Pool = Box::leak(Box::new(Pool::new(Config::default())?));
    /// let buffer: Buffer<&'static Pool> = pool.acquire(100_000)?;
    /// std::thread::spawn(move || drop(buffer)).join().unwrap();
    /// # Ok::<(), bytepool::Error>(())
    /// ```
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
        let class = pool.class_of(n);
        let popped = pool.buckets.get(class).and_then(Bucket::pop);
        let taken = match popped {
            Some(storage) => Taken::reused(storage, class),
            None => pool.acquire_slow(class, n)?,
        };
        Ok(Self::lend_taken(pool, n, taken))
    }

    #[inline]
    pub(crate) fn lend_taken<P: Deref<Target = Self>>(pool: P, n: usize, taken: Taken) -> Lent<P> {
        let Taken {
            storage,
            class,
            source,
        } = taken;
        let buffer = Buffer::new(storage, class, n, pool);
        if source == Source::Reused && buffer.prepares() {
            return Lent::Unprepared(buffer);
        }
        Lent::Ready(buffer)
    }

    /// The size class that serves `n` bytes; `TRANSIENT` if none does.
    #[inline]
    pub(crate) fn class_of(&self, n: usize) -> Class {
        self.classes.class_of(n).unwrap_or(TRANSIENT)
    }

    /// Serves a request for which this thread's shard is empty.
    #[cold]
    fn acquire_slow(&self, class: Class, n: usize) -> Result<Taken, Error> {
        if self.budget.is_closed() {
            return Err(Error::Closed { requested: n });
        }
        let Some(bucket) = self.buckets.get(class) else {
            if n > LARGEST_REQUEST {
                return Err(Error::TooLarge {
                    requested: n,
                    limit: LARGEST_REQUEST,
                });
            }
            self.reserve(n)?;
            return self.transient(n);
        };
        if let Some(storage) = bucket.steal() {
            return Ok(Taken::reused(storage, class));
        }
        if bucket.may_borrow() {
            if let Some(borrowed) = self.borrow(class) {
                return Ok(borrowed);
            }
        }
        let miss = match bucket.pop_slow() {
            Ok(storage) => return Ok(Taken::reused(storage, class)),
            Err(miss) => miss,
        };
        let reserved = self.reserve(bucket.size());
        let fresh = reserved.and_then(|()| self.allocate(bucket.size(), n));
        let storage = fresh.inspect_err(|_| bucket.undo_miss(&miss))?;
        Ok(Taken::fresh(storage, class))
    }

    /// Takes an idle buffer of the next larger size class, or of the one after it if two are idle there. It stays a
    /// buffer of that class in every respect: a hit there, in use there, and returned there.
    fn borrow(&self, class: Class) -> Option<Taken> {
        (1..=BORROW).find_map(|distance| {
            let above = class.checked_add(distance)?;
            let bucket = self.buckets.get(above)?;
            if distance > 1 && bucket.depth() < 2 {
                return None;
            }
            let storage = bucket.steal()?;
            Some(Taken::reused(storage, above))
        })
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

    pub(crate) fn transient(&self, n: usize) -> Result<Taken, Error> {
        let storage = self.allocate(n, n)?;
        self.transient.served.count();
        self.transient.outstanding.add(1);
        self.transient.outstanding_bytes.add(n as u64);
        Ok(Taken::fresh(storage, TRANSIENT))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::thread;

    use crate::config::Config;
    use crate::pool::Pool;

    #[test]
    fn an_idle_buffer_of_the_size_class_is_taken_before_a_larger_one() {
        let pool = Pool::new(Config::DEFAULT).unwrap();
        let held = [(); 8].map(|()| [4096, 6144].map(|n| pool.acquire(n).unwrap()));
        for buffers in held {
            thread::scope(|scope| scope.spawn(move || drop(buffers)).join().unwrap());
        }
        let idle = pool.stats().buckets[0].depth;
        let _held: Vec<_> = (0..idle).map(|_| pool.acquire(4096).unwrap()).collect();
        let stats = pool.stats();
        assert_eq!(
            (stats.buckets[0].depth, stats.outstanding),
            (0, idle as u64)
        );
    }

    #[test]
    fn large_memory_is_mapped_for_a_pool_and_allocated_for_a_null_pool() {
        let is_mapped = |pool: &Pool| pool.fresh(1 << 20, 0).unwrap().is_mapped();
        assert!(is_mapped(&Pool::new(Config::DEFAULT).unwrap()));
        assert!(!is_mapped(&Pool::null()));
    }
}
