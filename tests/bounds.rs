//! Random sequences against the bounds that a pool promises: what lies idle, what there is at all, what
//! is freed and why. Which buffer goes first is not foreseen here; that enough of them go, is.
#![cfg(not(loom))]

use std::time::Duration;

use bytepool::{Buffer, Config, Error, Pool, Stats};
use proptest::prelude::*;

const MAX_SIZE: usize = 1000;

#[derive(Clone, Debug)]
enum Step {
    Acquire(usize),
    /// Drops one of the live buffers, chosen by this number.
    Drop(usize),
    Trim(usize),
    Decay,
    Close,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..=MAX_SIZE).prop_map(Step::Acquire),
        2 => (MAX_SIZE + 1..2 * MAX_SIZE).prop_map(Step::Acquire),
        12 => any::<usize>().prop_map(Step::Drop),
        2 => (0..2 * MAX_SIZE).prop_map(Step::Trim),
        2 => Just(Step::Decay),
    ];
    let steps = prop::collection::vec(step, 0..200);
    (steps, any::<bool>()).prop_map(|(mut steps, close)| {
        if close {
            steps.insert(steps.len() * 3 / 4, Step::Close);
        }
        steps
    })
}

fn configs() -> impl Strategy<Value = Config> {
    let bytes = || prop::option::of(0..6 * MAX_SIZE);
    (
        0..5_usize,
        bytes(),
        bytes(),
        prop::sample::select(vec![1, 2, 4]),
    )
        .prop_map(|(max_buffers, max_idle_bytes, max_bytes, steps)| Config {
            min_size: 20,
            max_size: MAX_SIZE,
            max_buffers,
            steps,
            max_idle_bytes,
            max_bytes,
            idle_timeout: Some(Duration::ZERO),
            ..Config::DEFAULT
        })
}

/// What a request of `n` bytes costs. Found by trying all classes.
fn cost(config: &Config, n: usize) -> usize {
    let doublings = (5..10).map(|exponent| 1 << exponent);
    let divided = doublings.flat_map(|size: usize| {
        (0..config.steps).map(move |step| size + size * step / config.steps)
    });
    let mut classes = divided.filter(|&size| size < MAX_SIZE).chain([MAX_SIZE]);
    classes.find(|&size| size >= n).unwrap_or(n)
}

fn check(config: &Config, live: &[Buffer<&Pool>], stats: &Stats) {
    let out: usize = live.iter().map(|buffer| cost(config, buffer.len())).sum();
    assert_eq!(stats.outstanding, live.len() as u64);
    assert_eq!(stats.outstanding_bytes, out as u64);
    let idle = stats.idle_bytes;
    assert!(idle <= config.idle_bytes_kept() as u64, "{stats:?}");
    if let Some(max_bytes) = config.max_bytes {
        assert!(out as u64 + idle <= max_bytes as u64, "{stats:?}");
    }
    for bucket in &stats.buckets {
        assert!(bucket.depth <= config.max_buffers, "{bucket:?}");
        let kept = bucket.returned - bucket.freed();
        assert_eq!(kept - bucket.hits, bucket.depth as u64, "{bucket:?}");
    }
}

fn run(config: &Config, steps: &[Step]) {
    let pool = Pool::new(*config).unwrap();
    let mut live: Vec<Buffer<&Pool>> = Vec::new();
    let mut closed = false;
    for step in steps {
        let before = pool.stats();
        match *step {
            Step::Acquire(n) => {
                let lacking = config.max_bytes.is_some_and(|max_bytes| {
                    before.outstanding_bytes + cost(config, n) as u64 > max_bytes as u64
                });
                match pool.acquire(n) {
                    Ok(buffer) => {
                        // What lies idle is never in the way.
                        assert!(!lacking && !closed, "{n} {before:?}");
                        live.push(buffer);
                    }
                    Err(Error::Closed { .. }) => assert!(closed),
                    Err(Error::AboveBudget { requested, .. }) => {
                        assert!(config.max_bytes.is_some_and(|most| requested > most));
                    }
                    Err(Error::Exhausted { waiting: 0, .. }) => assert!(lacking, "{n} {before:?}"),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Drop(choice) if !live.is_empty() => drop(live.remove(choice % live.len())),
            Step::Drop(_) => {}
            Step::Trim(keep) => {
                let freed = pool.trim(keep) as u64;
                let idle = pool.stats().idle_bytes;
                assert_eq!(freed, before.idle_bytes - idle);
                assert!(idle <= keep as u64);
                assert!(before.idle_bytes <= keep as u64 || idle + MAX_SIZE as u64 > keep as u64);
            }
            Step::Decay => {
                let freed = pool.decay() + pool.decay();
                assert_eq!(
                    freed as u64, before.idle_bytes,
                    "nobody needed it in between"
                );
                assert_eq!(pool.stats().idle_bytes, 0);
            }
            Step::Close => {
                pool.close();
                closed = true;
            }
        }
        check(config, &live, &pool.stats());
        if closed {
            assert_eq!(pool.stats().idle_bytes, 0);
        }
    }
    live.clear();
    check(config, &live, &pool.stats());
    pool.trim(0);
    // Nothing is left that takes of the budget: all of it can be had at once, as a transient request.
    if let Some(max_bytes) = config.max_bytes
        && max_bytes > MAX_SIZE
        && !closed
    {
        assert_eq!(pool.acquire(max_bytes).unwrap().len(), max_bytes);
    }
}

proptest! {
    #[test]
    fn the_bounds_hold_after_every_step((config, steps) in (configs(), steps())) {
        run(&config, &steps);
    }
}
