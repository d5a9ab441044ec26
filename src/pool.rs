//! The pool and its configuration: acquire, give back, stats.

use crate::bucket::Bucket;
use crate::buffer::Buffer;
use crate::error::Error;
use crate::size_class::SizeClasses;
use crate::stats::{Counters, Stats};
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
/// Shared by reference or in an `Arc`: every method takes `&self`. Dropping the pool frees what is
/// idle; buffers that are still out stay valid and are freed when they are dropped.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    classes: SizeClasses,
    buckets: Vec<Bucket>,
    counters: Counters,
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
                requested: count.saturating_mul(size_of::<Bucket>()),
            })?;
        for size in classes.capacities() {
            buckets.push(Bucket::new(size, config.max_buffers)?);
        }
        Ok(Self::with_buckets(config, buckets))
    }

    fn with_buckets(config: Config, buckets: Vec<Bucket>) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                classes: SizeClasses::new(config.min_size, config.max_size),
                buckets,
                counters: Counters::default(),
            }),
        }
    }

    /// Lends a buffer of exactly `n` bytes: a pooled one where there is one, else a fresh one. A
    /// request above `max_size` is *transient*: served, counted, never pooled. 0 bytes are a request
    /// like any other.
    ///
    /// # Errors
    /// More bytes than the platform can address, or than the system has.
    pub fn acquire(&self, n: usize) -> Result<Buffer, Error> {
        if n > LARGEST_REQUEST {
            return Err(Error::TooLarge {
                requested: n,
                limit: LARGEST_REQUEST,
            });
        }
        let home = Home {
            shared: Arc::clone(&self.shared),
            class: self.shared.classes.class_of(n),
        };
        let storage = match home.bucket() {
            Some(bucket) => match bucket.pop() {
                Some(storage) => storage,
                None => {
                    let storage = allocate(bucket.size())?;
                    bucket.count_miss();
                    storage
                }
            },
            None => {
                let storage = allocate(n)?;
                self.shared.counters.transient.count();
                storage
            }
        };
        let counters = &self.shared.counters;
        counters.outstanding.add(1);
        counters.outstanding_bytes.add(storage.len() as u64);
        Ok(Buffer::new(storage, n, home))
    }

    /// How the pool was configured; all zero for the null pool.
    #[must_use]
    pub fn config(&self) -> Config {
        self.shared.config
    }

    /// What the pool has done so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Shared {
            buckets, counters, ..
        } = &*self.shared;
        let (outstanding, peak_outstanding) = counters.outstanding.get();
        let (outstanding_bytes, peak_outstanding_bytes) = counters.outstanding_bytes.get();
        let mut stats = Stats {
            outstanding,
            outstanding_bytes,
            peak_outstanding,
            peak_outstanding_bytes,
            transient: counters.transient.get(),
            dropped: counters.transient_dropped.get(),
            deferred: counters.deferred.get(),
            ..Stats::default()
        };
        for (bucket, dropped) in buckets.iter().map(Bucket::stats) {
            let idle = (bucket.size as u64).saturating_mul(bucket.depth as u64);
            stats.idle_bytes = stats.idle_bytes.saturating_add(idle);
            stats.dropped = stats.dropped.saturating_add(dropped);
            // The first request of a bucket is a miss, and nothing happens to it before.
            if bucket.misses > 0 {
                stats.buckets.push(bucket);
            }
        }
        stats
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for bucket in &self.shared.buckets {
            drop(bucket.close());
        }
    }
}

/// Where a buffer belongs: its pool, which it keeps alive, and its size class there.
#[derive(Debug)]
pub(crate) struct Home {
    shared: Arc<Shared>,
    /// `None` for a transient buffer.
    class: Option<usize>,
}

impl Home {
    fn bucket(&self) -> Option<&Bucket> {
        self.shared.buckets.get(self.class?)
    }

    /// The end of a loan. `dropped`: nobody released it.
    pub(crate) fn give_back(&self, storage: Box<[u8]>, dropped: bool) {
        // Counted as gone before it can be lent again, so that the peaks are never too high.
        let counters = &self.shared.counters;
        counters.outstanding.sub(1);
        counters.outstanding_bytes.sub(storage.len() as u64);
        match self.bucket() {
            // What the bucket hands back is freed here, when its lock is gone.
            Some(bucket) => drop(bucket.push(storage, dropped)),
            None if dropped => counters.transient_dropped.count(),
            None => (),
        }
    }

    #[cfg(feature = "python")]
    pub(crate) fn count_deferred(&self) {
        self.shared.counters.deferred.count();
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
    fn dropping_the_pool_frees_what_is_idle_and_leaves_what_is_out() {
        let pool = pool(16, 64, 2);
        let mut out = pool.acquire(64).unwrap();
        drop(pool.acquire(64).unwrap());
        let shared = Arc::clone(&pool.shared);
        drop(pool);
        assert_eq!(shared.buckets[2].stats().0.depth, 0);
        out.fill(1);
        assert_eq!(&out[..], [1; 64]);
        drop(out);
        let (stats, _) = shared.buckets[2].stats();
        assert_eq!((stats.depth, stats.discarded), (0, 1));
    }

    #[test]
    fn printing_a_buffer_does_not_show_its_contents() {
        let buffer = Pool::null().acquire(3).unwrap();
        assert_eq!(format!("{buffer:?}"), "Buffer { len: 3, .. }");
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
        assert!((1..=4).contains(&stats.peak_outstanding));
        for bucket in &stats.buckets {
            assert_eq!(bucket.outstanding(), 0, "{bucket:?}");
            assert_eq!(
                bucket.returned - bucket.discarded - bucket.hits,
                bucket.depth as u64
            );
        }
    }
}
