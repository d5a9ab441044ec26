//! Models of requests that wait for the budget.

use std::time::Duration;

use bytepool::{Error, Pool};
use loom::sync::Arc;
use loom::thread;

use super::{bounded, check, hold, large_model, model, with_budget};

#[test]
fn a_waiter_is_granted_a_returned_buffer() {
    large_model(|| {
        let pool = with_budget(1, Some(1));
        let held = Pool::acquire_owned(&pool, 1).unwrap();
        let other = thread::spawn(move || drop(held));
        drop(pool.acquire_timeout(1, Duration::MAX).unwrap());
        other.join().unwrap();
        let stats = pool.stats();
        check(&stats, 2, 0);
        assert!(stats.idle_bytes <= 1);
    });
}

#[test]
fn two_threads_that_may_wait_acquire_and_return() {
    bounded(5, || {
        let pool = with_budget(1, Some(1));
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire_timeout(1, Duration::MAX).unwrap(), 1))
        };
        hold(pool.acquire_timeout(1, Duration::MAX).unwrap(), 2);
        other.join().unwrap();
        let stats = pool.stats();
        check(&stats, 2, 0);
        assert!(stats.idle_bytes <= 1);
    });
}

#[test]
fn a_waiter_is_granted_freed_transient_memory() {
    model(|| {
        let pool = with_budget(1, Some(2));
        let held = Pool::acquire_owned(&pool, 2).unwrap();
        let other = thread::spawn(move || drop(held));
        drop(pool.acquire_timeout(1, Duration::MAX).unwrap());
        other.join().unwrap();
        check(&pool.stats(), 1, 0);
    });
}

#[test]
fn memory_being_freed_is_always_available() {
    model(|| {
        let pool = with_budget(1, Some(1));
        drop(pool.acquire(1).unwrap());
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.trim(0))
        };
        drop(pool.acquire(1).expect("no buffer is in use"));
        other.join().unwrap();
        check(&pool.stats(), 2, 0);
    });
}

#[test]
fn a_waiter_is_woken_when_the_pool_is_closed() {
    model(|| {
        let pool = with_budget(1, Some(1));
        let held = pool.acquire(1).unwrap();
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let refused = pool.acquire_timeout(1, Duration::MAX).map(drop);
                assert_eq!(refused, Err(Error::Closed { requested: 1 }));
            })
        };
        pool.close();
        other.join().unwrap();
        drop(held);
        assert_eq!(pool.stats().idle_bytes, 0);
    });
}

#[test]
fn each_of_two_waiters_is_granted_a_returned_buffer() {
    bounded(2, || {
        let pool = with_budget(1, Some(1));
        let held = pool.acquire(1).unwrap();
        let others = [1, 2].map(|stamp| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire_timeout(1, Duration::MAX).unwrap(), stamp))
        });
        hold(held, 3);
        others.into_iter().for_each(|other| other.join().unwrap());
        check(&pool.stats(), 3, 0);
    });
}

#[test]
fn three_threads_wait_return_and_close() {
    bounded(2, || {
        let pool = with_budget(1, Some(1));
        let held = Pool::acquire_owned(&pool, 1).unwrap();
        let waiter = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || match pool.acquire_timeout(1, Duration::MAX) {
                Ok(buffer) => hold(buffer, 1),
                Err(error) => assert_eq!(error, Error::Closed { requested: 1 }),
            })
        };
        let owner = thread::spawn(move || hold(held, 2));
        pool.close();
        waiter.join().unwrap();
        owner.join().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.idle_bytes, stats.outstanding), (0, 0));
    });
}
