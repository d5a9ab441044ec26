//! Every block the pool allocates is freed exactly once, with the size and alignment it was made with.
//!
//! The ledger is this binary's global allocator.
//! One test, because the count of live blocks belongs to the whole process.
#![cfg(not(loom))]
#![allow(unsafe_code)]

use std::alloc::Layout;
use std::sync::Arc;

use bytepool::{Config, Error, Pool};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

#[path = "ledger/allocator.rs"]
mod ledger;

use ledger::{live, live_at_rest, starved, take_faults};

/// Acquires all sizes, drops every other buffer early, the pool in the middle, the rest late.
fn exercise(sizes: &[usize], config: Config) {
    let pool = Arc::new(Pool::new(config).unwrap());
    let mut late = Vec::new();
    for (i, &n) in sizes.iter().enumerate() {
        let mut buffer = Pool::acquire_owned(&pool, n).unwrap();
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
}

#[test]
fn every_block_is_freed_once_as_what_it_was_made() {
    live_at_rest();
    // The ledger itself must notice: a block freed as another size is a fault.
    let layout = Layout::from_size_align(64, 1).unwrap();
    // SAFETY: the wrong `dealloc` is refused by the ledger, the right one follows.
    unsafe {
        // Seen by the optimiser as used, else it leaves out the whole pair.
        let block = std::hint::black_box(std::alloc::alloc(layout));
        std::alloc::dealloc(block, Layout::from_size_align(32, 1).unwrap());
        assert_eq!(take_faults(), 1);
        std::alloc::dealloc(block, layout);
    }

    // And it lets memory run out: the first allocation is the bytes, the second what owns them.
    for allocations in [0, 1] {
        let pool = Pool::null();
        let refused = starved(allocations, || pool.acquire(100).map(drop));
        assert!(matches!(refused, Err(Error::OutOfMemory { .. })));
        assert_eq!(pool.stats().transient, 0);
    }

    let sizes = prop::collection::vec(0..3000_usize, 0..60);
    let case = (sizes, 0..200_usize, 200..2000_usize, 0..4_usize);
    let mut runner = TestRunner::new(ProptestConfig::with_cases(300));
    runner
        .run(&case, |(sizes, min_size, max_size, max_buffers)| {
            let before = live();
            exercise(
                &sizes,
                Config {
                    min_size,
                    max_size,
                    max_buffers,
                    ..Config::DEFAULT
                },
            );
            prop_assert_eq!(live(), before);
            Ok(())
        })
        .unwrap();

    // Buffers that outlive their pool, and go home on other threads, are freed there. Joined, so that
    // the thread's own blocks are gone; the first thread of a process leaves some behind for good.
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
