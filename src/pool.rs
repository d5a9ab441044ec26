//! The pool: acquire, give back, stats. `idle.rs` has what frees idle memory, `queue.rs` who waits for some.

use std::ops::Deref;

use crate::bucket::{Bucket, Refusal};
use crate::budget::Budget;
use crate::buffer::Buffer;
use crate::config::{Config, Zero};
use crate::error::Error;
use crate::evict::Interval;
use crate::size_class::SizeClasses;
use crate::stats::{Counter, Gauge, Reason, Stats, Transient};
use crate::storage::Storage;
use crate::sync::Arc;

/// The most bytes one object can have in Rust, and in Python.
const LARGEST_REQUEST: usize = isize::MAX.unsigned_abs();

/// A pool of byte buffers in size classes: powers of two, or finer.
///
/// Shared by reference or in an [`Arc`](std::sync::Arc): every method takes `&self`.
#[derive(Debug)]
pub struct Pool {
    pub(crate) config: Config,
    classes: SizeClasses,
    pub(crate) buckets: Vec<Bucket<Storage>>,
    pub(crate) budget: Budget,
    pub(crate) decay: Interval,
    transient: Transient,
    deferred: Counter,
    deferred_bytes: Gauge,
    /// What the configuration says of reused memory: it is prepared for its next user.
    prepares: bool,
    /// And of memory that comes home: it is wiped.
    wipes: bool,
}

impl Pool {
    /// Makes a pool.
    ///
    /// # Errors
    /// `min_size > max_size`, a `max_size` of 2^40 and up, `steps` that are not 1, 2 or 4, or no memory
    /// to keep track of `max_buffers` buffers a class.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let classes = config.classes();
        let mut buckets = Vec::new();
        let count = classes.capacities().count();
        buckets
            .try_reserve_exact(count)
            .map_err(|_| Error::OutOfMemory {
                requested: count.saturating_mul(size_of::<Bucket<Storage>>()),
            })?;
        for size in classes.capacities() {
            buckets.push(Bucket::new(size, config.max_buffers)?);
        }
        Ok(Self::with_buckets(config, buckets))
    }

    /// A pool that pools nothing: every request is allocated, every drop frees. It counts and refuses
    /// just what a pool does, so it can stand in for one when a memory bug is suspected.
    #[must_use]
    pub fn null() -> Self {
        Self::with_buckets(Config::NULL, Vec::new())
    }

    /// A null pool with the budget of the pool that it stands in for.
    #[cfg(feature = "python")]
    pub(crate) fn null_for(config: &Config) -> Self {
        let max_bytes = config.max_bytes;
        Self::with_buckets(
            Config {
                max_bytes,
                ..Config::NULL
            },
            Vec::new(),
        )
    }

    fn with_buckets(config: Config, buckets: Vec<Bucket<Storage>>) -> Self {
        Self {
            config,
            classes: config.classes(),
            buckets,
            budget: Budget::new(&config),
            decay: Interval::default(),
            transient: Transient::default(),
            deferred: Counter::default(),
            deferred_bytes: Gauge::default(),
            prepares: config.poison || config.zero == Zero::Allocate,
            wipes: config.poison || config.zero == Zero::Release,
        }
    }

    /// Lends a buffer of exactly `n` bytes: a pooled one where there is one, else a fresh one. A
    /// request above `max_size` is *transient*: served, counted, never pooled. 0 bytes are a request
    /// like any other.
    ///
    /// # Errors
    /// More bytes than the platform can address, or than the system has; a budget (`max_bytes`) that
    /// is used up, or waited for; a closed pool.
    #[inline]
    pub fn acquire(&self, n: usize) -> Result<Buffer<&Self>, Error> {
        Self::lend(self, n, Buffer::prepare)
    }

    /// The same, for a buffer that goes into a task, another thread, or a struct: it keeps the pool
    /// alive. That costs two atomic operations more, on a counter that all threads share.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_owned(pool: &Arc<Self>, n: usize) -> Result<Buffer<Arc<Self>>, Error> {
        Self::lend(Arc::clone(pool), n, Buffer::prepare)
    }

    /// How the pool was configured; sizes are zero for the null pool.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config
    }

    /// What the pool has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Self {
            buckets,
            transient,
            deferred,
            ..
        } = self;
        let (outstanding, peak_outstanding) = transient.outstanding.get();
        let (outstanding_bytes, peak_outstanding_bytes) = transient.outstanding_bytes.get();
        let mut stats = Stats {
            outstanding,
            outstanding_bytes,
            peak_outstanding,
            peak_outstanding_bytes,
            transient: transient.served.get(),
            transient_bytes: outstanding_bytes,
            waits: self.budget.waits(),
            dropped: transient.dropped.get(),
            deferred: deferred.get(),
            deferred_bytes: self.deferred_bytes.get().0,
            ..Stats::default()
        };
        for (bucket, dropped) in buckets.iter().map(Bucket::stats) {
            stats.add(bucket, dropped);
        }
        stats.peak_idle_bytes = stats
            .peak_idle_bytes
            .min(self.config.idle_bytes_kept() as u64);
        stats
    }
}

/// The way of a buffer.
impl Pool {
    /// Lends to whoever holds the pool by such a pointer. `prepare` is called if reused memory needs it.
    #[inline]
    pub(crate) fn lend<P: Deref<Target = Self>>(
        pool: P,
        n: usize,
        prepare: impl FnOnce(&mut Buffer<P>) -> Result<(), Error>,
    ) -> Result<Buffer<P>, Error> {
        let bucket = pool.bucket(n);
        let (storage, reused) = match bucket.and_then(Bucket::pop) {
            Some(storage) => (storage, true),
            None => pool.take_any(bucket, n)?,
        };
        Self::lend_storage(pool, n, storage, reused, prepare)
    }

    #[inline]
    pub(crate) fn lend_storage<P: Deref<Target = Self>>(
        pool: P,
        n: usize,
        storage: Storage,
        reused: bool,
        prepare: impl FnOnce(&mut Buffer<P>) -> Result<(), Error>,
    ) -> Result<Buffer<P>, Error> {
        if reused && pool.prepares {
            return prepared(Buffer::new(storage, n, pool), prepare);
        }
        Ok(Buffer::new(storage, n, pool))
    }

    /// The bucket that serves `n` bytes; `None` for a transient request.
    #[inline]
    pub(crate) fn bucket(&self, n: usize) -> Option<&Bucket<Storage>> {
        self.buckets.get(self.classes.class_of(n)?)
    }

    /// For when this thread's shelf has nothing. Says whether the memory was used before.
    #[cold]
    fn take_any(
        &self,
        bucket: Option<&Bucket<Storage>>,
        n: usize,
    ) -> Result<(Storage, bool), Error> {
        if self.budget.is_closed() {
            return Err(Error::Closed { requested: n });
        }
        let Some(bucket) = bucket else {
            check_transient(n)?;
            self.reserve(n)?;
            return Ok((self.transient(n)?, false));
        };
        bucket
            .pop_any()
            .map(|storage| (storage, true))
            .or_else(|miss| {
                let fresh = self.reserve(bucket.size());
                let fresh = fresh.and_then(|()| self.allocate(bucket.size(), n));
                let fresh = fresh.inspect_err(|_| bucket.undo(&miss));
                Ok((fresh?, false))
            })
    }

    /// Fresh memory, whose bytes are reserved, of which so many are wanted now. If the system has none
    /// left, idle memory makes way, provided that there is enough of it.
    pub(crate) fn allocate(&self, size: usize, used: usize) -> Result<Storage, Error> {
        let fresh = self.fresh(size, used).or_else(|error| {
            if self.idle_bytes() < size || self.evict_cold_first(size, Reason::Capped) == 0 {
                return Err(error);
            }
            self.fresh(size, used)
        });
        fresh.inspect_err(|_| self.budget.release(size))
    }

    fn fresh(&self, size: usize, used: usize) -> Result<Storage, Error> {
        if self.buckets.is_empty() {
            Storage::plain(size)
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

    #[inline]
    pub(crate) fn wipes(&self) -> bool {
        self.wipes
    }

    /// The end of a loan. `dropped`: nobody released it.
    #[inline]
    pub(crate) fn give_back(&self, storage: Storage, dropped: bool) {
        match self.bucket(storage.len()) {
            Some(bucket) => match bucket.push(storage, dropped) {
                Ok(false) => {}
                Ok(true) => self.decay_now_and_then(),
                Err(storage) => self.keep_any(bucket, storage, dropped),
            },
            None => self.free_transient(storage, dropped),
        }
    }

    /// A pool in use decays without being told to: what it no longer uses must not wait for a caller.
    #[cold]
    #[inline(never)]
    fn decay_now_and_then(&self) {
        self.decay();
    }

    /// For when this thread's shelf has no room.
    #[cold]
    #[inline(never)]
    fn keep_any(&self, bucket: &Bucket<Storage>, storage: Storage, dropped: bool) {
        let Err((storage, refusal)) = bucket.push_any(storage, dropped, &self.budget) else {
            return;
        };
        let storage = match refusal {
            Refusal::Full => storage,
            Refusal::NoRoom => match self.place(bucket, storage, dropped) {
                Some(storage) => storage,
                None => return,
            },
        };
        drop(storage);
        self.budget.release(bucket.size());
    }

    /// Somebody waits for it, or others make room for it, or it is handed out again, to be freed.
    fn place(&self, bucket: &Bucket<Storage>, storage: Storage, dropped: bool) -> Option<Storage> {
        let storage = match self.budget.hand_over(storage) {
            Ok(wake) => {
                bucket.count_return(dropped, None);
                if let Some(wake) = wake {
                    wake();
                }
                return None;
            }
            Err(storage) => storage,
        };
        let reason = if self.budget.is_closed() {
            Reason::Closed
        } else {
            Reason::Capped
        };
        if !self.make_room(bucket.size()) {
            bucket.count_return(dropped, Some(reason));
            return Some(storage);
        }
        match bucket.push_any(storage, dropped, &self.budget) {
            Ok(()) => None,
            Err((storage, Refusal::Full)) => Some(storage),
            Err((storage, Refusal::NoRoom)) => {
                // Another thread was faster.
                bucket.count_return(dropped, Some(reason));
                Some(storage)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn free_transient(&self, storage: Storage, dropped: bool) {
        let size = storage.len();
        drop(storage);
        self.transient.outstanding.sub(1);
        self.transient.outstanding_bytes.sub(size as u64);
        if dropped {
            self.transient.dropped.count();
        }
        self.budget.release(size);
    }

    #[cfg(feature = "python")]
    pub(crate) fn begin_deferral(&self, bytes: usize) {
        self.deferred.count();
        self.deferred_bytes.add(bytes as u64);
    }

    #[cfg(feature = "python")]
    pub(crate) fn end_deferral(&self, bytes: usize) {
        self.deferred_bytes.sub(bytes as u64);
    }
}

#[cold]
#[inline(never)]
fn prepared<P: Deref<Target = Pool>>(
    mut buffer: Buffer<P>,
    prepare: impl FnOnce(&mut Buffer<P>) -> Result<(), Error>,
) -> Result<Buffer<P>, Error> {
    prepare(&mut buffer)?;
    Ok(buffer)
}

fn check_transient(n: usize) -> Result<(), Error> {
    if n > LARGEST_REQUEST {
        return Err(Error::TooLarge {
            requested: n,
            limit: LARGEST_REQUEST,
        });
    }
    Ok(())
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pool(min_size: usize, max_size: usize, max_buffers: usize) -> Pool {
        Pool::new(Config {
            min_size,
            max_size,
            max_buffers,
            ..Config::DEFAULT
        })
        .unwrap()
    }

    #[test]
    fn a_buffer_is_as_long_as_asked_and_comes_back_warm() {
        let pool = pool(16, 64, 2);
        let mut first = pool.acquire(20).unwrap();
        assert_eq!(&first[..], [0; 20]);
        first.as_mut().fill(9);
        drop(first);
        let second = pool.acquire(30).unwrap();
        assert_eq!(second.as_ref(), [[9_u8; 20].as_slice(), &[0; 10]].concat());
        let stats = pool.stats();
        assert_eq!(stats.buckets.len(), 1);
        assert_eq!((stats.buckets[0].hits, stats.buckets[0].misses), (1, 1));
        assert_eq!(stats.buckets[0].outstanding(), 1);
        assert_eq!((stats.outstanding, stats.outstanding_bytes), (1, 32));
    }

    #[test]
    fn transient_requests_are_served_and_counted_and_never_kept() {
        let pool = pool(16, 64, 2);
        assert_eq!(pool.acquire(65).unwrap().len(), 65);
        let stats = pool.stats();
        assert_eq!((stats.transient, stats.idle_bytes), (1, 0));
        assert_eq!((stats.outstanding, stats.peak_outstanding_bytes), (0, 65));
        assert!(stats.buckets.is_empty());
    }

    #[test]
    fn the_null_pool_keeps_nothing() {
        let pool = Pool::null();
        for n in [0, 1, 5000] {
            assert_eq!(pool.acquire(n).unwrap().len(), n);
        }
        assert_eq!(pool.config(), Config::NULL);
        let stats = pool.stats();
        assert_eq!(
            (stats.transient, stats.outstanding, stats.peak_outstanding),
            (3, 0, 1)
        );
        assert_eq!((stats.idle_bytes, stats.buckets.len()), (0, 0));
    }

    #[test]
    fn nothing_asked_is_a_request_like_any_other() {
        let pool = pool(16, 64, 2);
        assert!(pool.acquire(0).unwrap().is_empty());
        assert_eq!(pool.stats().buckets[0].depth, 1);
    }

    #[test]
    fn impossible_requests_leave_the_pool_as_it_was() {
        for pool in [pool(16, 64, 2), Pool::null()] {
            let before = pool.stats();
            let too_large = pool.acquire(usize::MAX).unwrap_err();
            assert!(matches!(
                too_large,
                Error::TooLarge {
                    requested: usize::MAX,
                    ..
                }
            ));
            assert!(too_large.to_string().contains("18446744073709551615"));
            let requested = LARGEST_REQUEST;
            assert_eq!(
                pool.acquire(requested).unwrap_err(),
                Error::OutOfMemory { requested }
            );
            assert_eq!(pool.stats(), before);
            assert_eq!(pool.acquire(60).unwrap().len(), 60);
        }
    }

    #[test]
    fn closed_it_keeps_nothing_and_leaves_what_is_out() {
        let pool = pool(16, 64, 2);
        let mut out = pool.acquire(64).unwrap();
        drop(pool.acquire(64).unwrap());
        pool.close();
        assert_eq!(pool.stats().idle_bytes, 0);
        out.fill(1);
        assert_eq!(&out[..], [1; 64]);
        drop(out);
        let bucket = &pool.stats().buckets[0];
        assert_eq!((bucket.depth, bucket.closed), (0, 2));
        assert_eq!(
            pool.acquire(64).unwrap_err(),
            Error::Closed { requested: 64 }
        );
        assert_eq!(
            pool.acquire(65).unwrap_err(),
            Error::Closed { requested: 65 }
        );
    }

    #[test]
    fn an_owned_buffer_keeps_its_pool() {
        let pool = Arc::new(pool(16, 64, 2));
        let mut out = Pool::acquire_owned(&pool, 64).unwrap();
        drop(pool);
        out.fill(1);
        assert_eq!(&out[..], [1; 64]);
    }

    #[test]
    fn printing_a_buffer_does_not_show_its_contents() {
        let pool = Pool::null();
        let buffer = pool.acquire(3).unwrap();
        assert_eq!(format!("{buffer:?}"), "Buffer { len: 3, .. }");
    }

    #[test]
    fn one_thread_takes_and_another_returns_without_a_needless_allocation() {
        const UNDER_WAY: usize = 16;
        let pool = pool(16, 64, 2 * UNDER_WAY);
        std::thread::scope(|scope| {
            let (give, take) = std::sync::mpsc::sync_channel(UNDER_WAY);
            scope.spawn(move || take.iter().for_each(drop::<Buffer<&Pool>>));
            (0..50_000).for_each(|_| give.send(pool.acquire(64).unwrap()).unwrap());
        });
        let bucket = &pool.stats().buckets[0];
        // Those in the channel, and one in the hands of each thread.
        assert!(bucket.misses <= UNDER_WAY as u64 + 2, "{bucket:?}");
        assert_eq!((bucket.discarded, bucket.outstanding()), (0, 0));
    }

    #[test]
    fn counters_are_exact_under_threads() {
        let pool = pool(16, 1024, 3);
        std::thread::scope(|scope| {
            for stamp in 0..4_u8 {
                let pool = &pool;
                scope.spawn(move || {
                    for i in 0..5000_usize {
                        let mut buffer = pool.acquire(i % 1100).unwrap();
                        buffer.fill(stamp);
                        assert!(buffer.iter().all(|&byte| byte == stamp));
                    }
                });
            }
        });
        let stats = pool.stats();
        let served: u64 = stats.buckets.iter().map(|b| b.hits + b.misses).sum();
        assert_eq!(served + stats.transient, 20_000);
        assert_eq!((stats.outstanding, stats.outstanding_bytes), (0, 0));
        for bucket in &stats.buckets {
            assert!((1..=4).contains(&bucket.peak_outstanding), "{bucket:?}");
            assert_eq!(bucket.outstanding(), 0, "{bucket:?}");
            assert_eq!(
                bucket.returned - bucket.discarded - bucket.hits,
                bucket.depth as u64
            );
        }
    }
}
