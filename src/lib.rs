//! A pool of reusable byte buffers for servers that handle large messages.
//!
//! ```
//! use bytepool::{Config, Pool};
//!
//! let pool = Pool::new(Config { max_buffers: 8, ..Config::default() })?;
//! let mut message = pool.acquire(100_000)?;
//! message.fill(7);
//! assert_eq!(message.len(), 100_000);
//! drop(message); // returned to the pool: the next request of this size class reuses it
//! assert_eq!(pool.acquire(80_000)?[0], 7);
//! # Ok::<(), bytepool::Error>(())
//! ```
//!
//! [`Pool::null`] pools nothing: swap it in when you suspect a memory bug. The Python package of the same name is
//! built from this crate with the feature `python`, which adds `src/python/` and nothing else.
//!
//! # Map
//!
//! ```text
//! acquire(n)                                     Buffer dropped
//!   pool/acquire.rs    which bucket?               buffer.rs          the only way to return a buffer
//!   size_class.rs      n -> bucket                 pool/give_back.rs  which bucket?
//!   bucket/mod.rs      lock this thread's shard    bucket/mod.rs      lock this thread's shard
//!   bucket/shard.rs    pop                         bucket/shard.rs    push
//!
//!   no idle buffer in the shard:                   no quota left in the shard:
//!   bucket/locked.rs   lock all shards, pop        bucket/locked.rs   lock all shards, rebalance
//!   budget/requests.rs reserve bytes               budget/mod.rs      grant quota, or hand to a waiter
//!   storage.rs         allocate, unlocked          evict.rs           evict others, or free this one
//! ```
//!
//! `budget/waiter.rs` is a request that waits for the budget, `evict.rs` the eviction policy, and `decay.rs`
//! frees memory that was not used for a while.
//!
//! # Lock rules
//!
//! - Under a bucket's locks: pop, push or move a few items, and count. The vectors never grow beyond the space
//!   that was reserved when the pool was made. No allocation, no free, no callback, no call into Python.
//!   Items to be freed leave in a batch on the stack, and are dropped after the locks are released.
//! - A thread holds one shard's lock and only tries others of the same bucket, or it holds all locks of one
//!   bucket: first that of the totals, then the shards' in order. Never locks of two buckets.
//! - The budget's lock may be taken under a bucket's locks, and no lock under it. The queue of waiters is the
//!   only list that grows under a lock. Waiters are woken without any lock held.
//! - No lock is held across a call into Python: creating or freeing an object there can run any code, and this
//!   code may use the pool.
//! - The mutex (`sync.rs`) has no poison, and the only thread local is a number without a destructor. So a
//!   thread may panic or exit while it owns buffers.
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
mod decay;
mod error;
mod evict;
mod fallible;
mod interval;
mod malloc;
mod memory_limit;
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
