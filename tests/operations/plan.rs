//! A plan of operations: made of arbitrary bytes.

use std::time::Duration;

use arbitrary::Arbitrary;
use bytepool::{Config, Zero};

/// A pool's configuration, and the steps to perform on it.
#[derive(Arbitrary, Debug)]
pub struct Plan {
    pub null: bool,
    /// Whether the pool's last handle is dropped while buffers are in use.
    pub outlive: bool,
    min_size: u16,
    max_size: Size,
    max_buffers: u8,
    max_idle_bytes: Option<Size>,
    max_bytes: Option<Size>,
    /// No timeout, one of zero, or one of an hour.
    idle_timeout: Option<bool>,
    zero: u8,
    poison: bool,
    pub steps: Vec<Step>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Step {
    Acquire(Size, How),
    /// Drops one of the buffers in use, if `elsewhere` on another thread.
    Drop {
        which: u8,
        elsewhere: bool,
    },
    Trim(Size),
    Decay,
    /// Closes the pool if the number is below 8, so that most plans do more before it.
    Close(u8),
    /// Requests more bytes than the system can have.
    TooMuch(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum How {
    Borrowed,
    Owned,
    /// On another thread, which has another shard.
    OnAnotherThread,
    /// With a timeout of zero.
    TimeoutZero,
    /// After so many allocations the system has no memory left.
    Starved(u8),
}

/// A number of bytes, mostly below 3,000.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Size(u16);

impl Size {
    pub fn bytes(self) -> usize {
        const LARGE: usize = 60_000;
        let n = usize::from(self.0);
        n.checked_sub(LARGE)
            .map_or(n % 3000, |large| 3000 + large * 40)
    }
}

impl Plan {
    /// A configuration that is valid in most plans.
    pub fn config(&self) -> Config {
        let max_size = match self.max_size {
            Size(u16::MAX) => 1 << 40,
            size => size.bytes(),
        };
        let max_buffers = match self.max_buffers {
            u8::MAX => usize::MAX,
            n => usize::from(n % 6),
        };
        let timeout = |zero| if zero { 0 } else { 3600 };
        Config {
            min_size: usize::from(self.min_size) % (max_size + 2),
            max_size,
            max_buffers,
            max_idle_bytes: self.max_idle_bytes.map(Size::bytes),
            max_bytes: self.max_bytes.map(Size::bytes),
            idle_timeout: self
                .idle_timeout
                .map(|zero| Duration::from_secs(timeout(zero))),
            zero: [Zero::Never, Zero::Release, Zero::Allocate][usize::from(self.zero % 3)],
            poison: self.poison,
        }
    }
}

/// What a request of `n` bytes may cost: the capacity of its size class, or of one of the two above if it borrows an
/// idle buffer; `n` for a transient request.
pub fn costs(config: &Config, n: usize) -> Vec<usize> {
    // No size class is larger than the budget.
    let max_size = config.max_size.min(config.max_bytes.unwrap_or(usize::MAX));
    if n > max_size {
        return vec![n];
    }
    let mut size = config.min_size.next_power_of_two().max(2);
    let mut classes = vec![size.min(max_size)];
    while size < max_size {
        size += (1 << size.ilog2()) / 2;
        classes.push(size.min(max_size));
    }
    let holds = |&class: &usize| class >= n;
    classes.into_iter().filter(holds).take(3).collect()
}
