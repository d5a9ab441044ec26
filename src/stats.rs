//! The counters of a pool, and the snapshot of them that users get.

use crate::sync::{AtomicU64, Ordering};

/// A snapshot of a [`Pool`](crate::Pool), from [`Pool::stats`](crate::Pool::stats).
///
/// Every counter is exact, and each bucket is read under its locks. Buckets are read one after the
/// other, so a snapshot taken while other threads use the pool can fall between two of their calls.
/// Sizes in bytes are what the memory costs: the capacity of the size class, not the requested size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The size classes that were used, smallest first.
    pub buckets: Vec<BucketStats>,
    /// Buffers in use now, transient ones included.
    pub outstanding: u64,
    /// Bytes in use now.
    pub outstanding_bytes: u64,
    /// The sum of the size classes' exact peaks: never more buffers than this were in use together.
    pub peak_outstanding: u64,
    /// The sum of the size classes' exact peaks in bytes: never more than this were in use together.
    pub peak_outstanding_bytes: u64,
    /// Idle bytes.
    pub idle_bytes: u64,
    /// The sum of the size classes' `peak_depth` in bytes: never more than this were idle together.
    pub peak_idle_bytes: u64,
    /// Requests served without pooling: above `max_size`, or from a null pool.
    pub transient: u64,
    /// Bytes of transient requests in use now.
    pub transient_bytes: u64,
    /// Requests that had to wait for the budget.
    pub waits: u64,
    /// Buffers that were returned without a `release()`. Python handles only: 0 in Rust, where dropping
    /// a [`Buffer`](crate::Buffer) releases it.
    pub dropped: u64,
    /// Releases that were deferred because a view still existed. Python handles only.
    pub deferred: u64,
    /// Bytes still in use after a deferred release.
    pub deferred_bytes: u64,
}

/// One size class of a [`Stats`] snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketStats {
    /// The capacity of each buffer, in bytes.
    pub size: usize,
    /// Requests served with a pooled buffer.
    pub hits: u64,
    /// Requests for which a buffer had to be allocated.
    pub misses: u64,
    /// Buffers that were returned, discarded ones included.
    pub returned: u64,
    /// Returned buffers that were freed because the bucket was full.
    pub discarded: u64,
    /// Buffers that were freed because the pool reached `max_idle_bytes` or `max_bytes`.
    pub capped: u64,
    /// Idle buffers that [`Pool::trim`](crate::Pool::trim) freed.
    pub trimmed: u64,
    /// Idle buffers that [`Pool::decay`](crate::Pool::decay) freed.
    pub decayed: u64,
    /// Buffers that were idle when the pool was closed, or returned after that, and were freed.
    pub closed: u64,
    /// Idle buffers.
    pub depth: usize,
    /// An upper bound of the idle buffers so far: the peak in use, or the most that may be kept.
    pub peak_depth: usize,
    /// The most buffers that were in use together.
    pub peak_outstanding: u64,
}

impl Stats {
    /// Adds a bucket to the totals and to the list.
    pub(crate) fn add(&mut self, bucket: BucketStats, dropped: u64) {
        let size = bucket.size as u64;
        let add = |total: &mut u64, n: u64| *total = total.saturating_add(n);
        add(&mut self.outstanding, bucket.outstanding());
        add(
            &mut self.outstanding_bytes,
            size.saturating_mul(bucket.outstanding()),
        );
        add(&mut self.peak_outstanding, bucket.peak_outstanding);
        add(
            &mut self.peak_outstanding_bytes,
            size.saturating_mul(bucket.peak_outstanding),
        );
        add(
            &mut self.idle_bytes,
            size.saturating_mul(bucket.depth as u64),
        );
        add(
            &mut self.peak_idle_bytes,
            size.saturating_mul(bucket.peak_depth as u64),
        );
        add(&mut self.dropped, dropped);
        self.buckets.push(bucket);
    }
}

/// How a buffer was returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnedBy {
    /// By its holder.
    Release,
    /// Its handle was dropped without a release.
    Drop,
}

/// Why a pooled buffer was freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Discarded,
    Capped,
    Trimmed,
    Decayed,
    Closed,
}

impl Reason {
    pub(crate) const COUNT: usize = 5;
}

impl BucketStats {
    /// Buffers that were freed, for any reason.
    #[must_use]
    pub fn freed(&self) -> u64 {
        let Self {
            discarded,
            capped,
            trimmed,
            decayed,
            closed,
            ..
        } = self;
        let freed = [discarded, capped, trimmed, decayed, closed];
        freed.into_iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Buffers in use now: `hits + misses - returned`.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.hits
            .saturating_add(self.misses)
            .saturating_sub(self.returned)
    }
}

/// Counters of transient buffers, which belong to no bucket.
#[derive(Debug, Default)]
pub(crate) struct Transient {
    pub(crate) served: Counter,
    pub(crate) dropped: Counter,
    pub(crate) outstanding: Gauge,
    pub(crate) outstanding_bytes: Gauge,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that rises and falls, with its exact peak: raising the number raises the peak as well.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicU64,
    peak: AtomicU64,
}

impl Gauge {
    pub(crate) fn add(&self, n: u64) {
        let now = self.now.fetch_add(n, Ordering::Relaxed).wrapping_add(n);
        if now > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(now, Ordering::Relaxed);
        }
    }

    pub(crate) fn sub(&self, n: u64) {
        self.now.fetch_sub(n, Ordering::Relaxed);
    }

    /// The value now, and the peak.
    pub(crate) fn get(&self) -> (u64, u64) {
        let now = self.now.load(Ordering::Relaxed);
        // A concurrent `add` may have raised the value and not yet the peak.
        (now, self.peak.load(Ordering::Relaxed).max(now))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pool::Pool;

    #[test]
    fn a_gauge_keeps_its_peak() {
        let gauge = Gauge::default();
        gauge.add(3);
        gauge.sub(2);
        gauge.add(1);
        assert_eq!(gauge.get(), (2, 3));
    }

    #[test]
    fn peaks_of_idle_memory_are_at_most_what_may_be_kept() {
        let pool = Pool::new(Config {
            min_size: 1024,
            max_size: 2048,
            max_buffers: 2,
            max_idle_bytes: Some(4096),
            ..Config::DEFAULT
        })
        .unwrap();
        let peaks = |pool: &Pool| -> (Vec<_>, u64) {
            let stats = pool.stats();
            let buckets = stats.buckets.iter().map(|bucket| bucket.peak_depth);
            (buckets.collect(), stats.peak_idle_bytes)
        };
        drop(pool.acquire(1024).unwrap());
        assert_eq!(peaks(&pool), (vec![1], 1024));
        drop([(); 3].map(|()| pool.acquire(1024).unwrap()));
        assert_eq!(peaks(&pool), (vec![2], 2048));
        drop([(); 3].map(|()| pool.acquire(2048).unwrap()));
        assert_eq!(peaks(&pool), (vec![2, 2], 4096));
    }
}
