//! The common interface of the contenders. `crates.rs` has the pools of other crates.
// Each bench binary uses its part.
#![allow(missing_docs, dead_code, unused_imports)]

mod vec;

pub use vec::*;

/// A source of buffers.
pub trait Contender {
    const NAME: &'static str;
    type Buffer<'a>
    where
        Self: 'a;

    /// For buffers of up to `capacity` bytes.
    fn with_capacity(capacity: usize) -> Self;
    fn take(&self, n: usize) -> Self::Buffer<'_>;
    /// Writes all of its first `n` bytes.
    fn fill(buffer: &mut Self::Buffer<'_>, n: usize, byte: u8);
}

/// Values as large as a buffer of this crate, without memory behind them: what a workload costs without a pool.
pub struct NoPool;

impl Contender for NoPool {
    const NAME: &'static str = "no_pool";
    type Buffer<'a> = [usize; 5];

    fn with_capacity(_: usize) -> Self {
        Self
    }

    fn take(&self, n: usize) -> [usize; 5] {
        [n; 5]
    }

    fn fill(_: &mut [usize; 5], _: usize, _: u8) {}
}

/// One pool per power of two, for pools with buffers of only one size.
pub struct ByClass<P>(Vec<P>);

impl<P: Contender> Contender for ByClass<P> {
    const NAME: &'static str = P::NAME;
    type Buffer<'a>
        = P::Buffer<'a>
    where
        P: 'a;

    fn with_capacity(capacity: usize) -> Self {
        let classes = 0..=capacity.next_power_of_two().ilog2();
        Self(classes.map(|class| P::with_capacity(1 << class)).collect())
    }

    fn take(&self, n: usize) -> P::Buffer<'_> {
        let class = n.next_power_of_two().ilog2();
        self.0[class as usize].take(1 << class)
    }

    fn fill(buffer: &mut P::Buffer<'_>, n: usize, byte: u8) {
        P::fill(buffer, n, byte);
    }
}
