//! The error type of the core.

/// Why a pool was not made or a request was not served. The pool is unchanged and usable after each.
///
/// ```
/// # use bytepool::{Config, Error, Pool};
/// let refused = Pool::new(Config { min_size: 2048, max_size: 1024, ..Config::default() });
/// let error = Error::MinSizeAboveMaxSize { min_size: 2048, max_size: 1024 };
/// assert_eq!(refused.err(), Some(error));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The smallest configured size is above the largest.
    #[error("min_size ({min_size} bytes) is above max_size ({max_size} bytes)")]
    MinSizeAboveMaxSize {
        /// The configured `min_size`, in bytes.
        min_size: usize,
        /// The configured `max_size`, in bytes.
        max_size: usize,
    },
    /// The largest configured size is too large to be meant.
    #[error("max_size ({max_size} bytes) must be below {limit} bytes (2^40)")]
    MaxSizeTooLarge {
        /// The configured `max_size`, in bytes.
        max_size: usize,
        /// The first size that is refused, in bytes.
        limit: u64,
    },
    /// No buffer can have this many bytes on this platform.
    #[error("{requested} bytes are more than one buffer can have on this platform ({limit} bytes)")]
    TooLarge {
        /// The requested size, in bytes.
        requested: usize,
        /// The largest size that can be requested, in bytes.
        limit: usize,
    },
    /// The system has no memory left.
    #[error("cannot allocate {requested} bytes: the system has no memory left")]
    OutOfMemory {
        /// The size requested from the system, in bytes.
        requested: usize,
    },
    /// The budget is used up, or other requests wait for it already.
    #[error(
        "a buffer of {requested} bytes does not fit: {used} of {max_bytes} bytes (max_bytes) are taken, \
         {waiters} waiters"
    )]
    Exhausted {
        /// The capacity of the buffer in bytes.
        requested: usize,
        /// How much of the budget is taken, in bytes.
        used: usize,
        /// The budget, in bytes.
        max_bytes: usize,
        /// How many requests wait for the budget.
        waiters: usize,
    },
    /// The buffer is larger than the whole budget, so waiting does not help.
    #[error(
        "a buffer of {requested} bytes never fits: the whole budget is {max_bytes} bytes (max_bytes)"
    )]
    AboveBudget {
        /// The capacity of the buffer in bytes.
        requested: usize,
        /// The budget, in bytes.
        max_bytes: usize,
    },
    /// Idle memory was written to.
    #[error(
        "an idle buffer of {size} bytes was written to at offset {offset}: its address was kept after its return"
    )]
    Overwritten {
        /// The capacity of the buffer, in bytes.
        size: usize,
        /// The offset of the first changed byte.
        offset: usize,
    },
    /// The pool is closed.
    #[error("the pool is closed: {requested} bytes were requested")]
    Closed {
        /// The requested size, in bytes.
        requested: usize,
    },
}
