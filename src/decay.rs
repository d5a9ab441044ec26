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

#[cfg(all(test, not(loom)))]
mod tests {
    use std::time::Duration;

    use crate::bucket::Bucket;
    use crate::config::Config;
    use crate::pool::Pool;

    #[test]
    fn a_pool_in_use_decays_once_per_1024_returns_of_a_size_class() {
        let pool = Pool::new(Config {
            idle_timeout: Some(Duration::ZERO),
            ..Config::DEFAULT
        })
        .unwrap();
        let decayed = || pool.stats().buckets[0].decayed;
        drop(pool.acquire(4096).unwrap());
        for returns in 1..=2048 {
            assert_eq!(decayed(), 0, "{returns}");
            drop(pool.acquire(1 << 20).unwrap());
        }
        assert_eq!(decayed(), 1);
        let stats = pool.stats();
        assert_eq!((stats.buckets[1].decayed, stats.buckets[0].trimmed), (0, 0));
    }

    #[test]
    fn a_buffer_used_since_the_last_decay_stays_although_an_eviction_looked_for_unused_ones() {
        let pool = Pool::new(Config {
            idle_timeout: Some(Duration::ZERO),
            ..Config::DEFAULT
        })
        .unwrap();
        let use_it = || drop(pool.acquire(4096).unwrap());
        use_it();
        pool.decay();
        use_it();
        pool.buckets.iter().for_each(Bucket::reset_low_water);
        assert_eq!(pool.decay(), 0);
        assert_eq!(pool.decay(), 4096);
    }
}
