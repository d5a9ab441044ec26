//! The pool as a whole: what it consists of, how it is made, its stats. `acquire.rs` lends buffers, `give_back.rs`
//! takes them back.

pub(crate) mod acquire;
mod give_back;
#[cfg(all(test, not(loom)))]
mod tests;

use crate::bucket::Bucket;
use crate::budget::Budget;
use crate::config::Config;
use crate::error::Error;
#[cfg(feature = "python")]
use crate::fallible::list;
use crate::interval::Interval;
use crate::size_class::SizeClasses;
use crate::stats::{BucketStats, Counter, Gauge, Stats, Transient};
use crate::storage::{Free, Storage, free};

/// A pool of byte buffers in size classes.
///
/// Every method takes `&self`: share the pool by reference or in an [`Arc`](std::sync::Arc).
///
/// ```
/// # use bytepool::{Config, Pool};
/// let pool = Pool::new(Config::default())?;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| pool.acquire(100_000).map(|mut buffer| buffer.fill(1)));
///     }
/// });
/// assert_eq!(pool.stats().outstanding, 0);
/// # Ok::<(), bytepool::Error>(())
/// ```
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
    /// From the configuration: whether reused memory has to be prepared.
    prepares: bool,
    /// From the configuration: whether returned memory has to be wiped.
    wipes: bool,
    /// Called whenever memory is freed, except when the pool itself is dropped.
    pub(crate) free: Free,
}

impl Pool {
    /// Makes a pool.
    ///
    /// # Errors
    /// `min_size > max_size`, a `max_size` of 2^40 or more, or no memory to keep track of `max_buffers` buffers
    /// per size class.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.check()?;
        let classes = SizeClasses::new(config.min_size, config.largest_pooled());
        let mut buckets = Vec::new();
        let count = classes.capacities().count();
        buckets
            .try_reserve_exact(count)
            .map_err(|_| Error::OutOfMemory {
                requested: count.saturating_mul(size_of::<Bucket<Storage>>()),
            })?;
        for size in classes.capacities() {
            buckets.push(Bucket::new(size, config.max_buffers, config.idle_limit())?);
        }
        Ok(Self::with_buckets(config, classes, buckets))
    }

    /// A pool that pools nothing: every request allocates, every drop frees. It counts requests and refuses
    /// them as a pool does, so you can swap it in when you suspect a memory bug. Its configuration is the
    /// default one.
    ///
    /// ```
    /// let pool = bytepool::Pool::null();
    /// drop(pool.acquire(100_000)?); // freed, not kept
    /// assert_eq!(pool.stats().idle_bytes, 0);
    /// # Ok::<(), bytepool::Error>(())
    /// ```
    #[must_use]
    pub fn null() -> Self {
        Self::null_for(Config::DEFAULT)
    }

    /// A null pool in place of a pool with this configuration, which it reports as its own. It has the same
    /// budget.
    #[must_use]
    pub fn null_for(config: Config) -> Self {
        Self::with_buckets(config, SizeClasses::new(0, 0), Vec::new())
    }

    fn with_buckets(config: Config, classes: SizeClasses, buckets: Vec<Bucket<Storage>>) -> Self {
        Self {
            config,
            classes,
            buckets,
            budget: Budget::new(&config),
            decay: Interval::default(),
            transient: Transient::default(),
            deferred: Counter::default(),
            deferred_bytes: Gauge::default(),
            prepares: config.prepares(),
            wipes: config.wipes(),
            free,
        }
    }

    /// The configuration that the pool was made with.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config
    }

    /// A snapshot of the counters.
    ///
    /// ```
    /// # use bytepool::{Config, Pool};
    /// let pool = Pool::new(Config::default())?;
    /// drop(pool.acquire(100_000)?);
    /// drop(pool.acquire(100_000)?);
    /// let bucket = &pool.stats().buckets[0];
    /// assert_eq!((bucket.size, bucket.misses, bucket.hits), (131_072, 1, 1));
    /// # Ok::<(), bytepool::Error>(())
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats_in(Vec::new())
    }

    /// The same, or an error if there is no memory for the list.
    #[cfg(feature = "python")]
    pub(crate) fn try_stats(&self) -> Result<Stats, Error> {
        Ok(self.stats_in(list(self.buckets.len())?))
    }

    /// A snapshot with the buckets in this list.
    fn stats_in(&self, list: Vec<BucketStats>) -> Stats {
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
            buckets: list,
            ..Stats::default()
        };
        for bucket in buckets.iter().filter(|bucket| !bucket.is_unused()) {
            let (bucket, dropped) = bucket.stats();
            stats.add(bucket, dropped);
        }
        stats.peak_idle_bytes = stats.peak_idle_bytes.min(self.config.idle_limit() as u64);
        stats
    }
}
