//! The configuration of a pool with its defaults, and which configurations are refused.

use std::time::Duration;

use crate::error::Error;
use crate::memory_limit::memory_limit;

/// A `max_size` of this many bytes or more is taken for a mistake.
const MAX_SIZE_LIMIT: u64 = 1 << 40;

/// The configuration of a [`Pool`](crate::Pool).
///
/// ```
/// # use std::time::Duration;
/// # use bytepool::{Config, Pool, Zero};
/// let pool = Pool::new(Config {
///     max_size: 1 << 20,                         // larger requests are served, but not pooled
///     max_bytes: Some(64 << 20),                 // in use and idle together
///     idle_timeout: Some(Duration::from_secs(5)),
///     zero: Zero::Release,                       // idle memory holds no old bytes
///     ..Config::default()
/// })?;
/// # assert_eq!(pool.config().max_bytes, Some(64 << 20));
/// # Ok::<(), bytepool::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The smallest size class in bytes, rounded up to a power of two. Smaller requests get one of its buffers.
    pub min_size: usize,
    /// The largest size that is pooled, in bytes. Larger requests are served and never kept. Sizes above
    /// `max_bytes` are never served.
    pub max_size: usize,
    /// How many idle buffers a size class keeps; 0 keeps none.
    pub max_buffers: usize,
    /// How many idle bytes the whole pool keeps. `None`: 64 MiB, or four times `max_size` if that is more, but
    /// at most half of what the control groups of the process allow (the memory limit of a container).
    pub max_idle_bytes: Option<usize>,
    /// The budget: how many bytes may be in use and idle together, transient ones included. `None`: no limit.
    pub max_bytes: Option<usize>,
    /// After how much time without use [`Pool::decay`](crate::Pool::decay) frees idle memory. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// When reused memory is zeroed.
    pub zero: Zero,
    /// For debugging: returned memory is filled with the byte 0xDB. If it was written to while it was idle,
    /// the next request for it is an error.
    pub poison: bool,
}

/// When reused memory is zeroed. Fresh memory always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zero {
    /// Never: the next holder sees old bytes.
    #[default]
    Never,
    /// When the buffer is returned, so that idle memory holds no old bytes.
    Release,
    /// When the buffer is handed out, as many bytes as were requested.
    Allocate,
}

impl Config {
    /// The value of [`Config::default`]: size classes from 4 KiB to 16 MiB, 16 idle buffers each, 64 MiB
    /// idle in all, freed after 30 seconds without use.
    pub const DEFAULT: Self = Self {
        min_size: 4 << 10,
        max_size: 16 << 20,
        max_buffers: 16,
        max_idle_bytes: None,
        max_bytes: None,
        idle_timeout: Some(Duration::from_secs(30)),
        zero: Zero::Never,
        poison: false,
    };

    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self {
            min_size, max_size, ..
        } = *self;
        if max_size as u64 >= MAX_SIZE_LIMIT {
            return Err(Error::MaxSizeTooLarge {
                max_size,
                limit: MAX_SIZE_LIMIT,
            });
        }
        if min_size > max_size {
            return Err(Error::MinSizeAboveMaxSize { min_size, max_size });
        }
        Ok(())
    }

    /// How many idle bytes the whole pool keeps: `max_idle_bytes`, or its default.
    #[must_use]
    pub fn idle_limit(&self) -> usize {
        self.max_idle_bytes
            .unwrap_or_else(|| self.default_idle_limit(memory_limit()))
    }

    fn default_idle_limit(&self, memory_limit: Option<u64>) -> usize {
        let limit = memory_limit.and_then(|limit| usize::try_from(limit / 2).ok());
        let default = self.max_size.saturating_mul(4).max(64 << 20);
        default.min(limit.unwrap_or(usize::MAX))
    }

    /// The largest pooled size: no buffer costs more than the whole budget.
    pub(crate) fn largest_pooled(&self) -> usize {
        self.max_size.min(self.max_bytes.unwrap_or(usize::MAX))
    }

    /// Whether a reused buffer has to be prepared for its next holder.
    pub(crate) fn prepares(&self) -> bool {
        self.poison || self.zero == Zero::Allocate
    }

    /// Whether a returned buffer has to be wiped.
    pub(crate) fn wipes(&self) -> bool {
        self.poison || self.zero == Zero::Release
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn inconsistent_sizes_are_refused() {
        let check = |min_size, max_size| {
            Config {
                min_size,
                max_size,
                ..Config::DEFAULT
            }
            .check()
        };
        assert_eq!(
            check(65, 64).unwrap_err(),
            Error::MinSizeAboveMaxSize {
                min_size: 65,
                max_size: 64
            }
        );
        let (max_size, limit) = (1 << 40, MAX_SIZE_LIMIT);
        assert_eq!(
            check(1, 1 << 40).unwrap_err(),
            Error::MaxSizeTooLarge { max_size, limit }
        );
        assert!(check(1, (1 << 40) - 1).is_ok());
        assert!(check(64, 64).is_ok());
    }

    #[test]
    fn the_default_idle_limit_is_at_most_half_of_the_memory_limit() {
        let default = |max_size, limit| {
            Config {
                max_size,
                ..Config::DEFAULT
            }
            .default_idle_limit(limit)
        };
        assert_eq!(default(16 << 20, None), 64 << 20);
        assert_eq!(default(512 << 20, None), 2 << 30);
        assert_eq!(default(512 << 20, Some(1 << 30)), 512 << 20);
        assert_eq!(default(16 << 20, Some(1 << 30)), 64 << 20);
        assert_eq!(default(16 << 20, Some(100 << 20)), 50 << 20);
    }

    #[test]
    fn the_default_pools_4_kib_to_16_mib() {
        let Config {
            min_size,
            max_size,
            max_buffers,
            ..
        } = Config::default();
        assert_eq!((min_size, max_size, max_buffers), (4096, 16_777_216, 16));
    }
}
