//! The core, other crates, and plain allocation. `cargo bench` runs them, `make compare` interleaves them and prints
//! tables.
#![allow(missing_docs)]

mod contenders;
#[path = "contenders/crates.rs"]
mod crates;
mod measure;

use contenders::{ByClass, NoPool, VecReserved, VecZeroed};
use crates::{
    BytePool, Bytepool, BytepoolOwned, Lifeguard, ObjectPool, Opool, OpoolLocal, ShardedSlab,
    ZeroPool,
};
use criterion::{Criterion, criterion_group, criterion_main};
use measure::{
    SIZES, drop_full, hand_over, hand_over_batches, miss, round_trip, threads, touch, window,
    window_threads,
};

const VEC_ZEROED: &str = "vec_zeroed";
const VEC_RESERVED: &str = "vec_reserved";

/// Runs one measurement for each contender in turn.
macro_rules! each {
    ($measure:ident $arguments:tt: $($contender:ty),* $(,)?) => {
        $($measure::<$contender> $arguments;)*
    };
}

/// Acquire and drop with one idle buffer, and plain allocation.
fn hit(c: &mut Criterion) {
    let group = &mut c.benchmark_group("round_trip");
    for n in SIZES {
        each!(round_trip(group, n): Bytepool, BytepoolOwned, BytePool, Lifeguard, ObjectPool, Opool,
            OpoolLocal, ShardedSlab, ZeroPool, VecZeroed, VecReserved);
    }
}

/// Acquire and drop by two threads on one size class.
fn two_threads(c: &mut Criterion) {
    let group = &mut c.benchmark_group("two_threads");
    each!(threads(group, 2): Bytepool, BytepoolOwned, BytePool, ObjectPool, Opool, ShardedSlab,
        ZeroPool, VecZeroed);
}

/// A window of 32 live buffers of random sizes.
fn windows(c: &mut Criterion) {
    let mut one = c.benchmark_group("window");
    let group = &mut one;
    each!(window(group, false): Bytepool, BytepoolOwned, ByClass<BytePool>, ByClass<Lifeguard>,
        ByClass<ObjectPool>, ByClass<Opool>, ByClass<OpoolLocal>, ByClass<ShardedSlab>, ZeroPool,
        VecZeroed, VecReserved);
    one.finish();
    let group = &mut c.benchmark_group("window_two_threads");
    each!(window_threads(group, 2): Bytepool, BytepoolOwned, ByClass<BytePool>, ByClass<ObjectPool>,
        ByClass<Opool>, ByClass<ShardedSlab>, ZeroPool, VecZeroed);
}

/// The window with every byte written, so that fresh memory pays for its pages.
fn window_touched(c: &mut Criterion) {
    let group = &mut c.benchmark_group("window_touched");
    each!(window(group, true): Bytepool, ByClass<BytePool>, ByClass<Lifeguard>,
        ByClass<ObjectPool>, ByClass<Opool>, ByClass<OpoolLocal>, ByClass<ShardedSlab>, ZeroPool,
        VecZeroed, VecReserved);
}

/// One buffer at a time, every byte written.
fn touched(c: &mut Criterion) {
    let group = &mut c.benchmark_group("touch");
    for n in SIZES {
        each!(touch(group, n): Bytepool, ObjectPool, Opool, VecZeroed, VecReserved);
    }
}

/// One thread acquires, another returns. The guards of lifeguard and sharded-slab cannot leave their thread.
fn handed_over(c: &mut Criterion) {
    let group = &mut c.benchmark_group("hand_over");
    each!(hand_over(group): Bytepool, BytepoolOwned, BytePool, ObjectPool, Opool, ZeroPool,
        VecZeroed, NoPool);
}

/// The same in batches.
fn handed_over_in_batches(c: &mut Criterion) {
    let group = &mut c.benchmark_group("hand_over_batches");
    each!(hand_over_batches(group): Bytepool, BytepoolOwned, BytePool, ObjectPool, Opool, ZeroPool,
        VecZeroed, NoPool);
}

criterion_group!(
    benches,
    hit,
    two_threads,
    windows,
    window_touched,
    touched,
    handed_over,
    handed_over_in_batches,
    miss,
    drop_full
);
criterion_main!(benches);
