//! Every interleaving of two threads at whatever touches shared state, through `src/sync.rs`, and those
//! of three that few preemptions make. Races are what this covers; sequences are `model.rs`'s. Each
//! model says how many interleavings it tried.
#![cfg(loom)]

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytepool::{Buffer, Config, Error, Pool, Stats};
use loom::sync::Arc;
use loom::thread;

fn pool(max_buffers: usize) -> Arc<Pool> {
    with_budget(max_buffers, None)
}

fn with_budget(max_buffers: usize, max_bytes: Option<usize>) -> Arc<Pool> {
    let config = Config {
        min_size: 1,
        max_size: 1,
        max_buffers,
        max_bytes,
        idle_timeout: Some(Duration::ZERO),
        ..Config::DEFAULT
    };
    Arc::new(Pool::new(config).unwrap())
}

/// Tries all interleavings, which two threads have few enough of.
fn model(work: impl Fn() + Send + Sync + 'static) {
    explore(loom::model::Builder::new(), "all", work);
}

/// Tries the interleavings in which no more threads than these are put aside before they would be: with
/// three, all take days.
fn bounded(preemptions: usize, work: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000; // of which two that wait for the third take many
    let which = format!("up to {preemptions} preemptions");
    explore(builder, &which, work);
}

fn explore(builder: loom::model::Builder, which: &str, work: impl Fn() + Send + Sync + 'static) {
    let tried = std::sync::Arc::new(AtomicU64::new(0));
    let count = std::sync::Arc::clone(&tried);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        work();
    });
    let test = std::thread::current().name().map(str::to_owned);
    println!(
        "{tried:?} interleavings, {which}: {}",
        test.unwrap_or_default()
    );
}

/// One owner at a time: whoever holds the buffer writes its stamp and must find it unchanged.
fn use_up<P: Deref<Target = Pool>>(mut buffer: Buffer<P>, stamp: u8) {
    buffer[0] = stamp;
    thread::yield_now();
    assert_eq!(buffer[0], stamp);
}

fn check(stats: &Stats, served: u64, out: u64) {
    let [bucket] = stats.buckets.as_slice() else {
        panic!("one class was used: {stats:?}")
    };
    assert_eq!(bucket.hits + bucket.misses, served);
    assert_eq!(bucket.hits + bucket.misses, bucket.returned + out);
    assert_eq!(
        bucket.returned - bucket.freed() - bucket.hits,
        bucket.depth as u64
    );
    assert_eq!(stats.outstanding, out);
    assert_eq!(stats.outstanding_bytes, out);
    assert!(stats.peak_outstanding >= stats.outstanding);
}

#[test]
fn two_threads_acquire_and_give_back() {
    model(|| {
        let pool = pool(1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || use_up(pool.acquire(1).unwrap(), 1))
        };
        use_up(pool.acquire(1).unwrap(), 2);
        other.join().unwrap();
        let stats = pool.stats();
        check(&stats, 2, 0);
        assert!((1..=2).contains(&stats.peak_outstanding));
        assert_eq!(stats.buckets[0].depth, 1);
    });
}

#[test]
fn two_threads_race_for_one_idle_buffer() {
    model(|| {
        let pool = pool(2);
        drop(pool.acquire(1).unwrap());
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || Pool::acquire_owned(&pool, 1).unwrap())
        };
        let mine = pool.acquire(1).unwrap();
        let theirs = other.join().unwrap();
        let stats = pool.stats();
        check(&stats, 3, 2);
        assert_eq!((stats.buckets[0].hits, stats.buckets[0].misses), (1, 2));
        assert_eq!(stats.peak_outstanding, 2, "the peak is exact");
        drop((mine, theirs));
        check(&pool.stats(), 3, 0);
    });
}

#[test]
fn two_threads_give_back_to_a_bucket_with_room_for_one() {
    model(|| {
        let pool = pool(1);
        let [first, second] = [(); 2].map(|()| Pool::acquire_owned(&pool, 1).unwrap());
        let other = thread::spawn(move || drop(first));
        drop(second);
        other.join().unwrap();
        let stats = pool.stats();
        check(&stats, 2, 0);
        assert_eq!((stats.buckets[0].depth, stats.buckets[0].discarded), (1, 1));
    });
}

#[test]
fn what_one_thread_returned_another_takes() {
    model(|| {
        let pool = pool(2);
        let buffers = [(); 2].map(|()| Pool::acquire_owned(&pool, 1).unwrap());
        thread::spawn(move || drop(buffers)).join().unwrap();
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || use_up(pool.acquire(1).unwrap(), 1))
        };
        use_up(pool.acquire(1).unwrap(), 2);
        other.join().unwrap();
        let stats = pool.stats();
        check(&stats, 4, 0);
        assert_eq!(
            (stats.buckets[0].misses, stats.buckets[0].discarded),
            (2, 0)
        );
        assert_eq!(stats.buckets[0].depth, 2);
    });
}

#[test]
fn a_buffer_goes_home_while_its_pool_is_dropped() {
    model(|| {
        let pool = pool(1);
        let buffer = Pool::acquire_owned(&pool, 1).unwrap();
        let other = thread::spawn(move || use_up(buffer, 1));
        drop(pool);
        other.join().unwrap();
    });
}

#[test]
fn a_snapshot_taken_meanwhile_is_consistent_bucket_by_bucket() {
    model(|| {
        let pool = pool(1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || use_up(pool.acquire(1).unwrap(), 1))
        };
        let stats = pool.stats();
        for bucket in &stats.buckets {
            assert!(bucket.outstanding() <= 1, "{bucket:?}");
            assert_eq!(
                bucket.returned - bucket.freed() - bucket.hits,
                bucket.depth as u64
            );
        }
        assert!(stats.outstanding <= 1);
        other.join().unwrap();
    });
}

#[test]
fn idle_memory_is_freed_while_another_thread_takes_and_returns_it() {
    for free in [
        |pool: &Pool| pool.trim(0),
        |pool: &Pool| pool.decay() + pool.decay(),
    ] {
        model(move || {
            let pool = pool(1);
            drop(pool.acquire(1).unwrap());
            let other = {
                let pool = Arc::clone(&pool);
                thread::spawn(move || use_up(pool.acquire(1).unwrap(), 1))
            };
            free(&pool);
            other.join().unwrap();
            check(&pool.stats(), 2, 0);
            free(&pool);
            assert_eq!(pool.stats().idle_bytes, 0);
        });
    }
}

#[test]
fn a_pool_is_closed_while_another_thread_takes_and_returns() {
    model(|| {
        let pool = pool(1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || match pool.acquire(1) {
                Ok(buffer) => use_up(buffer, 1),
                Err(error) => assert_eq!(error, Error::Closed { requested: 1 }),
            })
        };
        pool.close();
        other.join().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.idle_bytes, stats.outstanding), (0, 0));
    });
}

#[test]
fn who_waits_is_served_by_who_returns() {
    model(|| {
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
fn two_who_may_wait_take_and_return() {
    bounded(5, || {
        let pool = with_budget(1, Some(1));
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || use_up(pool.acquire_timeout(1, Duration::MAX).unwrap(), 1))
        };
        use_up(pool.acquire_timeout(1, Duration::MAX).unwrap(), 2);
        other.join().unwrap();
        let stats = pool.stats();
        check(&stats, 2, 0);
        assert!(stats.idle_bytes <= 1);
    });
}

#[test]
fn who_waits_is_served_when_transient_memory_is_freed() {
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
fn what_is_freed_meanwhile_is_idle_or_to_be_had() {
    model(|| {
        let pool = with_budget(1, Some(1));
        drop(pool.acquire(1).unwrap());
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.trim(0))
        };
        drop(pool.acquire(1).expect("nobody has it"));
        other.join().unwrap();
        check(&pool.stats(), 2, 0);
    });
}

#[test]
fn who_waits_is_told_when_the_pool_is_closed() {
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
fn idle_memory_is_freed_while_the_pool_is_closed() {
    model(|| {
        let pool = pool(1);
        drop(pool.acquire(1).unwrap());
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || pool.trim(0))
        };
        pool.close();
        let trimmed = other.join().unwrap();
        let stats = pool.stats();
        check(&stats, 1, 0);
        let [bucket] = stats.buckets.as_slice() else {
            panic!("{stats:?}")
        };
        assert_eq!(
            (bucket.trimmed, bucket.trimmed + bucket.closed),
            (trimmed as u64, 1)
        );
    });
}

#[test]
fn three_threads_acquire_and_give_back() {
    bounded(2, || {
        let pool = pool(2);
        let others = [1, 2].map(|stamp| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || use_up(pool.acquire(1).unwrap(), stamp))
        });
        use_up(pool.acquire(1).unwrap(), 3);
        others.into_iter().for_each(|other| other.join().unwrap());
        let stats = pool.stats();
        check(&stats, 3, 0);
        assert!((1..=3).contains(&stats.peak_outstanding));
        assert!((1..=2).contains(&stats.buckets[0].depth));
    });
}

#[test]
fn of_two_who_wait_each_is_served_by_who_returns() {
    bounded(2, || {
        let pool = with_budget(1, Some(1));
        let held = pool.acquire(1).unwrap();
        let others = [1, 2].map(|stamp| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || use_up(pool.acquire_timeout(1, Duration::MAX).unwrap(), stamp))
        });
        use_up(held, 3);
        others.into_iter().for_each(|other| other.join().unwrap());
        check(&pool.stats(), 3, 0);
    });
}

#[test]
fn one_takes_and_returns_while_one_frees_what_is_idle_and_one_looks() {
    bounded(2, || {
        let pool = pool(1);
        drop(pool.acquire(1).unwrap());
        let user = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || use_up(pool.acquire(1).unwrap(), 1))
        };
        let reader = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || {
                let stats = pool.stats();
                check(
                    &stats,
                    stats.buckets[0].hits + stats.buckets[0].misses,
                    stats.outstanding,
                );
            })
        };
        pool.trim(0);
        user.join().unwrap();
        reader.join().unwrap();
        check(&pool.stats(), 2, 0);
    });
}

#[test]
fn one_waits_and_one_returns_while_one_closes_the_pool() {
    bounded(2, || {
        let pool = with_budget(1, Some(1));
        let held = Pool::acquire_owned(&pool, 1).unwrap();
        let waiter = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || match pool.acquire_timeout(1, Duration::MAX) {
                Ok(buffer) => use_up(buffer, 1),
                Err(error) => assert_eq!(error, Error::Closed { requested: 1 }),
            })
        };
        let owner = thread::spawn(move || use_up(held, 2));
        pool.close();
        waiter.join().unwrap();
        owner.join().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.idle_bytes, stats.outstanding), (0, 0));
    });
}

#[test]
fn room_goes_from_one_class_to_another() {
    model(|| {
        let pool = Arc::new(
            Pool::new(Config {
                min_size: 1,
                max_size: 2,
                max_buffers: 2,
                max_idle_bytes: Some(2),
                ..Config::DEFAULT
            })
            .unwrap(),
        );
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || use_up(pool.acquire(2).unwrap(), 1))
        };
        use_up(pool.acquire(1).unwrap(), 2);
        other.join().unwrap();
        let stats = pool.stats();
        assert!((1..=2).contains(&stats.idle_bytes), "{stats:?}");
        for bucket in &stats.buckets {
            let kept = bucket.returned - bucket.freed();
            assert_eq!(kept - bucket.hits, bucket.depth as u64);
        }
    });
}
