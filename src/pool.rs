//! The pool and its configuration: acquire, give back, stats.

use std::ops::Deref;

use crate::bucket::Bucket;
use crate::buffer::Buffer;
use crate::error::Error;
use crate::size_class::SizeClasses;
use crate::stats::{Counter, Stats, Transient};
use crate::sync::Arc;

/// A `max_size` of this many bytes is a mistake, not a wish.
const MAX_SIZE_LIMIT: u64 = 1 << 40;

/// The most bytes one object can have in Rust, and in Python.
const LARGEST_REQUEST: usize = isize::MAX.unsigned_abs();

/// How a [`Pool`] is laid out. At rest it holds at most `max_buffers` buffers of every size class:
/// `2 * max_size * max_buffers` bytes if `max_size` is a power of two, else up to half as much again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The smallest size class in bytes, rounded up to a power of two. Smaller requests get one of these.
    pub min_size: usize,
    /// The largest size that is pooled, in bytes. Larger requests are served and never kept.
    pub max_size: usize,
    /// How many idle buffers a size class keeps; 0 keeps none.
    pub max_buffers: usize,
}

impl Config {
    /// What [`Config::default`] returns: a page to 16 MiB, 16 buffers a class.
    pub const DEFAULT: Self = Self {
        min_size: 4 << 10,
        max_size: 16 << 20,
        max_buffers: 16,
    };

    /// What a null pool reports: everything is above its `max_size`.
    pub(crate) const NULL: Self = Self {
        min_size: 0,
        max_size: 0,
        max_buffers: 0,
    };

    fn check(&self) -> Result<(), Error> {
        let Self {
            min_size, max_size, ..
        } = *self;
        if max_size as u64 >= MAX_SIZE_LIMIT {
            return Err(Error::MaxSizeTooLarge {
                max_size,
                limit: MAX_SIZE_LIMIT,
            });
        }
        if min_size > max_size {
            return Err(Error::MinSizeAboveMaxSize { min_size, max_size });
        }
        Ok(())
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A pool of byte buffers in power-of-two size classes.
///
/// Shared by reference or in an [`Arc`](std::sync::Arc): every method takes `&self`.
#[derive(Debug)]
pub struct Pool {
    config: Config,
    classes: SizeClasses,
    buckets: Vec<Bucket<Box<[u8]>>>,
    transient: Transient,
    deferred: Counter,
}

impl Pool {
    /// Makes a pool.
    ///
    /// # Errors
    /// `min_size > max_size`, a `max_size` of 2^40 and up, or no memory to keep track of
    /// `max_buffers` buffers a class.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        Self::build(config)
    }

    /// A pool that pools nothing: every request is allocated, every drop frees. It counts and refuses
    /// just what a pool does, so it can stand in for one when a memory bug is suspected.
    #[must_use]
    pub fn null() -> Self {
        Self::with_buckets(Config::NULL, Vec::new())
    }

    fn build(config: Config) -> Result<Self, Error> {
        let classes = SizeClasses::new(config.min_size, config.max_size);
        let mut buckets = Vec::new();
        let count = classes.capacities().count();
        buckets
            .try_reserve_exact(count)
            .map_err(|_| Error::OutOfMemory {
                requested: count.saturating_mul(size_of::<Bucket<Box<[u8]>>>()),
            })?;
        for size in classes.capacities() {
            buckets.push(Bucket::new(size, config.max_buffers)?);
        }
        Ok(Self::with_buckets(config, buckets))
    }

    fn with_buckets(config: Config, buckets: Vec<Bucket<Box<[u8]>>>) -> Self {
        Self {
            config,
            classes: SizeClasses::new(config.min_size, config.max_size),
            buckets,
            transient: Transient::default(),
            deferred: Counter::default(),
        }
    }

    /// Lends a buffer of exactly `n` bytes: a pooled one where there is one, else a fresh one. A
    /// request above `max_size` is *transient*: served, counted, never pooled. 0 bytes are a request
    /// like any other.
    ///
    /// # Errors
    /// More bytes than the platform can address, or than the system has.
    #[inline]
    pub fn acquire(&self, n: usize) -> Result<Buffer<&Self>, Error> {
        Self::lend(self, n)
    }

    /// The same, for a buffer that goes into a task, another thread, or a struct: it keeps the pool
    /// alive. That costs two atomic operations more, on a counter that all threads share.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    #[inline]
    pub fn acquire_owned(pool: &Arc<Self>, n: usize) -> Result<Buffer<Arc<Self>>, Error> {
        Self::lend(Arc::clone(pool), n)
    }

    /// Lends to whoever holds the pool by such a pointer.
    #[inline]
    pub(crate) fn lend<P: Deref<Target = Self>>(pool: P, n: usize) -> Result<Buffer<P>, Error> {
        let bucket = pool.bucket(n);
        let storage = match bucket.and_then(Bucket::pop) {
            Some(storage) => storage,
            None => pool.take_any(bucket, n)?,
        };
        Ok(Buffer::new(storage, n, pool))
    }

    /// Frees what is idle, and from now on keeps nothing. Buffers that are out stay valid.
    pub fn close(&self) {
        for bucket in &self.buckets {
            bucket.close().for_each(drop);
        }
    }

    /// How the pool was configured; all zero for the null pool.
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
            dropped: transient.dropped.get(),
            deferred: deferred.get(),
            ..Stats::default()
        };
        for (bucket, dropped) in buckets.iter().map(Bucket::stats) {
            stats.add(bucket, dropped);
        }
        stats
    }
}

/// The way of a buffer.
impl Pool {
    /// The bucket that serves `n` bytes; `None` for a transient request.
    #[inline]
    fn bucket(&self, n: usize) -> Option<&Bucket<Box<[u8]>>> {
        self.buckets.get(self.classes.class_of(n)?)
    }

    /// For when this thread's shelf has nothing.
    #[cold]
    fn take_any(&self, bucket: Option<&Bucket<Box<[u8]>>>, n: usize) -> Result<Box<[u8]>, Error> {
        if let Some(bucket) = bucket {
            return bucket
                .pop_any()
                .or_else(|miss| allocate(bucket.size()).inspect_err(|_| bucket.undo(&miss)));
        }
        if n > LARGEST_REQUEST {
            return Err(Error::TooLarge {
                requested: n,
                limit: LARGEST_REQUEST,
            });
        }
        let storage = allocate(n)?;
        self.transient.served.count();
        self.transient.outstanding.add(1);
        self.transient.outstanding_bytes.add(n as u64);
        Ok(storage)
    }

    /// The end of a loan. `dropped`: nobody released it.
    #[inline]
    pub(crate) fn give_back(&self, storage: Box<[u8]>, dropped: bool) {
        match self.bucket(storage.len()) {
            // What the bucket hands back is freed here, when its locks are gone.
            Some(bucket) => drop(bucket.push(storage, dropped)),
            None => self.count_transient_return(storage.len(), dropped),
        }
    }

    #[cold]
    fn count_transient_return(&self, size: usize, dropped: bool) {
        self.transient.outstanding.sub(1);
        self.transient.outstanding_bytes.sub(size as u64);
        if dropped {
            self.transient.dropped.count();
        }
    }

    #[cfg(feature = "python")]
    pub(crate) fn count_deferred(&self) {
        self.deferred.count();
    }
}

/// Zeroed by the system where it can be (large blocks are fresh pages), and an error where `vec!`
/// would abort the process.
fn allocate(size: usize) -> Result<Box<[u8]>, Error> {
    bytemuck::allocation::try_zeroed_slice_box(size)
        .map_err(|()| Error::OutOfMemory { requested: size })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn pool(min_size: usize, max_size: usize, max_buffers: usize) -> Pool {
        Pool::new(Config {
            min_size,
            max_size,
            max_buffers,
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
    fn configurations_that_make_no_sense_are_refused() {
        let config = |min_size, max_size| Config {
            min_size,
            max_size,
            ..Config::DEFAULT
        };
        assert_eq!(
            Pool::new(config(65, 64)).unwrap_err(),
            Error::MinSizeAboveMaxSize {
                min_size: 65,
                max_size: 64
            }
        );
        let (max_size, limit) = (1 << 40, MAX_SIZE_LIMIT);
        assert_eq!(
            Pool::new(config(1, 1 << 40)).unwrap_err(),
            Error::MaxSizeTooLarge { max_size, limit }
        );
        assert!(Pool::new(config(1, (1 << 40) - 1)).is_ok());
        assert!(Pool::new(config(64, 64)).is_ok());
        assert!(
            Pool::new(Config {
                max_buffers: usize::MAX,
                ..Config::DEFAULT
            })
            .is_err()
        );
    }

    #[test]
    fn the_defaults_are_a_page_to_sixteen_mebibytes() {
        let config = Pool::new(Config::default()).unwrap().config();
        assert_eq!(
            (config.min_size, config.max_size, config.max_buffers),
            (4096, 16_777_216, 16)
        );
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
        assert_eq!((bucket.depth, bucket.discarded), (0, 1));
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
