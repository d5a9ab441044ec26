//! How a pool is laid out, and what of it makes no sense.

use std::time::Duration;

use crate::error::Error;
use crate::size_class::SizeClasses;

/// A `max_size` of this many bytes is a mistake, not a wish.
const MAX_SIZE_LIMIT: u64 = 1 << 40;

/// How a [`Pool`](crate::Pool) is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The smallest size class in bytes, rounded up to a power of two. Smaller requests get one of these.
    pub min_size: usize,
    /// The largest size that is pooled, in bytes. Larger requests are served and never kept.
    pub max_size: usize,
    /// How many idle buffers a size class keeps; 0 keeps none.
    pub max_buffers: usize,
    /// How many size classes a doubling has: 1, which is powers of two, 2 or 4. Finer ones waste less of
    /// each buffer, and less often find an idle one of their own.
    pub steps: usize,
    /// How many idle bytes the whole pool keeps. `None`: 64 MiB, or four times `max_size` if that is more.
    pub max_idle_bytes: Option<usize>,
    /// The budget: how many bytes may be out and idle together, transient ones included. `None`: any number.
    pub max_bytes: Option<usize>,
    /// How long memory may lie idle without being needed until [`Pool::decay`](crate::Pool::decay) frees
    /// it. `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// What the next holder of a buffer can see of the last one's bytes.
    pub zero: Zero,
    /// For debugging: memory that comes home is filled with the byte 0xDB, and when it is handed out again
    /// and somebody wrote to it meanwhile, that is an error.
    pub poison: bool,
}

/// When reused memory is zeroed. Fresh memory always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Zero {
    /// Not at all: the next holder sees old bytes.
    #[default]
    Never,
    /// When it comes home, so that no old bytes lie idle.
    Release,
    /// When it is handed out, as many bytes as were asked for.
    Allocate,
}

impl Config {
    /// What [`Config::default`] returns: a page to 16 MiB, 16 buffers a class, 64 MiB idle, for half a
    /// minute if they are not needed.
    pub const DEFAULT: Self = Self {
        min_size: 4 << 10,
        max_size: 16 << 20,
        max_buffers: 16,
        steps: 1,
        max_idle_bytes: None,
        max_bytes: None,
        idle_timeout: Some(Duration::from_secs(30)),
        zero: Zero::Never,
        poison: false,
    };

    /// What a null pool reports: everything is above its `max_size`.
    pub(crate) const NULL: Self = Self {
        min_size: 0,
        max_size: 0,
        max_buffers: 0,
        steps: 1,
        max_idle_bytes: Some(0),
        max_bytes: None,
        idle_timeout: None,
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
        if !matches!(self.steps, 1 | 2 | 4) {
            return Err(Error::Steps { steps: self.steps });
        }
        if min_size > max_size {
            return Err(Error::MinSizeAboveMaxSize { min_size, max_size });
        }
        Ok(())
    }

    pub(crate) fn classes(&self) -> SizeClasses {
        SizeClasses::new(self.min_size, self.max_size, self.steps)
    }

    /// Whether it is a null pool's, whatever its budget.
    #[cfg(feature = "python")]
    pub(crate) fn is_null(&self) -> bool {
        Self {
            max_bytes: None,
            ..*self
        } == Self::NULL
    }

    /// How many idle bytes the whole pool keeps.
    #[must_use]
    pub fn idle_bytes_kept(&self) -> usize {
        self.max_idle_bytes
            .unwrap_or_else(|| self.max_size.saturating_mul(4).max(64 << 20))
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
    use crate::pool::Pool;

    #[test]
    fn configurations_that_make_no_sense_are_refused() {
        let config = |min_size, max_size| Config {
            min_size,
            max_size,
            ..Config::DEFAULT
        };
        assert_eq!(
            Pool::new(config(65, 64)).unwrap_err(),
            Error::MinSizeAboveMaxSize {
                min_size: 65,
                max_size: 64
            }
        );
        let (max_size, limit) = (1 << 40, MAX_SIZE_LIMIT);
        assert_eq!(
            Pool::new(config(1, 1 << 40)).unwrap_err(),
            Error::MaxSizeTooLarge { max_size, limit }
        );
        assert!(Pool::new(config(1, (1 << 40) - 1)).is_ok());
        assert!(Pool::new(config(64, 64)).is_ok());
        assert!(
            Pool::new(Config {
                max_buffers: usize::MAX,
                ..Config::DEFAULT
            })
            .is_err()
        );
    }

    #[test]
    fn the_defaults_are_a_page_to_sixteen_mebibytes() {
        let config = Pool::new(Config::default()).unwrap().config();
        assert_eq!(
            (config.min_size, config.max_size, config.max_buffers),
            (4096, 16_777_216, 16)
        );
    }
}
