//! Tests of a bucket and its shards.

use std::sync::Barrier;
use std::thread;

use super::ReturnedBy::{Drop, Release};
use super::*;
use crate::config::Config;

/// Runs the work on a new thread, which usually has another shard.
pub(super) fn on_another_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(work).join().unwrap())
}

fn pop<T>(bucket: &Bucket<T>) -> Result<T, Miss> {
    let idle = bucket.pop().or_else(|| bucket.steal());
    idle.map_or_else(|| bucket.pop_slow(), Ok)
}

/// A budget without limits that matter here.
fn budget() -> Budget {
    Budget::new(&Config::DEFAULT)
}

/// Pushes the item, and returns it if the bucket is full.
fn push<T>(bucket: &Bucket<T>, item: T, by: ReturnedBy) -> Option<T> {
    let Pushed::Refused(item) = bucket.push(item, by) else {
        return None;
    };
    let (item, refusal) = bucket.push_slow(item, by, &budget()).err()?;
    assert_eq!(refusal, Refusal::Full);
    Some(item)
}

/// Pushes the item, and frees it if the bucket is full.
pub(super) fn give<T>(bucket: &Bucket<T>, item: T) {
    let _ = push(bucket, item, Release);
}

/// No shard exceeds its quota, and the quotas together do not exceed the limit of the class.
fn check<T>(bucket: &Bucket<T>) {
    let locked = bucket.lock();
    for shard in &locked.shards {
        assert!(shard.depth() <= shard.quota && shard.depth() <= shard.capacity());
    }
    let quota: usize = locked.shards.iter().map(|shard| shard.quota).sum();
    assert!(quota <= locked.totals.limit, "{quota}");
}

#[test]
fn newest_first_and_never_more_than_the_limit() {
    let bucket = Bucket::new(8, 2, usize::MAX).unwrap();
    assert!(pop(&bucket).is_err());
    for item in 1..=2 {
        assert_eq!(push(&bucket, item, Release), None);
    }
    assert_eq!(push(&bucket, 3, Drop), Some(3));
    assert_eq!((pop(&bucket).unwrap(), pop(&bucket).unwrap()), (2, 1));
    let (stats, dropped) = bucket.stats();
    assert_eq!((stats.hits, stats.misses, stats.depth), (2, 1, 0));
    assert_eq!((stats.returned, stats.discarded, dropped), (3, 1, 1));
}

#[test]
fn a_limit_of_zero_keeps_nothing() {
    let bucket = Bucket::new(8, 0, usize::MAX).unwrap();
    assert_eq!(push(&bucket, 1, Release), Some(1));
    assert_eq!(bucket.stats().0.discarded, 1);
}

#[test]
fn one_thread_alone_can_use_the_whole_class_newest_first() {
    for limit in [1, 2, 3, 5, 16, 100] {
        let bucket = Bucket::new(8, limit, usize::MAX).unwrap();
        for item in 0..limit {
            assert_eq!(push(&bucket, item, Release), None, "{limit}");
        }
        assert_eq!(push(&bucket, limit, Release), Some(limit));
        let popped: Vec<_> = (0..limit).map(|_| pop(&bucket).unwrap()).collect();
        assert!(popped.is_sorted_by(|a, b| a > b), "{popped:?}");
        assert!(pop(&bucket).is_err());
    }
}

#[test]
fn the_limit_bounds_all_shards_together() {
    for limit in [0, 1, 2, 3, 5, 16] {
        let bucket = Bucket::new(8, limit, usize::MAX).unwrap();
        for _ in 0..3 * SHARDS {
            on_another_thread(|| (0..3).for_each(|item| give(&bucket, item)));
        }
        assert_eq!(bucket.stats().0.depth, limit.min(9 * SHARDS));
        check(&bucket);
    }
}

#[test]
fn a_full_shard_leaves_no_quota_to_the_others() {
    for limit in [0, 1, 7, 16, 100] {
        let bucket = Bucket::new(8, limit, usize::MAX).unwrap();
        (0..limit).for_each(|item| assert_eq!(push(&bucket, item, Release), None));
        for _ in 0..2 * SHARDS {
            on_another_thread(|| assert_eq!(push(&bucket, 0, Release), Some(0)));
        }
        check(&bucket);
    }
}

#[test]
fn with_all_locks_held_every_idle_item_is_found() {
    let bucket = Bucket::new(8, 30, usize::MAX).unwrap();
    for item in 0..2 * SHARDS {
        on_another_thread(|| give(&bucket, item));
    }
    for _ in 0..2 * SHARDS {
        assert!(bucket.lock().pop().is_ok());
        check(&bucket);
    }
    assert!(bucket.lock().pop().is_err());
}

#[test]
fn every_item_that_other_threads_returned_is_found() {
    let bucket = Bucket::new(8, 30, usize::MAX).unwrap();
    for thread in 0..SHARDS {
        on_another_thread(|| (0..5).for_each(|item| give(&bucket, 5 * thread + item)));
    }
    let mut popped: Vec<_> = (0..5 * SHARDS).map(|_| pop(&bucket).unwrap()).collect();
    popped.sort_unstable();
    check(&bucket);
    assert_eq!(popped, (0..5 * SHARDS).collect::<Vec<_>>());
    assert!(pop(&bucket).is_err());
}

#[test]
fn at_least_half_of_the_unused_quota_goes_to_the_thread_that_returns() {
    let bucket = Bucket::new(8, 16, usize::MAX).unwrap();
    give(&bucket, 1);
    let quotas = bucket.lock().shards.each_ref().map(|shard| shard.quota);
    assert_eq!(quotas, [10, 2, 2, 2]);
}

#[test]
fn shards_never_grow_under_a_lock() {
    let bucket = Bucket::new(8, 3, usize::MAX).unwrap();
    let reserved = || bucket.lock().shards.each_ref().map(|s| s.capacity());
    let before = reserved();
    for item in 0..10 {
        on_another_thread(|| give(&bucket, item));
        drop(pop(&bucket));
        give(&bucket, item);
    }
    let mut after = reserved();
    after.sort_unstable();
    assert_eq!(after, before);
}

#[test]
fn an_undone_miss_leaves_no_trace() {
    for peak in [0, 2] {
        let bucket = Bucket::new(8, 0, usize::MAX).unwrap();
        let misses: Vec<_> = (0..peak).map(|_| pop(&bucket)).collect();
        misses.iter().for_each(|_| give(&bucket, 0));
        let before = bucket.stats();
        let miss = pop(&bucket).unwrap_err();
        assert_eq!(bucket.stats().0.peak_outstanding, peak.max(1));
        bucket.undo_miss(&miss);
        assert_eq!(bucket.stats(), before);
    }
}

#[test]
fn the_peak_is_the_most_items_in_use_together() {
    let bucket = Bucket::new(8, 3, usize::MAX).unwrap();
    for round in 0..3 {
        assert_eq!(pop(&bucket).is_err(), round == 0);
        assert_eq!(push(&bucket, 0, Release), None);
    }
    assert_eq!(bucket.stats().0.peak_outstanding, 1);
    drop((pop(&bucket), pop(&bucket)));
    give(&bucket, 1);
    give(&bucket, 2);
    drop(pop(&bucket));
    assert_eq!(bucket.stats().0.peak_outstanding, 2);
}

#[test]
fn an_undone_miss_does_not_lower_a_peak_that_a_later_miss_raised() {
    let bucket = Bucket::<u8>::new(8, 0, usize::MAX).unwrap();
    pop(&bucket).unwrap_err();
    let failed = pop(&bucket).unwrap_err();
    pop(&bucket).unwrap_err();
    assert_eq!(push(&bucket, 1, Release), Some(1));
    bucket.undo_miss(&failed);
    assert!(bucket.stats().0.peak_outstanding >= 2);
}

#[test]
fn a_drained_bucket_is_empty_and_every_return_asks_for_quota() {
    let bucket = Bucket::new(8, 40, usize::MAX).unwrap();
    (0..20).for_each(|item| give(&bucket, item));
    on_another_thread(|| (20..40).for_each(|item| give(&bucket, item)));
    let before = bucket.stats().0;
    let mut items = Vec::new();
    loop {
        check(&bucket);
        let evicted = bucket.drain(Reason::Closed, &budget());
        if evicted.count == 0 {
            break;
        }
        items.extend(evicted.items.into_iter().flatten());
    }
    items.sort_unstable();
    assert!(items.into_iter().eq(0..40));
    assert_eq!(bucket.lock().quota(), 0);
    let drained = BucketStats {
        depth: 0,
        closed: 40,
        ..before
    };
    assert_eq!(bucket.stats().0, drained);
    assert_eq!(bucket.push(1, Release), Pushed::Refused(1));
    let closed = budget();
    closed.close();
    let refused = bucket.push_slow(1, Release, &closed);
    assert_eq!(refused, Err((1, Refusal::NoQuota)));
    assert_eq!(
        bucket.stats().0,
        drained,
        "a return without quota is not counted yet"
    );
    bucket.count_return(Drop, Some(Reason::Closed));
    let stats = bucket.stats();
    assert_eq!((stats.0.returned, stats.0.closed, stats.1), (41, 41, 1));
}

#[test]
fn the_oldest_items_are_evicted_with_their_quota() {
    let bucket = Bucket::new(8, 16, usize::MAX).unwrap();
    (0..12).for_each(|item| give(&bucket, item));
    let quota = bucket.lock().quota();
    let evicted = bucket.evict(3, Victims::Any, Reason::Trimmed, &budget());
    assert_eq!(evicted.count, 3);
    assert!(evicted.items.into_iter().flatten().eq(0..3));
    assert_eq!(bucket.lock().quota(), quota - 3);
    assert_eq!((bucket.depth(), bucket.stats().0.trimmed), (9, 3));
    (12..19).for_each(|item| give(&bucket, item));
    check(&bucket);
}

#[test]
fn items_not_used_since_the_last_reset_are_evicted() {
    let bucket = Bucket::new(8, 16, usize::MAX).unwrap();
    (0..6).for_each(|item| give(&bucket, item));
    let unused = || {
        bucket.evict(
            usize::MAX,
            Victims::UnusedSinceEviction,
            Reason::Capped,
            &budget(),
        )
    };
    assert_eq!(unused().count, 0, "all were returned since the last reset");
    bucket.reset_low_water();
    let busy: Vec<_> = (0..4).map(|_| pop(&bucket).unwrap()).collect();
    busy.into_iter().rev().for_each(|item| give(&bucket, item));
    assert!(unused().items.into_iter().flatten().eq(0..2));
    assert_eq!(unused().count, 0);
    bucket.reset_low_water();
    assert!(
        unused().items.into_iter().flatten().eq(2..6),
        "the newest as well"
    );
    assert_eq!((bucket.stats().0.capped, bucket.depth()), (6, 0));
}

#[test]
fn a_reset_between_decays_does_not_make_used_items_unused() {
    let bucket = Bucket::new(8, 16, usize::MAX).unwrap();
    (0..6).for_each(|item| give(&bucket, item));
    bucket.begin_decay();
    let busy: Vec<_> = (0..4).map(|_| pop(&bucket).unwrap()).collect();
    busy.into_iter().rev().for_each(|item| give(&bucket, item));
    bucket.reset_low_water();
    bucket.reset_low_water();
    let busy = pop(&bucket).unwrap();
    give(&bucket, busy);
    let unused = || {
        bucket.evict(
            usize::MAX,
            Victims::UnusedSinceDecay,
            Reason::Decayed,
            &budget(),
        )
    };
    assert!(unused().items.into_iter().flatten().eq(0..2));
    assert_eq!(unused().count, 0);
    bucket.begin_decay();
    assert!(unused().items.into_iter().flatten().eq(2..6));
}

#[test]
fn unused_quota_can_be_reclaimed() {
    let bucket = Bucket::new(8, 16, usize::MAX).unwrap();
    (0..4).for_each(|item| give(&bucket, item));
    assert_eq!(bucket.reclaim_quota(3, &budget()), 3);
    assert_eq!(bucket.reclaim_quota(100, &budget()), 9);
    assert_eq!((bucket.reclaim_quota(1, &budget()), bucket.depth()), (0, 4));
    check(&bucket);
}

#[test]
fn a_limit_beyond_memory_is_an_error() {
    let error = Bucket::<u8>::new(1, usize::MAX, usize::MAX).unwrap_err();
    assert_eq!(
        error,
        Error::OutOfMemory {
            requested: usize::MAX
        }
    );
}

#[test]
fn counters_are_exact_with_more_threads_than_shards() {
    let bucket = Bucket::new(8, 5, usize::MAX).unwrap();
    let threads = 2 * SHARDS;
    let begin = Barrier::new(threads);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                begin.wait();
                for i in 0..10_000 {
                    let item = pop(&bucket).unwrap_or(i);
                    let _ = push(&bucket, item, if i % 2 == 0 { Drop } else { Release });
                }
            });
        }
    });
    check(&bucket);
    let (stats, dropped) = bucket.stats();
    let all = 10_000 * threads as u64;
    assert_eq!((stats.hits + stats.misses, stats.returned), (all, all));
    assert_eq!(dropped, all / 2);
    assert_eq!(stats.depth as u64, stats.misses - stats.discarded);
    assert!(stats.depth <= 5);
    assert!((1..=threads as u64).contains(&stats.peak_outstanding));
}
