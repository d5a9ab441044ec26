//! Frees idle memory that was not used for `idle_timeout` (default: `Config::DEFAULT`).

use crate::bucket::Victims;
use crate::pool::Pool;
use crate::stats::Reason;

impl Pool {
    /// Frees idle memory that was not used since the last decay, and returns how many bytes it freed.
    ///
    /// Call it as often as you like: it does something once per `idle_timeout`, and otherwise returns 0. So
    /// memory is freed after one to two timeouts without use.
    ///
    /// ```
    /// # use std::{thread, time::Duration};
    /// # use bytepool::{Config, Pool};
    /// let idle_timeout = Some(Duration::from_millis(1));
    /// let pool = Pool::new(Config { idle_timeout, ..Config::default() })?;
    /// drop(pool.acquire(1 << 20)?);
    /// while pool.decay() == 0 {
    ///     thread::sleep(Duration::from_millis(1)); // a server calls it from a timer
    /// }
    /// assert_eq!(pool.stats().idle_bytes, 0);
    /// # Ok::<(), bytepool::Error>(())
    /// ```
    pub fn decay(&self) -> usize {
        let due = |timeout| self.decay.is_over(timeout);
        if !self.config.idle_timeout.is_some_and(due) {
            return 0;
        }
        let mut freed = 0_usize;
        for bucket in &self.buckets {
            let victims = Victims::UnusedSinceDecay;
            let evicted = self.evict_from(bucket, usize::MAX, victims, Reason::Decayed);
            freed = freed.saturating_add(evicted);
            bucket.begin_decay();
        }
        freed
    }
}
