//! Every block that the pool allocates is freed exactly once, with the layout it was allocated with.
//!
//! The ledger is this binary's global allocator and counts the whole process, so there is only one test.
#![cfg(not(loom))]
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::cell::Cell;
use std::sync::Arc;

use bytepool::{Config, Error, Pool};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[path = "ledger/allocator.rs"]
mod ledger;

use ledger::{live, live_at_rest, starved, take_faults};

/// Acquires all sizes, drops every other buffer early, the pool in the middle, the rest late. Returns how many
/// requests borrowed a buffer of a larger size class.
fn exercise(sizes: &[usize], config: Config) -> usize {
    let pool = Arc::new(Pool::new(config).unwrap());
    let (mut late, mut borrowed) = (Vec::new(), 0);
    for (i, &n) in sizes.iter().enumerate() {
        let before = pool.stats();
        let mut buffer = Pool::acquire_owned(&pool, n).unwrap();
        let cost = pool.stats().outstanding_bytes - before.outstanding_bytes;
        let own = before.buckets.iter().find(|bucket| bucket.size >= n);
        borrowed += usize::from(own.is_some_and(|own| cost > own.size as u64));
        buffer.fill(0xAA);
        if i % 2 == 0 {
            late.push(buffer);
        }
    }
    late.truncate(late.len() / 2);
    drop(pool.stats());
    drop(pool);
    for buffer in &late {
        assert!(buffer.iter().all(|&byte| byte == 0xAA));
    }
    borrowed
}

#[test]
fn every_block_is_freed_once_with_its_layout() {
    live_at_rest();
    // The ledger notices a block that is freed with another size.
    let layout = Layout::from_size_align(64, 1).unwrap();
    // SAFETY: the wrong `dealloc` is refused by the ledger, the right one follows.
    unsafe {
        // Without `black_box` the optimiser removes the allocation.
        let block = std::hint::black_box(std::alloc::alloc(layout));
        std::alloc::dealloc(block, Layout::from_size_align(32, 1).unwrap());
        assert_eq!(take_faults(), 1);
        std::alloc::dealloc(block, layout);
    }

    // The ledger can make allocations fail: the first is the bytes, the second their owner.
    for allocations in [0, 1] {
        let pool = Pool::null();
        let refused = starved(allocations, || pool.acquire(100).map(drop));
        assert!(matches!(refused, Err(Error::OutOfMemory { .. })));
        assert_eq!(pool.stats().transient, 0);
    }

    let sizes = prop::collection::vec(0..3000_usize, 0..60);
    let case = (sizes, 0..200_usize, 200..2000_usize, 0..4_usize);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(300));
    let borrowed = Cell::new(0);
    runner
        .run(&case, |(sizes, min_size, max_size, max_buffers)| {
            let before = live();
            let more = exercise(
                &sizes,
                Config {
                    min_size,
                    max_size,
                    max_buffers,
                    ..Config::DEFAULT
                },
            );
            borrowed.set(borrowed.get() + more);
            prop_assert_eq!(live(), before);
            Ok(())
        })
        .unwrap();
    assert!(borrowed.get() > 100, "only {borrowed:?} requests borrowed");

    // Buffers that outlive their pool and are returned on other threads are freed there. The first thread of a
    // process leaves blocks behind for good, so one runs before the count.
    std::thread::spawn(|| ()).join().unwrap();
    let before = live();
    {
        let pool = Arc::new(Pool::new(Config::default()).unwrap());
        let buffers: Vec<_> = (0..40)
            .map(|n| Pool::acquire_owned(&pool, n * 1000).unwrap())
            .collect();
        drop(pool);
        std::thread::spawn(|| drop(buffers)).join().unwrap();
    }
    assert_eq!(live(), before);
    assert_eq!(take_faults(), 0);
}
