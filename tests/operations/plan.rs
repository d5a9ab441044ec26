//! What a plan consists of, and what it means.

use std::time::Duration;

use arbitrary::Arbitrary;
use bytepool::{Config, Zero};

/// A pool, and what is done with it.
#[derive(Arbitrary, Debug)]
pub struct Plan {
    pub null: bool,
    /// Whether the pool's last handle goes while bytes are out.
    pub outlive: bool,
    min_size: u16,
    max_size: Size,
    max_buffers: u8,
    steps_a_doubling: u8,
    max_idle_bytes: Option<Size>,
    max_bytes: Option<Size>,
    /// None, none at all, or a long one.
    idle_timeout: Option<bool>,
    zero: u8,
    poison: bool,
    pub steps: Vec<Step>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Step {
    Acquire(Size, How),
    /// Drops one of those that are out, perhaps in another thread.
    Drop {
        which: u8,
        far: bool,
    },
    Trim(Size),
    Decay,
    Close,
    /// Asks for as many bytes as nobody can have.
    TooMuch(u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum How {
    Borrowed,
    Owned,
    /// In another thread, which has a shelf of its own.
    Far,
    WithoutWaiting,
    /// With memory for so many allocations and no more.
    Starved(u8),
}

/// A number of bytes, mostly a small one.
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
    /// Mostly one that makes sense.
    pub fn config(&self) -> Config {
        let max_size = match self.max_size {
            Size(u16::MAX) => 1 << 40,
            size => size.bytes(),
        };
        let max_buffers = match self.max_buffers {
            u8::MAX => usize::MAX,
            n => usize::from(n % 6),
        };
        let timeout = |none| if none { 0 } else { 3600 };
        Config {
            min_size: usize::from(self.min_size) % (max_size + 2),
            max_size,
            max_buffers,
            steps: [1, 2, 4, 3][usize::from(self.steps_a_doubling % 16 / 5)],
            max_idle_bytes: self.max_idle_bytes.map(Size::bytes),
            max_bytes: self.max_bytes.map(Size::bytes),
            idle_timeout: self
                .idle_timeout
                .map(|none| Duration::from_secs(timeout(none))),
            zero: [Zero::Never, Zero::Release, Zero::Allocate][usize::from(self.zero % 3)],
            poison: self.poison,
        }
    }
}

/// What a request of `n` bytes takes: the capacity of the first class that holds it, or what was asked.
pub fn cost(config: &Config, n: usize) -> usize {
    if n > config.max_size {
        return n;
    }
    let mut size = config.min_size.next_power_of_two().max(config.steps);
    while size < n {
        size += (1 << size.ilog2()) / config.steps;
    }
    size.min(config.max_size)
}
