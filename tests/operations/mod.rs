//! A plan of operations on a pool, carried out step by step. After each step everything is checked that
//! a pool promises. Plans are made of arbitrary bytes: by the fuzzer, and by the replay of its corpus.

mod desk;
mod loan;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use bytepool::{Buffer, Config, Error, Pool, Stats, Zero};

use super::ledger::{live, starved, take_faults};
use desk::elsewhere;
use loan::{Lent, Loan, odd};
pub use plan::Plan;
use plan::{How, Step, cost};

/// The most buffers that are out at once, so that a step stays fast.
const MOST: usize = 12;

/// Carries the plan out, and says what is wrong by a panic.
pub fn run(plan: &Plan) {
    elsewhere(|| ()); // what the threads themselves need is not the pool's
    drop(std::thread::current());
    let before = live();
    if let Some(pool) = make(plan) {
        let config = pool.config();
        let mut run = Run {
            pool: &pool,
            config,
            closed: false,
            out: Vec::new(),
            stamp: 0,
        };
        for step in plan.steps.iter().take(200) {
            run.step(step);
            run.check();
        }
        if plan.outlive {
            let out = run.outlasting();
            drop(pool);
            out.iter().for_each(Loan::check);
        } else {
            run.finish();
        }
    }
    assert_eq!(live(), before, "blocks and bytes that are lost");
    assert_eq!(take_faults(), 0, "blocks freed as what they are not");
}

fn make(plan: &Plan) -> Option<Arc<Pool>> {
    if plan.null {
        return Some(Arc::new(Pool::null()));
    }
    let config = plan.config();
    match Pool::new(config) {
        Ok(pool) => return Some(Arc::new(pool)),
        Err(Error::MinSizeAboveMaxSize { .. }) => assert!(config.min_size > config.max_size),
        Err(Error::MaxSizeTooLarge { .. }) => assert!(config.max_size >= 1 << 40),
        Err(Error::Steps { .. }) => assert!(![1, 2, 4].contains(&config.steps)),
        Err(Error::OutOfMemory { .. }) => assert!(config.max_buffers == usize::MAX),
        Err(error) => panic!("{error}"),
    }
    None
}

struct Run<'a> {
    pool: &'a Arc<Pool>,
    config: Config,
    closed: bool,
    out: Vec<Loan<Lent<'a>>>,
    stamp: u8,
}

impl<'a> Run<'a> {
    fn step(&mut self, step: &Step) {
        let before = self.pool.stats();
        match *step {
            Step::Acquire(size, how) => self.acquire(size.bytes(), how, &before),
            Step::TooMuch(less) => {
                self.acquire(usize::MAX - usize::from(less), How::Borrowed, &before);
                // Below this the system is asked.
                self.acquire(
                    isize::MAX.unsigned_abs() - usize::from(less % 8),
                    How::Owned,
                    &before,
                );
            }
            Step::Drop { which, far } if !self.out.is_empty() => {
                let loan = self.out.swap_remove(usize::from(which) % self.out.len());
                match loan.bytes {
                    Lent::Owned(buffer) if far => elsewhere(move || drop(buffer)),
                    bytes => drop(bytes),
                }
            }
            Step::Drop { .. } => {}
            Step::Trim(size) => {
                let keep = size.bytes();
                let freed = self.pool.trim(keep) as u64;
                let idle = self.pool.stats().idle_bytes;
                assert_eq!(freed, before.idle_bytes - idle, "bytes trimmed");
                assert!(idle <= keep as u64, "{idle} bytes stay of {keep}");
                let most = (idle + self.config.max_size as u64) > keep as u64;
                assert!(freed == 0 || most, "{freed} freed, {idle} left, for {keep}");
            }
            Step::Decay => {
                let freed = self.pool.decay() + self.pool.decay();
                let due = self.config.idle_timeout == Some(Duration::ZERO);
                let unneeded = if due { before.idle_bytes } else { 0 };
                assert_eq!(freed as u64, unneeded, "bytes decayed");
            }
            Step::Close => {
                self.pool.close();
                self.closed = true;
            }
        }
    }

    fn acquire(&mut self, n: usize, how: How, before: &Stats) {
        if self.out.len() == MOST {
            return;
        }
        let pool = self.pool;
        let lent = match how {
            How::Borrowed => pool.acquire(n).map(Lent::Borrowed),
            How::Owned => Pool::acquire_owned(pool, n).map(Lent::Owned),
            How::Far => {
                let pool = Arc::clone(pool);
                elsewhere(move || Pool::acquire_owned(&pool, n).map(Lent::Owned))
            }
            How::WithoutWaiting => pool.acquire_timeout(n, Duration::ZERO).map(Lent::Borrowed),
            How::Starved(after) => {
                starved(usize::from(after), || pool.acquire(n)).map(Lent::Borrowed)
            }
        };
        let after = pool.stats();
        let cost = cost(&self.config, n);
        let used = before.outstanding_bytes as usize;
        let max_bytes = self.config.max_bytes.unwrap_or(usize::MAX);
        let lacking = cost > max_bytes.saturating_sub(used);
        match lent {
            Ok(mut bytes) => {
                assert!(!lacking && !self.closed, "{n} lent, {before:?}");
                assert_eq!(bytes.len(), n);
                let reused = hits(&after) > hits(before);
                self.check_contents(&bytes, reused);
                self.stamp = self.stamp % 255 + 1;
                let stamp = self.stamp;
                bytes.fill(stamp);
                self.out.push(Loan { bytes, stamp, cost });
                return;
            }
            Err(Error::Closed { requested }) => assert!(self.closed && requested == n),
            Err(Error::TooLarge { requested, .. }) => {
                assert!(requested == n && n > isize::MAX.unsigned_abs());
            }
            Err(Error::AboveBudget { requested, .. }) => assert!(requested > max_bytes),
            Err(Error::Exhausted { waiting: 0, .. }) => {
                assert!(lacking, "{n} refused, {before:?}");
                if matches!(how, How::WithoutWaiting) {
                    assert_eq!(after.waits, before.waits + 1);
                    return; // what was idle is gone, for the sake of who waited
                }
            }
            Err(Error::OutOfMemory { .. }) => match how {
                How::Starved(_) => {
                    let done = |stats: &Stats| (hits(stats), stats.transient, stats.outstanding);
                    assert_eq!(done(&after), done(before));
                    return; // something may have been freed to make room for it
                }
                _ => assert!(n > isize::MAX.unsigned_abs() / 2, "{n} bytes are not much"),
            },
            Err(error) => panic!("{n}: {error}"),
        }
        assert_eq!(&after, before, "a request that was refused");
    }

    /// What the new holder of bytes may find in them.
    fn check_contents(&self, bytes: &[u8], reused: bool) {
        let expected = match (reused, self.config.zero, self.config.poison) {
            (true, Zero::Never, false) => return, // whatever the last one wrote
            (true, Zero::Never, true) => 0xDB,
            _ => 0,
        };
        assert_eq!(
            odd(bytes, expected),
            None,
            "in new bytes, all {expected:#x}"
        );
    }

    fn check(&self) {
        let Self { config, out, .. } = self;
        out.iter().for_each(Loan::check);
        let stats = self.pool.stats();
        let bytes: usize = out.iter().map(|loan| loan.cost).sum();
        assert_eq!(stats.outstanding, out.len() as u64);
        assert_eq!(stats.outstanding_bytes, bytes as u64);
        assert_eq!((stats.dropped, stats.deferred), (0, 0));
        assert!(stats.peak_outstanding >= stats.outstanding);
        assert!(stats.peak_idle_bytes >= stats.idle_bytes, "{stats:?}");
        let mut idle = 0;
        for bucket in &stats.buckets {
            let mine = |loan: &&Loan<_>| loan.cost == bucket.size && loan.cost <= config.max_size;
            let out = out.iter().filter(mine).count() as u64;
            assert_eq!(
                bucket.hits + bucket.misses,
                bucket.returned + out,
                "conservation: {bucket:?}"
            );
            let kept = bucket.returned - bucket.freed() - bucket.hits;
            assert_eq!(kept, bucket.depth as u64, "{bucket:?}");
            assert!(bucket.depth <= config.max_buffers, "{bucket:?}");
            assert!(bucket.peak_outstanding >= out, "{bucket:?}");
            idle += bucket.size * bucket.depth;
        }
        assert_eq!(stats.idle_bytes, idle as u64);
        let most = if self.closed {
            0
        } else {
            config.idle_bytes_kept()
        };
        assert!(idle <= most, "{stats:?}");
        if let Some(max_bytes) = config.max_bytes {
            assert!(bytes + idle <= max_bytes, "{stats:?}");
        }
    }

    /// Everything goes home, and nothing is left that takes of the budget: all of it can be had at once.
    fn finish(mut self) {
        self.out.clear();
        self.check();
        self.pool.trim(0);
        self.check();
        if let Some(max_bytes) = self.config.max_bytes
            && max_bytes > self.config.max_size
            && !self.closed
        {
            assert_eq!(self.pool.acquire(max_bytes).unwrap().len(), max_bytes);
        }
    }

    /// What may stay out longer than the pool's last handle.
    fn outlasting(self) -> Vec<Loan<Buffer<Arc<Pool>>>> {
        let owned = |Loan { bytes, stamp, cost }: Loan<Lent<'a>>| match bytes {
            Lent::Owned(bytes) => Some(Loan { bytes, stamp, cost }),
            Lent::Borrowed(_) => None,
        };
        self.out.into_iter().filter_map(owned).collect()
    }
}

fn hits(stats: &Stats) -> u64 {
    stats.buckets.iter().map(|bucket| bucket.hits).sum()
}
