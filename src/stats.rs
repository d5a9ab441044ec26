//! What a pool has done: live counters, and the frozen snapshot users get.

use crate::sync::{AtomicU64, Ordering};

/// A snapshot of a [`Pool`](crate::Pool), from [`Pool::stats`](crate::Pool::stats).
///
/// Every counter is exact, and each bucket is read under its lock. Buckets are read one after the
/// other, so a snapshot taken while other threads use the pool can fall between two of their calls.
/// Sizes count what the memory costs: the capacity of the size class, not the bytes asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The size classes with any activity, smallest first.
    pub buckets: Vec<BucketStats>,
    /// Buffers that are out now, transient ones included.
    pub outstanding: u64,
    /// Bytes that are out now.
    pub outstanding_bytes: u64,
    /// The most buffers that were ever out at once.
    pub peak_outstanding: u64,
    /// The most bytes that were ever out at once.
    pub peak_outstanding_bytes: u64,
    /// Bytes waiting in the buckets.
    pub idle_bytes: u64,
    /// Requests served without pooling, being above `max_size` or made of the null pool.
    pub transient: u64,
    /// Buffers that went home without a `release()`. Python handles only: 0 in Rust, where dropping
    /// a [`Buffer`](crate::Buffer) is how it is released.
    pub dropped: u64,
    /// Releases that had to wait because somebody still held a view. Python handles only.
    pub deferred: u64,
}

/// One size class of a [`Stats`] snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketStats {
    /// The capacity of its buffers in bytes.
    pub size: usize,
    /// Requests served with a pooled buffer.
    pub hits: u64,
    /// Requests for which a buffer had to be allocated.
    pub misses: u64,
    /// Buffers that came home, discarded ones included.
    pub returned: u64,
    /// Buffers that came home to a full bucket and were freed.
    pub discarded: u64,
    /// Buffers waiting in the bucket.
    pub depth: usize,
}

impl BucketStats {
    /// Buffers that are out now: `hits + misses - returned`.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.hits
            .saturating_add(self.misses)
            .saturating_sub(self.returned)
    }
}

/// The counters that belong to no bucket.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) outstanding: Gauge,
    pub(crate) outstanding_bytes: Gauge,
    pub(crate) transient: Counter,
    pub(crate) transient_dropped: Counter,
    pub(crate) deferred: Counter,
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

/// A number that rises and falls, and its exact peak: each value it takes on is the result of one
/// `fetch_add`, whose caller sees to it that the peak is no lower.
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
        // An `add` under way may have raised the value and not yet the peak.
        (now, self.peak.load(Ordering::Relaxed).max(now))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_keeps_its_peak() {
        let gauge = Gauge::default();
        gauge.add(3);
        gauge.sub(2);
        gauge.add(1);
        assert_eq!(gauge.get(), (2, 3));
    }
}
