//! The core without Python. Groups are named after what they measure; run with `cargo bench`.

use std::hint::black_box;

use bytepool::{Config, Pool};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

const SIZES: [usize; 5] = [1 << 10, 16 << 10, 256 << 10, 1 << 20, 16 << 20];

fn pool() -> Pool {
    let config = Config {
        min_size: 1 << 10,
        ..Config::default()
    };
    Pool::new(config).expect("a valid configuration")
}

/// Acquire and drop, with a warm buffer waiting; beside it what a user would do without a pool.
fn round_trip(c: &mut Criterion) {
    let mut group = c.benchmark_group("round_trip");
    for n in SIZES {
        let pool = pool();
        group.bench_function(BenchmarkId::new("bytepool", n), |b| {
            b.iter(|| drop(black_box(pool.acquire(black_box(n)))));
        });
        group.bench_function(BenchmarkId::new("vec_zeroed", n), |b| {
            b.iter(|| drop(black_box(vec![0_u8; black_box(n)])));
        });
    }
}

/// The same, with every byte written: what fresh memory costs when its pages are touched.
fn touch(c: &mut Criterion) {
    let mut group = c.benchmark_group("touch");
    for n in SIZES {
        let pool = pool();
        group.bench_function(BenchmarkId::new("bytepool", n), |b| {
            b.iter(|| pool.acquire(n).expect("memory").fill(black_box(1)));
        });
        group.bench_function(BenchmarkId::new("vec_zeroed", n), |b| {
            b.iter(|| black_box(vec![0_u8; n]).fill(black_box(1)));
        });
    }
}

/// Acquire and drop with nothing to reuse: every request is a miss, every return is discarded.
fn miss(c: &mut Criterion) {
    let mut group = c.benchmark_group("miss");
    let config = Config {
        max_buffers: 0,
        ..Config::default()
    };
    let pool = Pool::new(config).expect("a valid configuration");
    for n in SIZES {
        group.bench_function(BenchmarkId::new("bytepool", n), |b| {
            b.iter(|| drop(black_box(pool.acquire(black_box(n)))));
        });
    }
}

criterion_group!(benches, round_trip, touch, miss);
criterion_main!(benches);
