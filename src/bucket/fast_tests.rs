//! Tests of what needs no lock, or only that of one shard at a time.

use super::tests::{give, on_another_thread};
use super::*;

#[test]
fn an_item_is_returned_and_taken_under_the_lock_of_one_shard() {
    let bucket = Bucket::new(8, 16, usize::MAX).unwrap();
    give(&bucket, 1); // all locks, for the first quota
    assert_eq!(bucket.push(2, ReturnedBy::Release), Pushed::Kept);
    assert_eq!(
        (bucket.pop(), bucket.pop(), bucket.pop()),
        (Some(2), Some(1), None)
    );
}

#[test]
fn items_of_every_shard_are_found_without_all_locks() {
    let bucket = Bucket::new(8, 64, usize::MAX).unwrap();
    for item in 0..4 * SHARDS {
        on_another_thread(|| give(&bucket, item));
    }
    for _ in 0..4 * SHARDS {
        assert!(bucket.pop().or_else(|| bucket.steal()).is_some());
    }
    assert!(bucket.steal().is_none());
}
