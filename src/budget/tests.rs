//! Tests of requests that use the budget, or wait for it.

use std::thread;
use std::time::Duration;

use super::Wake;
use super::requests::WaiterGuard;
use crate::config::{Config, Zero};
use crate::error::Error;
use crate::pool::Pool;
use crate::sync::{Arc, Mutex};

fn pool(max_size: usize, max_bytes: usize) -> Pool {
    let max_bytes = Some(max_bytes);
    Pool::new(Config {
        min_size: 64,
        max_size,
        max_bytes,
        ..Config::DEFAULT
    })
    .unwrap()
}

#[test]
fn a_request_that_cannot_be_served_frees_nothing() {
    let pool = pool(512, 1024);
    let held = [512, 64].map(|n| pool.acquire(n).unwrap());
    drop([256, 128].map(|n| pool.acquire(n).unwrap()));
    let before = pool.stats();
    assert_eq!((before.idle_bytes, before.outstanding_bytes), (384, 576));
    pool.acquire(512).unwrap_err();
    assert_eq!(pool.stats(), before);
    drop(held);
}

fn wait(pool: &Pool, n: usize) -> WaiterGuard<&Pool> {
    WaiterGuard::enqueue(pool, n, Wake::new(|| {}).unwrap()).unwrap()
}

fn is_granted(guard: &WaiterGuard<&Pool>, n: usize) -> bool {
    Pool::lend_to_waiter(guard.pool, n, &guard.waiter).is_some_and(|lent| lent.is_ok())
}

/// Queues three requests of 512 bytes. When they are woken, their numbers are noted.
fn three_waiters(pool: &Pool) -> ([WaiterGuard<&Pool>; 3], Arc<Mutex<Vec<u8>>>) {
    let woken = Arc::new(Mutex::new(Vec::new()));
    let guards = [0, 1, 2].map(|number| {
        let woken = Arc::clone(&woken);
        let wake = Wake::new(move || woken.lock().push(number));
        WaiterGuard::enqueue(pool, 512, wake.unwrap()).unwrap()
    });
    (guards, woken)
}

#[test]
fn freed_memory_wakes_as_many_waiters_as_it_suffices_for_oldest_first() {
    let pool = pool(256, 1024);
    let held = pool.acquire(1024).unwrap();
    let ([first, second, third], woken) = three_waiters(&pool);
    drop(held);
    assert_eq!(*woken.lock(), [0, 1]);
    assert!(is_granted(&first, 512));
    assert_eq!(*woken.lock(), [0, 1, 2]);
    assert!(is_granted(&second, 512) && is_granted(&third, 512));
}

#[test]
fn closing_the_pool_wakes_all_waiters() {
    let pool = pool(256, 1024);
    let _held = pool.acquire(1024).unwrap();
    let (guards, woken) = three_waiters(&pool);
    pool.close();
    assert_eq!(*woken.lock(), [0, 1, 2]);
    for guard in guards {
        let lent = Pool::lend_to_waiter(&pool, 512, &guard.waiter).unwrap();
        assert!(matches!(lent, Err(Error::Closed { requested: 512 })));
    }
}

#[test]
fn a_waiter_that_leaves_passes_its_grant_to_the_next() {
    // With 512, requests of 1024 are transient, so bytes are granted instead of a returned buffer.
    for max_size in [1024, 512] {
        let pool = pool(max_size, 1024);
        let held = pool.acquire(1024).unwrap();
        let (first, second) = (wait(&pool, 1024), wait(&pool, 1024));
        drop(held);
        assert!(!is_granted(&second, 1024));
        first.leave();
        assert!(is_granted(&second, 1024), "{max_size}");
    }
}

#[test]
fn a_returned_buffer_is_handed_to_the_waiter_that_needs_its_size() {
    let pool = pool(1024, 1024);
    let held = pool.acquire(1024).unwrap();
    let guard = wait(&pool, 1024);
    drop(held);
    assert!(is_granted(&guard, 1024));
    let stats = pool.stats();
    assert_eq!((stats.buckets[0].hits, stats.buckets[0].misses), (1, 1));
}

#[test]
fn a_waiter_that_leaves_makes_way_for_a_smaller_request() {
    let pool = pool(1024, 1024);
    let held = pool.acquire(512).unwrap();
    let (large, small) = (wait(&pool, 1024), wait(&pool, 512));
    assert!(!is_granted(&small, 512));
    assert!(matches!(pool.acquire(512), Err(Error::Exhausted { .. }))); // it must not overtake
    large.leave();
    assert!(is_granted(&small, 512));
    drop(held);
}

#[test]
fn no_request_fails_because_another_thread_is_freeing_memory() {
    const ALL: usize = 8 << 20;
    let pool = pool(ALL, ALL);
    for _ in 0..100 {
        pool.acquire(ALL).unwrap().fill(1);
        thread::scope(|scope| {
            let threads = [(); 2].map(|()| scope.spawn(|| pool.acquire(64).map(drop)));
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        });
    }
}

#[test]
fn buffers_returned_while_the_pool_is_drained_stay_within_the_idle_limit() {
    const KEPT: usize = 1024;
    let pool = Arc::new(
        Pool::new(Config {
            min_size: 16,
            max_size: KEPT,
            max_buffers: 100,
            max_idle_bytes: Some(KEPT),
            max_bytes: Some(4 * KEPT),
            ..Config::DEFAULT
        })
        .unwrap(),
    );
    let acquire = |n| Pool::acquire_owned(&pool, n).unwrap();
    let small: Vec<_> = (0..KEPT / 16).map(|_| acquire(16)).collect();
    let large: Vec<_> = (0..6).map(|_| acquire(KEPT / 2)).collect();
    drop(small);
    assert_eq!(pool.stats().idle_bytes, KEPT as u64);
    let same = Arc::clone(&pool);
    let wake = Wake::new(move || {
        drop(large);
        assert!(same.stats().idle_bytes <= KEPT as u64, "{:?}", same.stats());
    });
    let guard = WaiterGuard::enqueue(&*pool, 64, wake.unwrap()).unwrap();
    let lent = Pool::lend_to_waiter(&*pool, 64, &guard.waiter);
    assert_eq!(lent.unwrap().unwrap().prepared().unwrap().len(), 64);
    assert!(pool.stats().idle_bytes <= KEPT as u64, "{:?}", pool.stats());
}

#[test]
fn a_request_above_the_budget_or_of_a_closed_pool_never_waits() {
    let pool = pool(1024, 1024);
    let enqueue = |n| WaiterGuard::enqueue(&pool, n, Wake::new(|| {}).unwrap()).err();
    let above = Error::AboveBudget {
        requested: 2048,
        max_bytes: 1024,
    };
    assert_eq!(enqueue(2048), Some(above));
    pool.close();
    assert_eq!(enqueue(512), Some(Error::Closed { requested: 512 }));
}

#[test]
fn a_waiter_is_granted_at_once_if_the_bytes_are_free() {
    let config = Config {
        max_bytes: Some(64 << 10),
        ..Config::DEFAULT
    };
    for pool in [Pool::new(config).unwrap(), Pool::null_for(config)] {
        assert!(is_granted(&wait(&pool, 4096), 4096));
    }
}

#[test]
fn the_error_says_how_many_requests_wait() {
    let pool = pool(1024, 1024);
    let _held = pool.acquire(1024).unwrap();
    let _guards = [512, 1024].map(|n| wait(&pool, n));
    let error = Error::Exhausted {
        requested: 64,
        used: 1024,
        max_bytes: 1024,
        waiters: 2,
    };
    assert_eq!(pool.acquire(64).err(), Some(error));
}

#[test]
fn a_waiter_needs_the_bytes_of_its_size_class() {
    let pool = pool(1024, 1024);
    let held = [256, 64].map(|n| pool.acquire(n).unwrap());
    let guard = wait(&pool, 700); // a buffer of 768 bytes, and 704 are free
    assert!(!is_granted(&guard, 700));
    drop(held);
    assert!(is_granted(&guard, 700));
}

#[test]
fn a_returned_buffer_of_another_size_is_freed_for_the_waiter() {
    let pool = pool(1024, 1024);
    let held = pool.acquire(1024).unwrap();
    let smaller = wait(&pool, 512);
    drop(held);
    let lent = Pool::lend_to_waiter(&pool, 512, &smaller.waiter).unwrap();
    let first = lent.unwrap().prepared().unwrap();
    let second = pool.acquire(512).unwrap();
    let larger = wait(&pool, 1024);
    drop(first);
    assert!(!is_granted(&larger, 1024));
    drop(second);
    let lent = Pool::lend_to_waiter(&pool, 1024, &larger.waiter).unwrap();
    let third = lent.unwrap().prepared().unwrap();
    assert_eq!(third.len(), 1024);
    let buckets = pool.stats().buckets;
    let served = |index: usize| (buckets[index].hits, buckets[index].misses);
    assert_eq!((served(0), served(1)), ((0, 2), (0, 2)));
}

#[test]
fn a_buffer_handed_to_a_waiter_wakes_it_and_is_prepared() {
    let pool = Pool::new(Config {
        max_size: 16 << 10,
        max_bytes: Some(16 << 10),
        zero: Zero::Allocate,
        ..Config::DEFAULT
    })
    .unwrap();
    let mut held = pool.acquire(16 << 10).unwrap();
    held.fill(7);
    let woken = Arc::new(Mutex::new(0));
    let count = Arc::clone(&woken);
    let wake = Wake::new(move || *count.lock() += 1).unwrap();
    let guard = WaiterGuard::enqueue(&pool, 16 << 10, wake).unwrap();
    drop(held);
    assert_eq!(*woken.lock(), 1);
    let lent = Pool::lend_to_waiter(&pool, 16 << 10, &guard.waiter).unwrap();
    let buffer = lent.unwrap().prepared().unwrap();
    assert!(buffer.iter().all(|&byte| byte == 0));
}

#[test]
fn closing_the_pool_leaves_a_waiter_the_bytes_that_it_was_granted() {
    let pool = pool(256, 1024);
    let held = pool.acquire(512).unwrap();
    let granted = wait(&pool, 512);
    let waiting = wait(&pool, 512);
    pool.close();
    assert!(is_granted(&granted, 512));
    let lent = Pool::lend_to_waiter(&pool, 512, &waiting.waiter).unwrap();
    assert!(matches!(lent, Err(Error::Closed { .. })));
    drop(held);
}

#[test]
fn a_waiter_that_finds_an_idle_buffer_gives_its_reserved_bytes_back() {
    let pool = pool(1024, 2048);
    let [first, second, third] = [512, 512, 1024].map(|n| pool.acquire(n).unwrap());
    let guard = wait(&pool, 1024);
    drop((first, second)); // the waiter is granted their bytes
    drop(third); // idle, because no request waits any more
    let lent = Pool::lend_to_waiter(&pool, 1024, &guard.waiter).unwrap();
    let reused = lent.unwrap().prepared().unwrap();
    assert_eq!(pool.stats().idle_bytes, 0);
    assert_eq!(pool.acquire(1024).unwrap().len(), 1024);
    drop(reused);
}

#[test]
fn a_dropped_waiter_leaves_the_queue() {
    let pool = pool(1024, 1024);
    let held = pool.acquire(512).unwrap();
    drop(wait(&pool, 1024));
    drop(pool.acquire(512).unwrap());
    drop(held);
}

#[test]
fn a_buffer_that_its_waiter_does_not_take_is_kept_in_its_size_class() {
    let pool = pool(1024, 1024);
    let held = pool.acquire(1024).unwrap();
    let guard = wait(&pool, 1024);
    drop(held);
    drop(guard);
    let stats = pool.stats();
    assert_eq!((stats.buckets.len(), stats.idle_bytes), (1, 1024));
}

#[test]
fn after_a_wait_the_pool_keeps_as_much_as_before() {
    let pool = Pool::new(Config {
        min_size: 1024,
        max_size: 1024,
        max_idle_bytes: Some(1024),
        max_bytes: Some(1024),
        ..Config::DEFAULT
    })
    .unwrap();
    drop(pool.acquire(1024).unwrap()); // the class gets all quota
    let held = pool.acquire(1024).unwrap();
    drop(wait(&pool, 1024)); // takes all quota back
    drop(held);
    assert_eq!(pool.stats().idle_bytes, 1024);
}

#[test]
fn a_thread_that_is_unparked_for_another_reason_waits_on() {
    let pool = Arc::new(pool(1024, 1024));
    let held = Pool::acquire_owned(&pool, 1024).unwrap();
    let theirs = Arc::clone(&pool);
    let waiting = thread::spawn(move || theirs.acquire_timeout(1024, Duration::MAX).map(drop));
    while pool.stats().waits == 0 {
        thread::yield_now();
    }
    for _ in 0..20 {
        waiting.thread().unpark();
        thread::sleep(Duration::from_millis(1));
    }
    drop(held);
    assert_eq!(waiting.join().unwrap(), Ok(()));
}

#[test]
fn no_more_idle_memory_is_freed_than_the_waiters_need() {
    let pool = pool(1024, 1536);
    drop([512, 1024].map(|n| pool.acquire(n).unwrap()));
    let guard = wait(&pool, 512);
    assert_eq!(pool.stats().idle_bytes, 1024);
    assert!(is_granted(&guard, 512));
}
