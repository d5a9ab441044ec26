//! Every interleaving of two threads at each access to shared state (through `src/sync.rs`), and those of three
//! threads with few preemptions. This covers races; `model.rs` covers sequences. Each model prints how many
//! interleavings it tried.
#![cfg(loom)]

mod budget;
mod pool;

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytepool::{Buffer, Config, Pool, Stats};
use loom::sync::Arc;
use loom::thread;

fn new_pool(max_buffers: usize) -> Arc<Pool> {
    with_budget(max_buffers, None)
}

fn with_budget(max_buffers: usize, max_bytes: Option<usize>) -> Arc<Pool> {
    let config = Config {
        min_size: 1,
        max_size: 1,
        max_buffers,
        max_bytes,
        idle_timeout: Some(Duration::ZERO),
        ..Config::DEFAULT
    };
    Arc::new(Pool::new(config).unwrap())
}

/// Tries all interleavings. With two threads there are few enough.
fn model(work: impl Fn() + Send + Sync + 'static) {
    explore(loom::model::Builder::new(), "all", work);
}

/// For models with millions of interleavings: tries all of them in `make prove`, and otherwise those with at most
/// four preemptions.
fn large_model(work: impl Fn() + Send + Sync + 'static) {
    if std::env::var_os("LOOM_EXHAUSTIVE").is_some() {
        model(work);
    } else {
        bounded(4, work);
    }
}

/// Tries the interleavings with at most so many preemptions. With three threads, all of them would take days.
fn bounded(preemptions: usize, work: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000; // two threads that wait for a third need many
    let which = format!("up to {preemptions} preemptions");
    explore(builder, &which, work);
}

fn explore(builder: loom::model::Builder, which: &str, work: impl Fn() + Send + Sync + 'static) {
    let tried = std::sync::Arc::new(AtomicU64::new(0));
    let count = std::sync::Arc::clone(&tried);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        work();
    });
    let test = std::thread::current().name().map(str::to_owned);
    println!(
        "{tried:?} interleavings, {which}: {}",
        test.unwrap_or_default()
    );
}

/// Writes a stamp, lets other threads run, and checks that the stamp is unchanged: the buffer has one owner.
fn hold<P: Deref<Target = Pool>>(mut buffer: Buffer<P>, stamp: u8) {
    buffer[0] = stamp;
    thread::yield_now();
    assert_eq!(buffer[0], stamp);
}

fn check(stats: &Stats, served: u64, in_use: u64) {
    let [bucket] = stats.buckets.as_slice() else {
        panic!("not one size class: {stats:?}")
    };
    assert_eq!(bucket.hits + bucket.misses, served);
    assert_eq!(bucket.hits + bucket.misses, bucket.returned + in_use);
    assert_eq!(
        bucket.returned - bucket.freed() - bucket.hits,
        bucket.depth as u64
    );
    assert_eq!(stats.outstanding, in_use);
    assert_eq!(stats.outstanding_bytes, in_use);
    assert!(stats.peak_outstanding >= stats.outstanding);
}
