//! Carries out a plan of operations on a pool. After each step it checks everything that a pool promises. Plans are
//! made of arbitrary bytes by the fuzzer, by the replay of its corpus, and by `bounds.rs`.

mod loan;
mod other_thread;
mod plan;

use std::sync::Arc;
use std::time::Duration;

use bytepool::{Buffer, Config, Error, Pool, Stats, Zero};

use super::ledger::{live, starved, take_faults};
use loan::{Held, Loan, first_other_than};
use other_thread::on_another_thread;
pub use plan::Plan;
use plan::{How, Step, costs};

/// The most buffers in use, so that a step stays fast.
const MOST: usize = 12;

/// Carries the plan out, and panics if a check fails. Returns how many requests borrowed a larger buffer.
pub fn run(plan: &Plan) -> usize {
    on_another_thread(|| ()); // what the threads allocate for themselves comes before the count
    drop(std::thread::current());
    let before = live();
    let mut borrowed = 0;
    if let Some(pool) = make(plan) {
        let mut config = pool.config();
        if plan.null {
            // It reports what it replaces, and serves every request as one above `max_size`.
            (config.min_size, config.max_size, config.max_idle_bytes) = (0, 0, Some(0));
        }
        let mut run = Run {
            pool: &pool,
            config,
            closed: false,
            held: Vec::new(),
            stamp: 0,
            borrowed: 0,
        };
        for step in plan.steps.iter().take(200) {
            run.step(step);
            run.check();
        }
        borrowed = run.borrowed;
        if plan.outlive {
            let held = run.outlasting();
            drop(pool);
            held.iter().for_each(Loan::check);
        } else {
            run.finish();
        }
    }
    assert_eq!(live(), before, "leaked blocks and bytes");
    assert_eq!(take_faults(), 0, "blocks freed with a wrong layout");
    borrowed
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
        Err(Error::OutOfMemory { .. }) => assert!(config.max_buffers == usize::MAX),
        Err(error) => panic!("{error}"),
    }
    None
}

struct Run<'a> {
    pool: &'a Arc<Pool>,
    config: Config,
    closed: bool,
    held: Vec<Loan<Held<'a>>>,
    stamp: u8,
    borrowed: usize,
}

impl<'a> Run<'a> {
    fn step(&mut self, step: &Step) {
        let before = self.pool.stats();
        match *step {
            Step::Acquire(size, how) => self.acquire(size.bytes(), how, &before),
            Step::TooMuch(less) => {
                self.acquire(usize::MAX - usize::from(less), How::Borrowed, &before);
                // Just below the limit, the system refuses.
                self.acquire(
                    isize::MAX.unsigned_abs() - usize::from(less % 8),
                    How::Owned,
                    &before,
                );
            }
            Step::Drop { which, elsewhere } if !self.held.is_empty() => {
                let loan = self.held.swap_remove(usize::from(which) % self.held.len());
                match loan.bytes {
                    Held::Owned(buffer) if elsewhere => on_another_thread(move || drop(buffer)),
                    bytes => drop(bytes),
                }
            }
            Step::Drop { .. } => {}
            Step::Trim(size) => {
                let keep = size.bytes();
                let freed = self.pool.trim(keep) as u64;
                let idle = self.pool.stats().idle_bytes;
                assert_eq!(freed, before.idle_bytes - idle, "bytes trimmed");
                assert!(
                    idle <= keep as u64,
                    "{idle} bytes are left, {keep} were allowed"
                );
                let most = (idle + self.config.max_size as u64) > keep as u64;
                assert!(
                    freed == 0 || most,
                    "trimmed too much: {freed} freed, {idle} left, {keep} allowed"
                );
            }
            Step::Decay => {
                let freed = self.pool.decay() + self.pool.decay();
                let due = self.config.idle_timeout == Some(Duration::ZERO);
                let unused = if due { before.idle_bytes } else { 0 };
                assert_eq!(freed as u64, unused, "bytes decayed");
            }
            Step::Close(8..) => {}
            Step::Close(_) => {
                self.pool.close();
                self.closed = true;
            }
        }
    }

    fn acquire(&mut self, n: usize, how: How, before: &Stats) {
        if self.held.len() == MOST {
            return;
        }
        let pool = self.pool;
        let lent = match how {
            How::Borrowed => pool.acquire(n).map(Held::Borrowed),
            How::Owned => Pool::acquire_owned(pool, n).map(Held::Owned),
            How::OnAnotherThread => {
                let pool = Arc::clone(pool);
                on_another_thread(move || Pool::acquire_owned(&pool, n).map(Held::Owned))
            }
            How::TimeoutZero => pool.acquire_timeout(n, Duration::ZERO).map(Held::Borrowed),
            How::Starved(after) => {
                starved(usize::from(after), || pool.acquire(n)).map(Held::Borrowed)
            }
        };
        let after = pool.stats();
        let costs = costs(&self.config, n);
        let used = before.outstanding_bytes as usize;
        let max_bytes = self.config.max_bytes.unwrap_or(usize::MAX);
        let missing = costs[0] > max_bytes.saturating_sub(used);
        match lent {
            Ok(mut bytes) => {
                assert!(
                    !missing && !self.closed,
                    "{n} bytes were lent beyond the budget: {before:?}"
                );
                assert_eq!(bytes.len(), n);
                let reused = hits(&after) > hits(before);
                let cost = after.outstanding_bytes as usize - used;
                assert!(
                    cost == costs[0] || (reused && costs.contains(&cost)),
                    "{n} cost {cost}"
                );
                self.borrowed += usize::from(cost > costs[0]);
                self.check_contents(&bytes, reused);
                self.stamp = self.stamp % 255 + 1;
                let stamp = self.stamp;
                bytes.fill(stamp);
                self.held.push(Loan { bytes, stamp, cost });
                return;
            }
            Err(Error::Closed { requested }) => assert!(self.closed && requested == n),
            Err(Error::TooLarge { requested, .. }) => {
                assert!(requested == n && n > isize::MAX.unsigned_abs());
            }
            Err(Error::AboveBudget { requested, .. }) => assert!(requested > max_bytes),
            Err(Error::Exhausted { waiters: 0, .. }) => {
                assert!(
                    missing,
                    "{n} bytes were refused within the budget: {before:?}"
                );
                if matches!(how, How::TimeoutZero) {
                    assert_eq!(after.waits, before.waits + 1);
                    return; // idle memory was freed for the waiter
                }
            }
            Err(Error::OutOfMemory { .. }) => match how {
                How::Starved(_) => {
                    let done = |stats: &Stats| (hits(stats), stats.transient, stats.outstanding);
                    assert_eq!(done(&after), done(before));
                    return; // idle memory may have been freed for the request
                }
                _ => assert!(n > isize::MAX.unsigned_abs() / 2, "{n} bytes were refused"),
            },
            Err(error) => panic!("{n}: {error}"),
        }
        assert_eq!(&after, before, "a refused request changes nothing");
    }

    /// Checks what the new holder of a buffer sees in it.
    fn check_contents(&self, bytes: &[u8], reused: bool) {
        let expected = match (reused, self.config.zero, self.config.poison) {
            (true, Zero::Never, false) => return, // any old bytes
            (true, Zero::Never, true) => 0xDB,
            _ => 0,
        };
        assert_eq!(
            first_other_than(bytes, expected),
            None,
            "new bytes must be {expected:#x}"
        );
    }

    fn check(&self) {
        let Self { config, held, .. } = self;
        held.iter().for_each(Loan::check);
        let stats = self.pool.stats();
        let bytes: usize = held.iter().map(|loan| loan.cost).sum();
        assert_eq!(stats.outstanding, held.len() as u64);
        assert_eq!(stats.outstanding_bytes, bytes as u64);
        assert_eq!((stats.dropped, stats.deferred), (0, 0));
        assert!(stats.peak_outstanding >= stats.outstanding);
        assert!(stats.peak_idle_bytes >= stats.idle_bytes, "{stats:?}");
        let mut idle = 0;
        for bucket in &stats.buckets {
            let mine = |loan: &&Loan<_>| loan.cost == bucket.size && loan.cost <= config.max_size;
            let in_use = held.iter().filter(mine).count() as u64;
            assert_eq!(
                bucket.hits + bucket.misses,
                bucket.returned + in_use,
                "conservation: {bucket:?}"
            );
            let kept = bucket.returned - bucket.freed() - bucket.hits;
            assert_eq!(kept, bucket.depth as u64, "{bucket:?}");
            assert!(bucket.depth <= config.max_buffers, "{bucket:?}");
            assert!(bucket.peak_outstanding >= in_use, "{bucket:?}");
            idle += bucket.size * bucket.depth;
        }
        assert_eq!(stats.idle_bytes, idle as u64);
        let most = if self.closed { 0 } else { config.idle_limit() };
        assert!(idle <= most, "{stats:?}");
        if let Some(max_bytes) = config.max_bytes {
            assert!(bytes + idle <= max_bytes, "{stats:?}");
        }
    }

    /// Returns all buffers and trims. Then nothing takes any of the budget: one request can have all of it.
    fn finish(mut self) {
        self.held.clear();
        self.check();
        self.pool.trim(0);
        self.check();
        if let Some(max_bytes) = self.config.max_bytes.filter(|_| !self.closed) {
            assert_eq!(self.pool.acquire(max_bytes).unwrap().len(), max_bytes);
        }
    }

    /// The buffers that can outlive the pool's last handle.
    fn outlasting(self) -> Vec<Loan<Buffer<Arc<Pool>>>> {
        let owned = |Loan { bytes, stamp, cost }: Loan<Held<'a>>| match bytes {
            Held::Owned(bytes) => Some(Loan { bytes, stamp, cost }),
            Held::Borrowed(_) => None,
        };
        self.held.into_iter().filter_map(owned).collect()
    }
}

fn hits(stats: &Stats) -> u64 {
    stats.buckets.iter().map(|bucket| bucket.hits).sum()
}
