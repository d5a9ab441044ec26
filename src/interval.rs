//! A timer that tells one of many callers, once per interval, that the interval is over.

use std::time::{Duration, Instant};

use crate::sync::{AtomicU64, Ordering};

#[derive(Debug)]
pub(crate) struct Interval {
    start: Instant,
    /// When the current interval began, in nanoseconds since `start`.
    began: AtomicU64,
}

impl Default for Interval {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            began: AtomicU64::new(0),
        }
    }
}

impl Interval {
    /// Whether the interval is over. If so, the next one begins, and only this caller learns of it.
    pub(crate) fn is_over(&self, length: Duration) -> bool {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanoseconds(self.start.elapsed());
        let began = self.began.load(Ordering::Relaxed);
        let order = Ordering::Relaxed;
        now.saturating_sub(began) >= nanoseconds(length)
            && (self.began.compare_exchange(began, now, order, order)).is_ok()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_interval_is_told_once() {
        let interval = Interval {
            start: Instant::now().checked_sub(Duration::from_secs(60)).unwrap(),
            began: AtomicU64::new(0),
        };
        assert!(!interval.is_over(Duration::from_secs(6000)));
        assert!(interval.is_over(Duration::from_secs(30)));
        assert!(!interval.is_over(Duration::from_secs(30)));
    }
}
