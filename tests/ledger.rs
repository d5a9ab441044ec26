//! Every block the pool allocates is freed exactly once, with the size and alignment it was made with.
//!
//! The ledger is this binary's global allocator. It writes a header in front of each block and checks
//! it when the block comes back, so a box that is freed as another size class, or twice, is caught.
//! One test, because the count of live blocks belongs to the whole process.
#![cfg(not(loom))]
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

use bytepool::{Config, Pool};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const LIVE: usize = 0x11FE_11FE;
const FREED: usize = 0xDEAD_DEAD;

static BLOCKS: AtomicI64 = AtomicI64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);
static FAULTS: AtomicUsize = AtomicUsize::new(0);

struct Ledger;

struct Header {
    state: usize,
    layout: Layout,
}

impl Ledger {
    /// The block with its header, and where the user's part begins.
    fn outer(layout: Layout) -> Option<(Layout, usize)> {
        Layout::new::<Header>().extend(layout).ok()
    }

    fn open(layout: Layout, make: impl FnOnce(Layout) -> *mut u8) -> *mut u8 {
        let Some((outer, offset)) = Self::outer(layout) else {
            return std::ptr::null_mut();
        };
        let block = make(outer);
        if block.is_null() {
            return block;
        }
        BLOCKS.fetch_add(1, SeqCst);
        BYTES.fetch_add(layout.size() as i64, SeqCst);
        // SAFETY: `block` has room for a header at its start, suitably aligned, and `offset` is inside.
        unsafe {
            block.cast::<Header>().write(Header {
                state: LIVE,
                layout,
            });
            block.add(offset)
        }
    }
}

// SAFETY: hands on to `System` with a layout that `outer` computes alike on both ways; a block whose
// header does not fit is a fault that the test reports, and is not freed.
unsafe impl GlobalAlloc for Ledger {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: `outer` is never of size 0.
        Self::open(layout, |outer| unsafe { System.alloc(outer) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        Self::open(layout, |outer| unsafe { System.alloc_zeroed(outer) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some((outer, offset)) = Self::outer(layout) else {
            FAULTS.fetch_add(1, SeqCst);
            return;
        };
        // SAFETY: every block of this allocator has a header `offset` bytes before it, as long as
        // its alignment is right; a header that does not match is reported and left alone.
        unsafe {
            let block = pointer.sub(offset);
            let header = block.cast::<Header>();
            if (*header).state != LIVE || (*header).layout != layout {
                FAULTS.fetch_add(1, SeqCst);
                return;
            }
            (*header).state = FREED;
            System.dealloc(block, outer);
        }
        BLOCKS.fetch_sub(1, SeqCst);
        BYTES.fetch_sub(layout.size() as i64, SeqCst);
    }
}

#[global_allocator]
static LEDGER: Ledger = Ledger;

fn live() -> (i64, i64) {
    (BLOCKS.load(SeqCst), BYTES.load(SeqCst))
}

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
    // The ledger itself must notice: a block freed as another size is a fault.
    let layout = Layout::from_size_align(64, 1).unwrap();
    // SAFETY: the wrong `dealloc` is refused by the ledger, the right one follows.
    unsafe {
        // Seen by the optimiser as used, else it leaves out the whole pair.
        let block = std::hint::black_box(std::alloc::alloc(layout));
        std::alloc::dealloc(block, Layout::from_size_align(32, 1).unwrap());
        assert_eq!(FAULTS.swap(0, SeqCst), 1);
        std::alloc::dealloc(block, layout);
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
    assert_eq!(FAULTS.load(SeqCst), 0);
}
