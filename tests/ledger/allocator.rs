//! A global allocator that keeps a ledger: it writes a header before each block and checks the header when the
//! block is freed. So it catches a block that is freed twice or with another size.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

const LIVE: usize = 0x11FE_11FE;
const FREED: usize = 0xDEAD_DEAD;

static BLOCKS: AtomicI64 = AtomicI64::new(0);
static BYTES: AtomicI64 = AtomicI64::new(0);
static FAULTS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// How many allocations of this thread succeed before one fails. Without a destructor, it is usable until the
    /// thread ends.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// How many threads are in `starved`. Without any, `LEFT` is not read: on Windows with GNU tools its first use in a
/// thread allocates, which would read it again and so on.
static STARVING: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static LEDGER: Ledger = Ledger;

/// How many blocks are allocated, and how many bytes.
pub fn live() -> (i64, i64) {
    (BLOCKS.load(SeqCst), BYTES.load(SeqCst))
}

/// The same, once it no longer changes: the thread that runs the tests allocates, then waits.
#[allow(dead_code, reason = "not every binary uses it")]
pub fn live_at_rest() -> (i64, i64) {
    loop {
        let before = live();
        thread::sleep(Duration::from_millis(100));
        if live() == before {
            return before;
        }
    }
}

/// How many blocks were freed wrongly since the last call.
pub fn take_faults() -> usize {
    FAULTS.swap(0, SeqCst)
}

/// Runs the work; after so many allocations, further ones of this thread fail.
#[allow(dead_code, reason = "not every binary uses it")]
pub fn starved<R>(after: usize, work: impl FnOnce() -> R) -> R {
    LEFT.set(after);
    STARVING.fetch_add(1, SeqCst);
    let result = work();
    STARVING.fetch_sub(1, SeqCst);
    LEFT.set(usize::MAX);
    result
}

struct Ledger;

struct Header {
    state: usize,
    layout: Layout,
}

impl Ledger {
    /// The layout of a block with its header, and the offset of the user's part.
    fn outer(layout: Layout) -> Option<(Layout, usize)> {
        Layout::new::<Header>().extend(layout).ok()
    }

    fn open(layout: Layout, make: impl FnOnce(Layout) -> *mut u8) -> *mut u8 {
        let left = match STARVING.load(SeqCst) {
            0 => usize::MAX,
            _ => LEFT.get(),
        };
        let Some((outer, offset)) = Self::outer(layout).filter(|_| left > 0) else {
            return std::ptr::null_mut();
        };
        if left < usize::MAX {
            LEFT.set(left - 1);
        }
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

// SAFETY: every call passes on to `System`, with the layout that `outer` computes for both allocation and free. A
// block whose header does not match is counted as a fault and not freed.
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
        // SAFETY: every block of this allocator has a header `offset` bytes before it, if its alignment is
        // right. A header that does not match is counted and left alone.
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
