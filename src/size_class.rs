//! How many size classes there are per doubling, and which one serves a request. Pure arithmetic.

use std::iter;

/// log2 of the number of size classes per doubling.
const STEPS_LOG2: u32 = 1;

/// Powers of two from `min_size` (rounded up) to `max_size`, and the middles between them. The last class holds
/// exactly `max_size`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeClasses {
    /// The first class's capacity.
    smallest: usize,
    max_size: usize,
    /// Added to a class's number so that the first class has index 0. The addition wraps around.
    base: usize,
}

impl SizeClasses {
    /// The caller has checked that both sizes are below 2^40. There are no classes if `max_size` is 0, and there is
    /// one if `min_size` is above it.
    pub(crate) fn new(min_size: usize, max_size: usize) -> Self {
        // A doubling that spans fewer bytes than steps cannot be divided.
        let first = ceil_log2(min_size).max(STEPS_LOG2);
        let before = (first as usize).wrapping_add(1).wrapping_shl(STEPS_LOG2);
        Self {
            smallest: 1_usize.wrapping_shl(first),
            max_size,
            base: 1_usize.wrapping_sub(before),
        }
    }

    /// The index of the class that serves `n` bytes; `None` for a transient request. Without classes, `n`
    /// of 0 has the index 0 as well, so callers still have to look the index up.
    #[inline]
    pub(crate) fn class_of(&self, n: usize) -> Option<usize> {
        if n > self.max_size {
            return None;
        }
        if n <= self.smallest {
            return Some(0);
        }
        // The leading bits of n - 1 are the class's number: which doubling, and which step of it.
        let last = n.wrapping_sub(1);
        let doubling = floor_log2(last);
        let step = last.wrapping_shr(doubling.wrapping_sub(STEPS_LOG2));
        let index = (doubling as usize).wrapping_shl(STEPS_LOG2);
        Some(index.wrapping_add(step).wrapping_add(self.base))
    }

    /// The capacities of all classes in bytes, smallest first.
    pub(crate) fn capacities(self) -> impl Iterator<Item = usize> {
        let Self {
            smallest, max_size, ..
        } = self;
        let next = move |&capacity: &usize| {
            let step = 1_usize.wrapping_shl(floor_log2(capacity).wrapping_sub(STEPS_LOG2));
            (capacity < max_size).then(|| max_size.min(capacity.saturating_add(step)))
        };
        let first = (max_size > 0).then(|| max_size.min(smallest));
        iter::successors(first, next)
    }
}

/// The largest `k` with `2^k <= n`, for `n` above 0.
#[inline]
fn floor_log2(n: usize) -> u32 {
    (usize::BITS - 1).wrapping_sub(n.leading_zeros())
}

/// The smallest `k` with `2^k >= n`; 0 for 0.
fn ceil_log2(n: usize) -> u32 {
    match n.checked_sub(1) {
        None => 0,
        Some(below) => usize::BITS.saturating_sub(below.leading_zeros()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceil_log2_is_the_exponent_of_the_next_power_of_two() {
        for n in [
            1_usize,
            2,
            3,
            4,
            5,
            4095,
            4096,
            4097,
            1 << 39,
            (1 << 39) + 1,
        ] {
            assert_eq!(1_usize << ceil_log2(n), n.next_power_of_two(), "{n}");
        }
        assert_eq!(ceil_log2(0), 0);
    }

    #[test]
    fn every_size_gets_the_smallest_class_that_holds_it() {
        for (min, max) in [
            (0, 1),
            (1, 1),
            (3, 100),
            (64, 64),
            (5000, 64),
            (65, 100),
            (16, 1000),
            (0, 4096),
        ] {
            let classes = SizeClasses::new(min, max);
            let capacities: Vec<_> = classes.capacities().collect();
            assert_eq!(capacities.last(), Some(&max));
            assert!(capacities.is_sorted_by(|a, b| a < b), "{capacities:?}");
            for n in 0..=max {
                let class = classes.class_of(n).unwrap();
                assert_eq!(capacities.iter().position(|&c| c >= n), Some(class), "{n}");
            }
            assert_eq!(classes.class_of(max + 1), None);
        }
    }

    #[test]
    fn each_doubling_has_two_classes() {
        let capacities = |min, max| -> Vec<_> { SizeClasses::new(min, max).capacities().collect() };
        assert_eq!(capacities(60, 300), [64, 96, 128, 192, 256, 300]);
        assert_eq!(capacities(0, 20), [2, 3, 4, 6, 8, 12, 16, 20]);
    }

    #[test]
    fn without_classes_every_request_is_transient() {
        let none = SizeClasses::new(0, 0);
        assert_eq!(none.capacities().count(), 0);
        assert_eq!(none.class_of(1), None);
        assert_eq!(none.class_of(usize::MAX), None);
    }

    #[test]
    fn the_widest_configuration_has_eighty_classes() {
        let max = (1_usize << 40) - 1;
        let capacities: Vec<_> = SizeClasses::new(0, max).capacities().collect();
        assert_eq!(
            (capacities.len(), capacities[0], capacities[78]),
            (79, 2, max)
        );
    }
}
