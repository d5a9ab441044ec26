//! Models of acquiring, returning and freeing without a budget.

use bytepool::{Config, Error, Pool, Stats};
use loom::sync::Arc;
use loom::thread;

use super::{bounded, check, hold, large_model, model, new_pool};

#[test]
fn two_threads_acquire_and_return() {
    large_model(|| {
        let pool = new_pool(1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire(1).unwrap(), 1))
        };
        hold(pool.acquire(1).unwrap(), 2);
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
        let pool = new_pool(2);
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
fn two_threads_return_to_a_bucket_that_keeps_one() {
    model(|| {
        let pool = new_pool(1);
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
fn a_thread_reuses_buffers_that_another_returned() {
    model(|| {
        let pool = new_pool(2);
        let buffers = [(); 2].map(|()| Pool::acquire_owned(&pool, 1).unwrap());
        thread::spawn(move || drop(buffers)).join().unwrap();
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire(1).unwrap(), 1))
        };
        hold(pool.acquire(1).unwrap(), 2);
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
fn a_buffer_is_returned_while_its_pool_is_dropped() {
    model(|| {
        let pool = new_pool(1);
        let buffer = Pool::acquire_owned(&pool, 1).unwrap();
        let other = thread::spawn(move || hold(buffer, 1));
        drop(pool);
        other.join().unwrap();
    });
}

#[test]
fn a_concurrent_snapshot_is_consistent_per_bucket() {
    model(|| {
        let pool = new_pool(1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire(1).unwrap(), 1))
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
fn idle_memory_is_freed_while_another_thread_acquires_and_returns() {
    for free in [
        |pool: &Pool| pool.trim(0),
        |pool: &Pool| pool.decay() + pool.decay(),
    ] {
        large_model(move || {
            let pool = new_pool(1);
            drop(pool.acquire(1).unwrap());
            let other = {
                let pool = Arc::clone(&pool);
                thread::spawn(move || hold(pool.acquire(1).unwrap(), 1))
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
fn a_pool_is_closed_while_another_thread_acquires_and_returns() {
    model(|| {
        let pool = new_pool(1);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || match pool.acquire(1) {
                Ok(buffer) => hold(buffer, 1),
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
fn idle_memory_is_freed_while_the_pool_is_closed() {
    model(|| {
        let pool = new_pool(1);
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
fn three_threads_acquire_and_return() {
    bounded(2, || {
        let pool = new_pool(2);
        let others = [1, 2].map(|stamp| {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire(1).unwrap(), stamp))
        });
        hold(pool.acquire(1).unwrap(), 3);
        others.into_iter().for_each(|other| other.join().unwrap());
        let stats = pool.stats();
        check(&stats, 3, 0);
        assert!((1..=3).contains(&stats.peak_outstanding));
        assert!((1..=2).contains(&stats.buckets[0].depth));
    });
}

#[test]
fn three_threads_acquire_trim_and_take_a_snapshot() {
    bounded(2, || {
        let pool = new_pool(1);
        drop(pool.acquire(1).unwrap());
        let user = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire(1).unwrap(), 1))
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

/// A pool with the two size classes of 2 and 3 bytes.
fn two_classes(max_idle_bytes: Option<usize>) -> Arc<Pool> {
    classes_up_to(3, max_idle_bytes)
}

/// A pool whose size classes are one byte apart, from 2 bytes on.
fn classes_up_to(max_size: usize, max_idle_bytes: Option<usize>) -> Arc<Pool> {
    let config = Config {
        min_size: 2,
        max_size,
        max_buffers: 2,
        max_idle_bytes,
        ..Config::DEFAULT
    };
    Arc::new(Pool::new(config).unwrap())
}

fn check_each(stats: &Stats) {
    for bucket in &stats.buckets {
        assert_eq!(bucket.hits + bucket.misses, bucket.returned, "{bucket:?}");
        let kept = bucket.returned - bucket.freed();
        assert_eq!(kept - bucket.hits, bucket.depth as u64, "{bucket:?}");
    }
}

#[test]
fn quota_moves_from_one_size_class_to_another() {
    model(|| {
        let pool = two_classes(Some(3));
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire(3).unwrap(), 1))
        };
        hold(pool.acquire(2).unwrap(), 2);
        other.join().unwrap();
        let stats = pool.stats();
        assert!((2..=3).contains(&stats.idle_bytes), "{stats:?}");
        check_each(&stats);
    });
}

#[test]
fn a_thread_borrows_a_buffer_while_another_acquires_its_size_class() {
    model(|| {
        let pool = two_classes(None);
        drop(pool.acquire(3).unwrap());
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire(3).unwrap(), 1))
        };
        hold(pool.acquire(2).unwrap(), 2);
        other.join().unwrap();
        let stats = pool.stats();
        check_each(&stats);
        let served: u64 = stats.buckets.iter().map(|bucket| bucket.returned).sum();
        assert_eq!((served, stats.outstanding), (3, 0));
    });
}

#[test]
fn a_thread_borrows_from_two_size_classes_up_while_another_acquires_there() {
    model(|| {
        let pool = classes_up_to(4, None);
        drop([pool.acquire(4).unwrap(), pool.acquire(4).unwrap()]);
        let other = {
            let pool = Arc::clone(&pool);
            thread::spawn(move || hold(pool.acquire(4).unwrap(), 1))
        };
        hold(pool.acquire(2).unwrap(), 2);
        other.join().unwrap();
        let stats = pool.stats();
        check_each(&stats);
        // Either the two idle buffers served both requests, or one was taken first, and the last stayed.
        // Size classes without a miss are not in the list.
        let [smaller @ .., large] = stats.buckets.as_slice() else {
            panic!("no size class: {stats:?}")
        };
        let misses: u64 = smaller.iter().map(|bucket| bucket.misses).sum();
        assert_eq!((large.hits + misses, large.misses), (2, 2), "{stats:?}");
        assert_eq!((large.depth, stats.outstanding), (2, 0));
    });
}
