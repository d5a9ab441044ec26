//! All cores use the same pools. `make stress` does 10^8 operations.
//!
//! Every buffer in use carries its owner's stamp at both ends, and a new owner finds no stamp. In the end the
//! counters add up exactly, and the ledger finds no block left. The ledger is this binary's global allocator and
//! counts the whole process, so there is only one test.
#![cfg(not(loom))]

use std::io::{IsTerminal, stderr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytepool::{Buffer, Config, Error, Pool, Stats};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

#[path = "ledger/allocator.rs"]
mod ledger;

/// The stamp of buffers without an owner: fresh ones, and returned ones.
const NOBODY: u64 = 0;

/// Through so many slots threads hand buffers to each other.
const SLOTS: usize = 16;

/// One in so many operations reads all counters or frees idle memory.
const RARE: u32 = 4096;

/// The stamp of the next owner.
static NEXT: AtomicU64 = AtomicU64::new(NOBODY + 1);

struct Owned<P: Deref<Target = Pool>> {
    buffer: Buffer<P>,
    stamp: u64,
}

impl<P: Deref<Target = Pool>> Owned<P> {
    fn new(mut buffer: Buffer<P>) -> Self {
        assert_eq!(ends(&buffer), [NOBODY; 2], "the buffer has another owner");
        let stamp = NEXT.fetch_add(1, Ordering::Relaxed);
        stamp_ends(&mut buffer, stamp);
        Self { buffer, stamp }
    }

    /// Changes the owner.
    fn hand_over(mut self) -> Self {
        self.check();
        self.stamp = NEXT.fetch_add(1, Ordering::Relaxed);
        stamp_ends(&mut self.buffer, self.stamp);
        self
    }

    fn check(&self) {
        assert_eq!(ends(&self.buffer), [self.stamp; 2], "changed while in use");
    }
}

impl<P: Deref<Target = Pool>> Drop for Owned<P> {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.check();
        }
        stamp_ends(&mut self.buffer, NOBODY);
    }
}

/// The first and the last eight bytes. Idle buffers are all zeros, because nothing else is written.
fn ends(bytes: &[u8]) -> [u64; 2] {
    let (first, last) = (bytes.first_chunk().unwrap(), bytes.last_chunk().unwrap());
    [*first, *last].map(u64::from_ne_bytes)
}

fn stamp_ends(bytes: &mut [u8], stamp: u64) {
    *bytes.first_chunk_mut().unwrap() = stamp.to_ne_bytes();
    *bytes.last_chunk_mut().unwrap() = stamp.to_ne_bytes();
}

/// Shared by all threads.
struct Shared {
    pool: Arc<Pool>,
    /// Its budget is so small that threads have to wait for each other.
    budget: Arc<Pool>,
    slots: [Mutex<Option<Owned<Arc<Pool>>>>; SLOTS],
    /// Requests to `pool` that only its largest size class holds.
    large_requests: AtomicU64,
}

impl Shared {
    fn new() -> Self {
        let config = Config {
            min_size: 64,
            max_size: 1024,
            max_buffers: 8,
            max_idle_bytes: Some(12 << 10),
            idle_timeout: Some(Duration::from_millis(1)),
            ..Config::DEFAULT
        };
        let budget = Config {
            max_bytes: Some(1100),
            ..config
        };
        Self {
            pool: Arc::new(Pool::new(config).unwrap()),
            budget: Arc::new(Pool::new(budget).unwrap()),
            slots: [const { Mutex::new(None) }; SLOTS],
            large_requests: AtomicU64::new(0),
        }
    }

    /// One operation. Returns how many requests `pool` served, and how many `budget` served.
    fn operate(&self, choose: &mut SmallRng, held: &mut Vec<Owned<Arc<Pool>>>) -> (u64, u64) {
        let n = choose.random_range(64..1200);
        match choose.random_range(0..RARE) {
            0 => check(&self.pool.stats()),
            1 => drop(self.pool.trim(choose.random_range(0..8192))),
            2 => drop(self.pool.decay() + self.budget.decay()),
            3 => check(&self.budget.stats()),
            // A waiter holds nothing of the budget, so no thread waits for ever.
            4..100 => return (0, self.wait(n)),
            100..1000 => {
                let slot = &self.slots[choose.random_range(0..SLOTS)];
                let mine = held.pop();
                let theirs = std::mem::replace(&mut *slot.lock().unwrap(), mine);
                held.extend(theirs.map(Owned::hand_over));
            }
            _ if held.len() > choose.random_range(0..4) => {
                drop(held.swap_remove(choose.random_range(0..held.len())));
            }
            _ => {
                if (769..=1024).contains(&n) {
                    self.large_requests.fetch_add(1, Ordering::Relaxed);
                }
                held.push(Owned::new(Pool::acquire_owned(&self.pool, n).unwrap()));
                return (1, 0);
            }
        }
        (0, 0)
    }

    /// Takes a part of the budget, so that others wait for it. Returns how many requests were served. Some time
    /// out and leave the queue.
    fn wait(&self, n: usize) -> u64 {
        let timeout = Duration::from_micros(10 * n as u64);
        match self.budget.acquire_timeout(n, timeout) {
            Ok(buffer) => {
                let owned = Owned::new(buffer);
                thread::yield_now();
                drop(owned);
                1
            }
            Err(Error::Exhausted { .. } | Error::AboveBudget { .. }) => 0,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Checks what holds at any moment, bucket by bucket.
fn check(stats: &Stats) {
    for bucket in &stats.buckets {
        let kept = bucket.returned - bucket.freed() - bucket.hits;
        assert_eq!(kept, bucket.depth as u64, "{bucket:?}");
        assert!(
            bucket.outstanding() <= bucket.peak_outstanding,
            "{bucket:?}"
        );
    }
    assert!(stats.idle_bytes <= 12 << 10, "{stats:?}");
}

fn served(stats: &Stats) -> u64 {
    let pooled = stats
        .buckets
        .iter()
        .map(|bucket| bucket.hits + bucket.misses);
    pooled.sum::<u64>() + stats.transient
}

#[test]
fn no_buffer_has_two_owners_and_all_are_accounted_for() {
    let operations = std::env::var("STRESS_OPERATIONS").map_or(400_000, |n| n.parse().unwrap());
    run(10_000); // threads leave blocks behind for good on their first run
    let before = ledger::live_at_rest();
    let done = run(operations);
    assert_eq!(ledger::live(), before, "leaked blocks and bytes");
    assert_eq!(ledger::take_faults(), 0);
    assert!(
        done.budget_waits > 0 && done.handovers > 0 && done.borrowed > 0,
        "{done:?}"
    );
    println!("{done:?}");
}

/// The totals of a run.
#[derive(Debug)]
#[expect(dead_code, reason = "only printed")]
struct Done {
    threads: usize,
    operations: u64,
    handovers: u64,
    pool_requests: u64,
    budget_requests: u64,
    budget_waits: u64,
    /// Requests that borrowed a buffer of the largest size class.
    borrowed: u64,
}

fn run(operations: u64) -> Done {
    // More threads than cores, so that some are preempted in the middle of an operation.
    let threads = 2 * thread::available_parallelism().unwrap().get();
    let first = NEXT.load(Ordering::Relaxed);
    let shared = Arc::new(Shared::new());
    let each = operations / threads as u64;
    let workers: Vec<_> = (0..threads as u64)
        .map(|seed| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut choose = SmallRng::seed_from_u64(seed);
                let mut held = Vec::new();
                let mut requests = (0, 0);
                for operation in 0..each {
                    let (pool, budget) = shared.operate(&mut choose, &mut held);
                    requests = (requests.0 + pool, requests.1 + budget);
                    if seed == 0 && operation % (each / 100).max(1) == 0 && stderr().is_terminal() {
                        eprint!("\r{:3} %", operation * 100 / each);
                    }
                }
                requests
            })
        })
        .collect();
    let mut requests = (0, 0);
    for worker in workers {
        let (pool, budget) = worker.join().unwrap();
        requests = (requests.0 + pool, requests.1 + budget);
    }
    for slot in &shared.slots {
        drop(slot.lock().unwrap().take());
    }
    let (pool, budget) = (shared.pool.stats(), shared.budget.stats());
    for stats in [&pool, &budget] {
        check(stats);
        assert_eq!((stats.outstanding, stats.outstanding_bytes), (0, 0));
        for bucket in &stats.buckets {
            assert_eq!(bucket.hits + bucket.misses, bucket.returned);
        }
    }
    assert_eq!(served(&pool), requests.0);
    let large = &pool.buckets[pool.buckets.len() - 1];
    // A request that timed out just when it was granted counts as served.
    assert!((requests.1..=requests.1 + budget.waits).contains(&served(&budget)));
    Done {
        threads,
        operations: each * threads as u64,
        handovers: NEXT.load(Ordering::Relaxed) - first - requests.0 - requests.1,
        pool_requests: requests.0,
        budget_requests: requests.1,
        budget_waits: budget.waits,
        borrowed: large.hits + large.misses - shared.large_requests.load(Ordering::Relaxed),
    }
}
