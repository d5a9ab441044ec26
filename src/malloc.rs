//! A hint to the C library's malloc: large blocks are to come.

use std::hint::black_box;

use crate::sync::ProcessCount;

/// Blocks from this size on get a mapping of their own from glibc, at first.
const LARGE: usize = 128 << 10;
/// A little less than the largest block from which glibc learns (32 MiB).
const LARGEST: usize = (32 << 20) - (64 << 10);

/// Lets malloc keep the memory of freed blocks of at least `n` bytes for the next ones.
///
/// By default glibc returns a large block to the system when it is freed, so that every page of the next one is
/// faulted in anew. It learns from the blocks that it sees: a freed block of up to 32 MiB raises the size from which
/// blocks are mapped to that of the block, and the free memory that is kept at the end of the heap to twice as much
/// (`mallopt(3)`, `M_MMAP_THRESHOLD` and `M_TRIM_THRESHOLD`). So one block of that size is allocated and freed, once
/// in a process. No page of it is touched. Where a program or a tunable has set these limits, glibc does not learn,
/// and this has no effect.
pub(crate) fn expect_large_blocks(n: usize) {
    static DONE: ProcessCount = ProcessCount::new();
    if n < LARGE || !DONE.add_below(1) {
        return;
    }
    let mut block = Vec::<u8>::new();
    // Without memory for it, malloc learns nothing.
    if cfg!(target_env = "gnu") && block.try_reserve_exact(LARGEST).is_ok() {
        drop(black_box(block));
    }
}
