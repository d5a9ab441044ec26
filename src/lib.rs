//! A pool of reusable byte buffers for servers that handle large messages.
//!
//! ```
//! use bytepool::{Config, Pool};
//!
//! let pool = Pool::new(Config { max_buffers: 8, ..Config::default() })?;
//! let mut message = pool.acquire(100_000)?;
//! message.fill(7);
//! assert_eq!(message.len(), 100_000);
//! drop(message); // goes home, and the next request of this size class finds it warm
//! assert_eq!(pool.acquire(80_000)?[0], 7);
//! # Ok::<(), bytepool::Error>(())
//! ```
//!
//! [`Pool::null`] is a pool that pools nothing, to be swapped in when a memory bug is suspected.
//! The Python package of the same name is built from this crate with the feature `python`, which
//! adds `src/python/` and nothing else.
//!
//! # Map
//!
//! ```text
//! acquire(n)                                 Buffer dropped
//!    |                                          |
//! pool.rs    which bucket? (size_class.rs)   buffer.rs   Drop is the only way home
//!    |                                          |
//! bucket.rs  lock this thread's shelf        pool.rs     give back
//!    |                                          |
//! shelf.rs   pop                             bucket.rs   lock this thread's shelf
//!    |                                          |
//! bucket.rs  empty? look through the         shelf.rs    push
//!    |       others, in the end lock all        |
//! budget.rs  nothing? may there be more?     bucket.rs   no room? lock all, make room,
//!    |                                          |        ask budget.rs for more
//! storage.rs allocate, unlocked              idle.rs     none? others make some, or it is freed
//! ```
//!
//! `queue.rs` is for who waits until the budget has something again, `idle.rs` for all that frees idle
//! memory: a trim, a decay, a close, or want of room.
//!
//! # Lock rules
//!
//! - Under a bucket's locks: pop, push or move a few boxes and count. The vectors behind it never grow
//!   beyond what was reserved when the pool was made. No allocation, no free, no callback, no Python
//!   call. What has to be freed is handed out, a batch on the stack, and dropped after the locks.
//! - One lock at a time, a shelf's, and others' of the same bucket only tried; or all of one bucket:
//!   first its class's, then the shelves' in order. Never locks of two buckets.
//! - The budget's lock is the innermost but for that of a turn in its queue: it may be taken under a
//!   bucket's, and nothing else is taken under it. Only there a list grows, by who lines up. Whoever
//!   is woken is woken without any lock.
//! - No lock at all is held across a call into Python: creating or freeing an object there can run
//!   arbitrary code, which may come back into the pool.
//! - The mutex (`sync.rs`) has no poison, and all that we keep in a thread local is a number without
//!   a destructor, so a thread that panics or exits while it owns buffers is an ordinary case.
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod bucket;
mod budget;
mod buffer;
mod config;
mod error;
mod evict;
mod pool;
#[cfg(feature = "python")]
mod python;
mod size_class;
mod stats;
mod storage;
mod sync;

pub use buffer::Buffer;
pub use config::{Config, Zero};
pub use error::Error;
pub use pool::Pool;
pub use stats::{BucketStats, Stats};

/// Runs the examples of `docs/rust.md` with the doctests.
#[cfg(doctest)]
#[doc = include_str!("../docs/rust.md")]
pub struct RustGuide;
