//! Tests of a pool as a whole.

use std::cell::RefCell;
use std::thread;

use super::acquire::LARGEST_REQUEST;
use super::*;
use crate::buffer::Buffer;
use crate::config::Zero;
use crate::sync::Arc;

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
fn a_buffer_has_the_requested_length_and_is_reused() {
    let pool = pool(16, 64, 2);
    let mut first = pool.acquire(20).unwrap();
    assert_eq!(&first[..], [0; 20]);
    first.as_mut().fill(9);
    drop(first);
    let second = pool.acquire(24).unwrap();
    assert_eq!(second.as_ref(), [[9_u8; 20].as_slice(), &[0; 4]].concat());
    let stats = pool.stats();
    assert_eq!(stats.buckets.len(), 1);
    assert_eq!((stats.buckets[0].hits, stats.buckets[0].misses), (1, 1));
    assert_eq!(stats.buckets[0].outstanding(), 1);
    assert_eq!((stats.outstanding, stats.outstanding_bytes), (1, 24));
}

#[test]
fn a_request_without_an_idle_buffer_borrows_a_slightly_larger_one() {
    let pool = pool(16, 64, 2);
    drop([32, 48, 48, 64].map(|n| pool.acquire(n).unwrap()));
    let idle = |pool: &Pool| -> Vec<_> {
        let buckets = pool.stats().buckets;
        buckets.iter().map(|bucket| bucket.depth).collect()
    };
    let first = pool.acquire(20).unwrap();
    assert_eq!((first.len(), idle(&pool)), (20, vec![0, 2, 1]));
    let stats = pool.stats();
    assert_eq!((stats.outstanding, stats.outstanding_bytes), (1, 32));
    assert_eq!(
        (stats.buckets[0].hits, stats.buckets[0].outstanding()),
        (1, 1)
    );
    let second = pool.acquire(20).unwrap();
    assert_eq!(idle(&pool), [0, 1, 1]);
    // The last buffer of 48 bytes stays for larger requests, and 64 bytes are too many for 20.
    let third = pool.acquire(20).unwrap();
    assert_eq!(idle(&pool), [0, 0, 1, 1]);
    assert_eq!(pool.stats().buckets[0].misses, 1);
    drop((first, second, third));
    assert_eq!(idle(&pool), [1, 1, 2, 1]);
}

#[test]
fn a_size_class_that_is_often_empty_gets_a_buffer_of_its_own() {
    let pool = pool(16, 64, 2);
    drop(pool.acquire(32).unwrap());
    let misses = |pool: &Pool| -> Vec<_> {
        let buckets = pool.stats().buckets;
        buckets.iter().map(|bucket| bucket.misses).collect()
    };
    for _ in 1..128 {
        drop(pool.acquire(20).unwrap());
    }
    assert_eq!(misses(&pool), [1]);
    drop(pool.acquire(20).unwrap());
    assert_eq!(misses(&pool), [1, 1]);
    for _ in 0..2 * 128 {
        drop(pool.acquire(20).unwrap());
    }
    assert_eq!(misses(&pool), [1, 1]);
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
    assert_eq!(pool.config(), Config::DEFAULT);
    let stats = pool.stats();
    assert_eq!(
        (stats.transient, stats.outstanding, stats.peak_outstanding),
        (3, 0, 1)
    );
    assert_eq!((stats.idle_bytes, stats.buckets.len()), (0, 0));
}

#[test]
fn a_request_of_zero_bytes_is_pooled() {
    let pool = pool(16, 64, 2);
    assert!(pool.acquire(0).unwrap().is_empty());
    assert_eq!(pool.stats().buckets[0].depth, 1);
}

#[test]
fn impossible_requests_leave_the_pool_unchanged() {
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
fn a_closed_pool_keeps_nothing_and_leaves_buffers_in_use_valid() {
    let pool = pool(16, 64, 2);
    let mut held = pool.acquire(64).unwrap();
    drop(pool.acquire(64).unwrap());
    pool.close();
    assert_eq!(pool.stats().idle_bytes, 0);
    held.fill(1);
    assert_eq!(&held[..], [1; 64]);
    drop(held);
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
    let mut held = Pool::acquire_owned(&pool, 64).unwrap();
    drop(pool);
    held.fill(1);
    assert_eq!(&held[..], [1; 64]);
}

#[test]
fn printing_a_buffer_does_not_show_its_contents() {
    let pool = Pool::null();
    let buffer = pool.acquire(3).unwrap();
    assert_eq!(format!("{buffer:?}"), "Buffer { len: 3, .. }");
}

#[test]
fn with_zero_release_idle_memory_holds_no_old_bytes() {
    for (zero, left) in [(Zero::Never, 7), (Zero::Release, 0), (Zero::Allocate, 7)] {
        let pool = Pool::new(Config {
            zero,
            ..Config::DEFAULT
        })
        .unwrap();
        pool.acquire(100).unwrap().fill(7);
        let idle = pool.buckets[pool.class_of(100)].pop_slow().unwrap();
        assert_eq!(idle[..100], [left; 100]);
    }
}

#[test]
fn with_poison_a_returned_buffer_is_filled_once() {
    let pool = Pool::new(Config {
        poison: true,
        ..Config::DEFAULT
    })
    .unwrap();
    let mut buffer = pool.acquire(100).unwrap();
    buffer.wipe();
    buffer[9] = 1; // a second fill would hide this
    drop(buffer);
    let error = pool.acquire(100).unwrap_err();
    assert!(matches!(error, Error::Overwritten { offset: 9, .. }));
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
    // Those in the channel, and one in use by each thread.
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

/// Acquires another buffer while the thread's locals are being dropped.
struct Last(Arc<Pool>, Option<Buffer<Arc<Pool>>>);

impl Drop for Last {
    fn drop(&mut self) {
        drop(self.1.take());
        drop(self.0.acquire(50_000).unwrap());
    }
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

#[test]
fn buffers_are_returned_while_a_threads_locals_are_dropped() {
    let pool = Arc::new(Pool::new(Config::default()).unwrap());
    let theirs = Arc::clone(&pool);
    let work = thread::spawn(move || {
        let buffer = Pool::acquire_owned(&theirs, 5000).unwrap();
        LAST.set(Some(Last(theirs, Some(buffer))));
    });
    work.join().unwrap();
    let stats = pool.stats();
    assert_eq!((stats.outstanding, stats.buckets.len()), (0, 2));
    assert!(stats.buckets.iter().all(|bucket| bucket.depth == 1));
}

#[test]
fn a_panicking_thread_returns_its_buffers() {
    let pool = Arc::new(Pool::new(Config::default()).unwrap());
    let theirs = Arc::clone(&pool);
    let work = thread::spawn(move || {
        let _buffer = theirs.acquire(5000).unwrap();
        panic!("on purpose");
    });
    work.join().unwrap_err();
    assert_eq!(pool.stats().outstanding, 0);
    drop(pool.acquire(5000).unwrap());
    assert_eq!(pool.stats().buckets[0].hits, 1);
}

#[test]
fn more_buffers_than_can_be_tracked_are_refused() {
    let config = Config {
        max_buffers: usize::MAX,
        max_idle_bytes: Some(usize::MAX),
        ..Config::DEFAULT
    };
    assert!(Pool::new(config).is_err());
}

#[test]
fn without_a_limit_of_buffers_only_the_idle_limit_reserves_space() {
    let pool = Pool::new(Config {
        min_size: 1024,
        max_size: 4096,
        max_buffers: usize::MAX,
        max_idle_bytes: Some(64 << 10),
        ..Config::DEFAULT
    })
    .unwrap();
    for size in [1024, 4096] {
        drop([(); 100].map(|()| pool.acquire(size).unwrap()));
        assert_eq!(pool.idle_bytes(), 64 << 10);
        pool.trim(0);
    }
}

#[test]
fn every_size_up_to_the_budget_can_be_had() {
    for max_bytes in [1, 100, 4096, 10_000, 10 << 20] {
        let pool = Pool::new(Config {
            max_bytes: Some(max_bytes),
            ..Config::DEFAULT
        })
        .unwrap();
        for n in [0, 1, max_bytes / 2 + 1, max_bytes - 1, max_bytes] {
            assert_eq!(pool.acquire(n).unwrap().len(), n);
        }
        assert!(matches!(
            pool.acquire(max_bytes + 1),
            Err(Error::AboveBudget { .. })
        ));
    }
}
