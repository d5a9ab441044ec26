//! Pure arithmetic: bytes asked -> class -> capacity. Nothing here allocates or locks.

/// Powers of two from `min_size` (rounded up) to `max_size`; the last class holds exactly `max_size`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SizeClasses {
    /// log2 of the first class's capacity.
    first: u32,
    max_size: usize,
    count: usize,
}

impl SizeClasses {
    /// The caller has checked that `min_size <= max_size < 2^40`. No classes where `max_size` is 0.
    pub(crate) fn new(min_size: usize, max_size: usize) -> Self {
        let first = ceil_log2(min_size);
        let count = match max_size {
            0 => 0,
            _ => ceil_log2(max_size).saturating_sub(first).saturating_add(1) as usize,
        };
        Self {
            first,
            max_size,
            count,
        }
    }

    /// The index of the class that serves `n` bytes; `None` for a transient request. (Without classes,
    /// 0 bytes have an index as well, and there is nothing at it.)
    #[inline]
    pub(crate) fn class_of(&self, n: usize) -> Option<usize> {
        if n > self.max_size {
            return None;
        }
        Some(ceil_log2(n).saturating_sub(self.first) as usize)
    }

    /// The capacities of all classes in bytes, smallest first.
    pub(crate) fn capacities(self) -> impl Iterator<Item = usize> {
        let Self {
            first, max_size, ..
        } = self;
        (first..)
            .take(self.count)
            .map(move |shift| max_size.min(1_usize.checked_shl(shift).unwrap_or(max_size)))
    }
}

/// The smallest `k` with `2^k >= n`; 0 for 0.
#[inline]
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
    fn without_classes_everything_is_transient() {
        let none = SizeClasses::new(0, 0);
        assert_eq!(none.capacities().count(), 0);
        assert_eq!(none.class_of(1), None);
        assert_eq!(none.class_of(usize::MAX), None);
    }

    #[test]
    fn the_widest_configuration_has_forty_one_classes() {
        let max = (1_usize << 40) - 1;
        let capacities: Vec<_> = SizeClasses::new(0, max).capacities().collect();
        assert_eq!(
            (capacities.len(), capacities[0], capacities[40]),
            (41, 1, max)
        );
    }
}
