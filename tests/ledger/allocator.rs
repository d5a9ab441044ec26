//! A global allocator that keeps a ledger: it writes a header in front of each block and checks it when
//! the block comes back, so a box that is freed as another size class, or twice, is caught.
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
    /// How many allocations are left to this thread before one fails. No destructor, so it is always there.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[global_allocator]
static LEDGER: Ledger = Ledger;

/// The blocks that are there now, and the bytes in them.
pub fn live() -> (i64, i64) {
    (BLOCKS.load(SeqCst), BYTES.load(SeqCst))
}

/// The same, once it stays as it is: the thread that runs the tests needs some, and then waits.
#[allow(dead_code, reason = "only where a test begins")]
pub fn live_at_rest() -> (i64, i64) {
    loop {
        let before = live();
        thread::sleep(Duration::from_millis(100));
        if live() == before {
            return before;
        }
    }
}

/// How many blocks came back wrongly since this was last asked.
pub fn take_faults() -> usize {
    FAULTS.swap(0, SeqCst)
}

/// Does the work with so many allocations, after which there is no memory left for this thread.
#[allow(
    dead_code,
    reason = "not every test that keeps a ledger is out of memory"
)]
pub fn starved<R>(after: usize, work: impl FnOnce() -> R) -> R {
    LEFT.set(after);
    let result = work();
    LEFT.set(usize::MAX);
    result
}

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
        let left = LEFT.get();
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
