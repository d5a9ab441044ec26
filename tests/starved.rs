//! Memory that runs out at each allocation of the core in turn: an error, nothing lost, and a pool that
//! can be used. What gives memory back must not need any.
//!
//! The ledger is this binary's global allocator, so there is one test.
#![cfg(not(loom))]

use std::sync::Arc;
use std::time::Duration;

use bytepool::{Config, Error, Pool, Stats};

#[path = "ledger/allocator.rs"]
mod ledger;

use ledger::{live, live_at_rest, starved, take_faults};

/// A class of the allocator's memory, one of mappings, and sizes above both.
const CONFIG: Config = Config {
    min_size: 1024,
    max_size: 128 << 10,
    max_buffers: 3,
    idle_timeout: Some(Duration::ZERO),
    ..Config::DEFAULT
};
const SIZES: [usize; 4] = [0, 5000, 100_000, 200_000];

/// Has the work fail at its first allocation, at its second, and so on until it succeeds, and says how
/// often it failed. What it makes is dropped.
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
    unreachable!("it never succeeded")
}

/// What a request that was refused must leave as it was.
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

#[test]
fn no_allocation_that_fails_loses_anything() {
    drop(std::thread::current()); // a thread's own block, made when it is first asked for
    let all = live_at_rest();
    let pools = fail_everywhere(|| Pool::new(CONFIG));
    assert!(pools > 30, "a list, and one for each shelf: {pools}");

    let mut requests = 0;
    for max_bytes in [None, Some(1 << 20)] {
        requests += requests_fail(Config {
            max_bytes,
            ..CONFIG
        });
    }
    assert!(requests >= 36, "{requests}");

    let pool = Arc::new(Pool::new(CONFIG).unwrap());
    let mut out: Vec<_> = (0..20)
        .map(|i| Pool::acquire_owned(&pool, SIZES[i % 4]).unwrap())
        .collect();
    starved(0, || {
        out.truncate(12);
        pool.trim(1024);
        out.truncate(8);
        pool.decay();
        out.truncate(4);
        drop(pool.acquire(5000).unwrap()); // a hit
        pool.close();
        out.clear();
        drop(out);
        drop(pool);
    });
    assert_eq!(live(), all, "blocks and bytes that are lost");
    assert_eq!(take_faults(), 0);
    println!("failed at {pools} allocations of a pool and at {requests} of requests");
}
