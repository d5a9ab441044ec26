//! The workloads, for any contender.
// Each bench binary uses its part.
#![allow(missing_docs, dead_code)]

use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytepool::{Config, Pool};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use crossbeam_queue::ArrayQueue;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::contenders::{Contender, VecReserved, VecZeroed};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

pub const SIZES: [usize; 5] = [1 << 10, 4 << 10, 64 << 10, 1 << 20, 16 << 20];

/// The size of groups that use only one.
const SIZE: usize = 4 << 10;
const LIVE: usize = 32;
/// Sizes in the window are spread evenly over the powers of two in between.
const SMALLEST: usize = 4 << 10;
const LARGEST: usize = 1 << 20;
/// The most buffers that are handed over and not yet returned.
const QUEUE: usize = 64;
const BATCH: usize = 16;

pub fn round_trip<C: Contender>(group: &mut Group<'_>, n: usize) {
    let pool = C::with_capacity(n);
    group.bench_function(BenchmarkId::new(C::NAME, n), |b| {
        b.iter(|| drop(black_box(pool.take(black_box(n)))));
    });
}

pub fn touch<C: Contender>(group: &mut Group<'_>, n: usize) {
    let pool = C::with_capacity(n);
    group.bench_function(BenchmarkId::new(C::NAME, n), |b| {
        b.iter(|| {
            let mut buffer = pool.take(n);
            C::fill(&mut buffer, n, black_box(1));
            drop(black_box(buffer));
        });
    });
}

/// Every request is a miss, every return is discarded.
pub fn miss(c: &mut Criterion) {
    let mut group = c.benchmark_group("miss");
    let pool = Pool::new(Config {
        max_buffers: 0,
        ..Config::default()
    });
    let pool = pool.expect("a valid configuration");
    for n in SIZES {
        group.bench_function(BenchmarkId::new("bytepool", n), |b| {
            b.iter(|| drop(black_box(pool.acquire(black_box(n)))));
        });
    }
}

/// Drops a pool that holds 16 idle buffers.
pub fn drop_full(c: &mut Criterion) {
    let mut group = c.benchmark_group("drop_full");
    let full = || {
        let pool = Pool::new(Config::default()).expect("a valid configuration");
        let buffers: Vec<_> = (0..16).map(|_| pool.acquire(SIZE)).collect();
        drop(buffers);
        pool
    };
    group.bench_function(BenchmarkId::new("bytepool", SIZE), |b| {
        b.iter_batched(full, drop, criterion::BatchSize::SmallInput);
    });
}

/// Acquire and drop on one size class by several threads. The time is one thread's time per round trip.
pub fn threads<C: Contender + Sync>(group: &mut Group<'_>, threads: usize) {
    let pool = C::with_capacity(SIZE);
    group.bench_function(BenchmarkId::new(C::NAME, SIZE), |b| {
        b.iter_custom(|iterations| {
            middle(threads, iterations, |_| {
                || drop(black_box(pool.take(black_box(SIZE))))
            })
        });
    });
}

/// Keeps a window of buffers of random sizes. Each step replaces the oldest.
pub fn window<C: Contender>(group: &mut Group<'_>, written: bool) {
    let pool = C::with_capacity(LARGEST);
    let mut step = window_step(&pool, 0, written);
    group.bench_function(BenchmarkId::new(C::NAME, 1), |b| b.iter(&mut step));
}

/// Several threads with one pool, each with its own window. The time is one thread's time per step.
pub fn window_threads<C: Contender + Sync>(group: &mut Group<'_>, threads: usize) {
    let pool = C::with_capacity(LARGEST);
    group.bench_function(BenchmarkId::new(C::NAME, threads), |b| {
        b.iter_custom(|iterations| {
            middle(threads, iterations, |thread| {
                window_step(&pool, thread, false)
            })
        });
    });
}

fn window_step<C: Contender>(pool: &C, thread: usize, written: bool) -> impl FnMut() {
    let mut random = StdRng::seed_from_u64(thread as u64);
    let doublings = (LARGEST as f64 / SMALLEST as f64).log2();
    let sizes: Vec<_> = (0..4096)
        .map(|_| (SMALLEST as f64 * (random.random::<f64>() * doublings).exp2()) as usize)
        .collect();
    let mut live: [_; LIVE] = std::array::from_fn(|_| None);
    let mut turn = 0_usize;
    move || {
        let n = sizes[turn % sizes.len()];
        let slot = &mut live[turn % LIVE];
        drop(slot.take());
        let mut buffer = pool.take(n);
        if written {
            C::fill(&mut buffer, n, 1);
        }
        *slot = Some(black_box(buffer));
        turn += 1;
    }
}

/// One thread takes buffers and hands them to another, which returns them.
pub fn hand_over<C: Contender + Sync>(group: &mut Group<'_>)
where
    for<'a> C::Buffer<'a>: Send,
{
    let pool = C::with_capacity(SIZE);
    group.bench_function(BenchmarkId::new(C::NAME, SIZE), |b| {
        b.iter_custom(|iterations| {
            let queue = ArrayQueue::new(QUEUE);
            let begin = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    begin.wait();
                    for _ in 0..iterations {
                        while queue.pop().map(drop).is_none() {
                            spin_loop();
                        }
                    }
                });
                begin.wait();
                let start = Instant::now();
                for _ in 0..iterations {
                    let mut buffer = pool.take(SIZE);
                    while let Err(back) = queue.push(buffer) {
                        buffer = back;
                        spin_loop();
                    }
                }
                start.elapsed()
            })
        });
    });
}

/// The same in batches: between the threads there are lists of buffers, so the queue costs little per buffer. The
/// lists are used again.
pub fn hand_over_batches<C: Contender + Sync>(group: &mut Group<'_>)
where
    for<'a> C::Buffer<'a>: Send,
{
    let pool = C::with_capacity(SIZE);
    group.bench_function(BenchmarkId::new(C::NAME, BATCH), |b| {
        b.iter_custom(|iterations| {
            let [full, empty] = [(); 2].map(|()| ArrayQueue::new(QUEUE / BATCH));
            while empty.push(Vec::with_capacity(BATCH)).is_ok() {}
            let begin = Barrier::new(2);
            let batches = iterations.div_ceil(BATCH as u64);
            thread::scope(|scope| {
                scope.spawn(|| {
                    begin.wait();
                    for _ in 0..batches {
                        let mut batch = pop_spinning(&full);
                        batch.clear();
                        let _ = empty.push(batch);
                    }
                });
                begin.wait();
                let start = Instant::now();
                for _ in 0..batches {
                    let mut batch = pop_spinning(&empty);
                    batch.extend((0..BATCH).map(|_| black_box(pool.take(black_box(SIZE)))));
                    let _ = full.push(batch);
                }
                start.elapsed()
            })
        });
    });
}

fn pop_spinning<T>(queue: &ArrayQueue<T>) -> T {
    loop {
        match queue.pop() {
            Some(item) => return item,
            None => spin_loop(),
        }
    }
}

/// Plain allocation in all groups, for a binary with another global allocator.
pub fn fresh(c: &mut Criterion) {
    for n in SIZES {
        let mut group = c.benchmark_group("round_trip");
        round_trip::<VecZeroed>(&mut group, n);
        round_trip::<VecReserved>(&mut group, n);
        drop(group);
        let mut group = c.benchmark_group("touch");
        touch::<VecZeroed>(&mut group, n);
        touch::<VecReserved>(&mut group, n);
    }
    threads::<VecZeroed>(&mut c.benchmark_group("two_threads"), 2);
    window::<VecZeroed>(&mut c.benchmark_group("window"), false);
    window_threads::<VecZeroed>(&mut c.benchmark_group("window_two_threads"), 2);
    let mut group = c.benchmark_group("window_touched");
    window::<VecZeroed>(&mut group, true);
    window::<VecReserved>(&mut group, true);
    drop(group);
    hand_over::<VecZeroed>(&mut c.benchmark_group("hand_over"));
}

/// The mean time that `iterations` steps take one thread while all threads run: they begin together, warm up, and
/// continue until the last one was timed.
fn middle<S: FnMut()>(
    threads: usize,
    iterations: u64,
    make_step: impl Fn(usize) -> S + Sync,
) -> Duration {
    let begin = Barrier::new(threads);
    let timed = AtomicUsize::new(0);
    let run = |index| {
        let mut step = make_step(index);
        begin.wait();
        for _ in 0..1000 {
            step();
        }
        let start = Instant::now();
        for _ in 0..iterations {
            step();
        }
        let time = start.elapsed();
        timed.fetch_add(1, Ordering::Relaxed);
        while timed.load(Ordering::Relaxed) < threads {
            step();
        }
        time
    };
    let run = &run;
    let total: Duration = thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|index| scope.spawn(move || run(index)))
            .collect();
        let times = all.into_iter().map(|thread| thread.join());
        times.map(|time| time.expect("no panic")).sum()
    });
    total / u32::try_from(threads).expect("few threads")
}
