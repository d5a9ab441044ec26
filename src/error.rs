//! What can go wrong, with the numbers.

/// Why a pool could not be made or a request not be served. The pool is unchanged and usable after
/// each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configured smallest size is above the largest.
    #[error("min_size ({min_size} bytes) is above max_size ({max_size} bytes)")]
    MinSizeAboveMaxSize {
        /// What was given, in bytes.
        min_size: usize,
        /// What was given, in bytes.
        max_size: usize,
    },
    /// The configured largest size is out of all proportion.
    #[error("max_size ({max_size} bytes) must be below {limit} bytes (2^40)")]
    MaxSizeTooLarge {
        /// What was given, in bytes.
        max_size: usize,
        /// The first size that is refused, in bytes.
        limit: u64,
    },
    /// The configured number of size classes a doubling is none that can be had.
    #[error("steps must be 1, 2 or 4 size classes a doubling, not {steps}")]
    Steps {
        /// What was given.
        steps: usize,
    },
    /// No buffer can have this many bytes on this platform.
    #[error("{requested} bytes are more than one buffer can have on this platform ({limit} bytes)")]
    TooLarge {
        /// What was asked, in bytes.
        requested: usize,
        /// The most that can be asked, in bytes.
        limit: usize,
    },
    /// The system did not give the memory.
    #[error("cannot allocate {requested} bytes")]
    OutOfMemory {
        /// What was asked of the system, in bytes.
        requested: usize,
    },
    /// The budget is used up, or others wait for it already.
    #[error(
        "a buffer of {requested} bytes does not fit in the budget now: {used} of {max_bytes} bytes (max_bytes) \
         are taken, and {waiting} requests wait"
    )]
    Exhausted {
        /// What the buffer takes, in bytes.
        requested: usize,
        /// What is taken, in bytes.
        used: usize,
        /// The budget, in bytes.
        max_bytes: usize,
        /// How many requests wait.
        waiting: usize,
    },
    /// The budget can never hold this.
    #[error(
        "a buffer of {requested} bytes is more than the whole budget of {max_bytes} bytes (max_bytes)"
    )]
    AboveBudget {
        /// What the buffer takes, in bytes.
        requested: usize,
        /// The budget, in bytes.
        max_bytes: usize,
    },
    /// Somebody wrote to memory while it was idle.
    #[error(
        "a buffer of {size} bytes was written to at offset {offset} after it had come home: somebody kept its address"
    )]
    Overwritten {
        /// The capacity of the buffer, in bytes.
        size: usize,
        /// Where the first change is, in bytes.
        offset: usize,
    },
    /// The pool is closed.
    #[error("the pool is closed: it lends no more bytes ({requested} were asked for)")]
    Closed {
        /// What was asked, in bytes.
        requested: usize,
    },
}
