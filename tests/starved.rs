//! Each allocation of the core fails in turn: this is an error, nothing leaks, and the pool stays usable. Calls that
//! free memory need none.
//!
//! The ledger is this binary's global allocator and counts the whole process, so there is only one test.
#![cfg(not(loom))]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytepool::{Config, Error, Pool, Stats};

#[path = "ledger/allocator.rs"]
mod ledger;

use ledger::{live, live_at_rest, starved, take_faults};

/// One size class is allocated, one is mapped, and some requests are transient.
const CONFIG: Config = Config {
    min_size: 1024,
    max_size: 128 << 10,
    max_buffers: 3,
    idle_timeout: Some(Duration::ZERO),
    ..Config::DEFAULT
};
const SIZES: [usize; 4] = [0, 5000, 100_000, 200_000];

/// Makes the work fail at its first allocation, then at its second, until it succeeds. Returns how often it failed.
fn fail_everywhere<T>(work: impl Fn() -> Result<T, Error>) -> usize {
    for allocations in 0.. {
        let before = live();
        let result = starved(allocations, &work);
        let failed = result.is_err();
        match result {
            Ok(made) => drop(made),
            Err(error) => assert!(matches!(error, Error::OutOfMemory { .. }), "{error}"),
        }
        if !failed {
            return allocations;
        }
        assert_eq!(live(), before, "after failure {allocations}");
    }
    unreachable!("the work never succeeded")
}

/// The counters that a refused request does not change.
fn served(stats: &Stats) -> (u64, u64, u64) {
    let requests = stats
        .buckets
        .iter()
        .map(|bucket| bucket.hits + bucket.misses);
    (requests.sum(), stats.transient, stats.outstanding)
}

fn requests_fail(config: Config) -> usize {
    let mut failures = 0;
    for n in SIZES {
        let pool = Arc::new(Pool::new(config).unwrap());
        let before = served(&pool.stats());
        let refused = starved(0, || pool.acquire(n).map(drop));
        assert!(matches!(refused, Err(Error::OutOfMemory { .. })), "{n}");
        assert_eq!(served(&pool.stats()), before);
        failures += fail_everywhere(|| pool.acquire(n));
        pool.trim(0);
        failures += fail_everywhere(|| Pool::acquire_owned(&pool, n));
        pool.trim(0);
        failures += fail_everywhere(|| pool.acquire_timeout(n, Duration::ZERO));
        let stats = pool.stats();
        assert_eq!(
            (stats.outstanding, served(&stats).0 + stats.transient),
            (0, 3)
        );
    }
    failures
}

/// Requests that are granted bytes after a wait, and fail to allocate at any point of it. Returns how often.
fn waits_fail() -> usize {
    let config = Config {
        max_bytes: Some(CONFIG.max_size),
        ..CONFIG
    };
    for allocations in 0.. {
        let pool = Pool::new(config).unwrap();
        let held = pool.acquire(CONFIG.max_size).unwrap();
        let (before, ended) = (pool.stats(), AtomicBool::new(false));
        let result = thread::scope(|scope| {
            let other = scope.spawn(|| {
                while pool.stats().waits == before.waits && !ended.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                drop(held);
            });
            let wait = || pool.acquire_timeout(5000, Duration::MAX).map(drop);
            let result = starved(allocations, wait);
            ended.store(true, Ordering::SeqCst);
            other.join().unwrap(); // only then all memory of the thread is freed
            result
        });
        let stats = pool.stats();
        let requests = served(&before).0 + u64::from(result.is_ok());
        assert_eq!(served(&stats), (requests, 0, 0), "after {allocations}");
        if result.is_ok() {
            return allocations;
        }
    }
    unreachable!("the work never succeeded")
}

#[test]
fn a_failed_allocation_leaks_nothing_and_is_an_error() {
    drop(std::thread::current()); // allocates a block on its first call
    let all = live_at_rest();
    let pools = fail_everywhere(|| Pool::new(CONFIG));
    assert!(pools > 30, "one allocation per shard at least: {pools}");

    let mut requests = 0;
    for max_bytes in [None, Some(1 << 20)] {
        requests += requests_fail(Config {
            max_bytes,
            ..CONFIG
        });
    }
    assert!(requests >= 36, "{requests}");

    let waits = waits_fail();
    assert!(waits >= 4, "{waits}");

    let pool = Arc::new(Pool::new(CONFIG).unwrap());
    let mut held: Vec<_> = (0..20)
        .map(|i| Pool::acquire_owned(&pool, SIZES[i % 4]).unwrap())
        .collect();
    starved(0, || {
        held.truncate(12);
        pool.trim(1024);
        held.truncate(8);
        pool.decay();
        held.truncate(4);
        drop(pool.acquire(5000).unwrap()); // a hit
        pool.close();
        held.clear();
        drop(held);
        drop(pool);
    });
    assert_eq!(live(), all, "leaked blocks and bytes");
    assert_eq!(take_faults(), 0);
    println!("{pools} allocations of pools failed, {requests} of requests, {waits} of waits");
}
