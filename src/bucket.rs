//! One size class: the lock, pop, push, and counters that are exact because they share the lock.

use crate::error::Error;
use crate::stats::BucketStats;
use crate::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Bucket {
    size: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Debug)]
struct Shelf {
    /// Newest last, so that warm memory goes out first. Its capacity is at least `limit`.
    idle: Vec<Box<[u8]>>,
    limit: usize,
    hits: u64,
    misses: u64,
    returned: u64,
    discarded: u64,
    dropped: u64,
}

impl Bucket {
    /// A bucket that keeps at most `limit` boxes of `size` bytes; room for them is reserved here.
    pub(crate) fn new(size: usize, limit: usize) -> Result<Self, Error> {
        let mut idle = Vec::new();
        idle.try_reserve_exact(limit)
            .map_err(|_| Error::OutOfMemory {
                requested: limit.saturating_mul(size_of::<Box<[u8]>>()),
            })?;
        Ok(Self {
            size,
            shelf: Mutex::new(Shelf {
                idle,
                limit,
                hits: 0,
                misses: 0,
                returned: 0,
                discarded: 0,
                dropped: 0,
            }),
        })
    }

    /// What each of its boxes holds, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Takes the newest box, and counts a hit if there is one.
    pub(crate) fn pop(&self) -> Option<Box<[u8]>> {
        let mut shelf = self.shelf.lock();
        let storage = shelf.idle.pop()?;
        shelf.hits = shelf.hits.wrapping_add(1);
        Some(storage)
    }

    /// Counts a request that found the bucket empty, once it has been served all the same.
    pub(crate) fn count_miss(&self) {
        let mut shelf = self.shelf.lock();
        shelf.misses = shelf.misses.wrapping_add(1);
    }

    /// Takes a box back. One that does not fit is handed out again, for the caller to free when the
    /// lock is gone. `dropped`: it comes home without having been released.
    #[must_use]
    pub(crate) fn push(&self, storage: Box<[u8]>, dropped: bool) -> Option<Box<[u8]>> {
        let mut shelf = self.shelf.lock();
        shelf.returned = shelf.returned.wrapping_add(1);
        shelf.dropped = shelf.dropped.wrapping_add(u64::from(dropped));
        if shelf.idle.len() < shelf.limit {
            shelf.idle.push(storage);
            return None;
        }
        shelf.discarded = shelf.discarded.wrapping_add(1);
        Some(storage)
    }

    /// Keeps nothing from now on, and hands out what it kept, for the caller to free.
    pub(crate) fn close(&self) -> Vec<Box<[u8]>> {
        let mut shelf = self.shelf.lock();
        shelf.limit = 0;
        std::mem::take(&mut shelf.idle)
    }

    /// The counters, and how many of the returned buffers had not been released.
    pub(crate) fn stats(&self) -> (BucketStats, u64) {
        let shelf = self.shelf.lock();
        let stats = BucketStats {
            size: self.size,
            hits: shelf.hits,
            misses: shelf.misses,
            returned: shelf.returned,
            discarded: shelf.discarded,
            depth: shelf.idle.len(),
        };
        (stats, shelf.dropped)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn storage(stamp: u8) -> Box<[u8]> {
        vec![stamp; 8].into()
    }

    #[test]
    fn newest_first_and_never_more_than_the_limit() {
        let bucket = Bucket::new(8, 2).unwrap();
        assert!(bucket.pop().is_none());
        assert!(bucket.push(storage(1), false).is_none());
        assert!(bucket.push(storage(2), false).is_none());
        assert_eq!(bucket.push(storage(3), true), Some(storage(3)));
        assert_eq!(bucket.pop(), Some(storage(2)));
        assert_eq!(bucket.pop(), Some(storage(1)));
        let (stats, dropped) = bucket.stats();
        assert_eq!((stats.hits, stats.misses, stats.depth), (2, 0, 0));
        assert_eq!((stats.returned, stats.discarded, dropped), (3, 1, 1));
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing() {
        let bucket = Bucket::new(8, 0).unwrap();
        assert_eq!(bucket.push(storage(1), false), Some(storage(1)));
        assert_eq!(bucket.stats().0.discarded, 1);
    }

    #[test]
    fn the_shelf_never_grows_under_the_lock() {
        let bucket = Bucket::new(8, 3).unwrap();
        let reserved = bucket.shelf.lock().idle.capacity();
        for stamp in 0..10 {
            drop(bucket.push(storage(stamp), false));
        }
        assert_eq!(bucket.shelf.lock().idle.capacity(), reserved);
    }

    #[test]
    fn closed_it_hands_out_everything_and_keeps_no_more() {
        let bucket = Bucket::new(8, 2).unwrap();
        drop(bucket.push(storage(1), false));
        assert_eq!(bucket.close(), vec![storage(1)]);
        assert_eq!(bucket.push(storage(2), false), Some(storage(2)));
        assert!(bucket.pop().is_none());
    }

    #[test]
    fn a_limit_beyond_memory_is_an_error() {
        let error = Bucket::new(8, usize::MAX).unwrap_err();
        assert_eq!(
            error,
            Error::OutOfMemory {
                requested: usize::MAX
            }
        );
    }
}
