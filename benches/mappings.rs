//! Large memory from three sources: the allocator, mappings, and mappings with huge pages.
#![allow(missing_docs)]

use std::hint::black_box;
use std::ops::DerefMut;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use memmap2::{Advice, MmapMut};

const SIZES: [usize; 5] = [1 << 20, 2 << 20, 4 << 20, 16 << 20, 64 << 20];

fn boxed(n: usize) -> Box<[u8]> {
    vec![0; n].into()
}

fn mapped(n: usize) -> MmapMut {
    MmapMut::map_anon(n).expect("memory")
}

fn huge(n: usize) -> MmapMut {
    let map = mapped(n);
    map.advise(Advice::HugePage).expect("advice is taken");
    map
}

fn filled<M: DerefMut<Target = [u8]>>(mut memory: M) -> M {
    memory.fill(black_box(1));
    black_box(memory)
}

/// One block is alive at a time. Setting it up and dropping it is not timed.
fn timed<R>(work: impl FnOnce() -> R) -> (Duration, R) {
    let begin = Instant::now();
    let result = work();
    (begin.elapsed(), result)
}

fn total(iterations: u64, mut work: impl FnMut() -> Duration) -> Duration {
    (0..iterations).map(|_| work()).sum()
}

fn measure<M: DerefMut<Target = [u8]>>(c: &mut Criterion, name: &str, make: fn(usize) -> M) {
    for n in SIZES {
        c.benchmark_group("mapping_first_touch")
            .bench_function(BenchmarkId::new(name, n), |b| {
                b.iter_custom(|iterations| total(iterations, || timed(|| filled(make(n))).0));
            });
        let mut memory = filled(make(n));
        c.benchmark_group("mapping_steady")
            .bench_function(BenchmarkId::new(name, n), |b| {
                b.iter(|| memory.fill(black_box(2)));
            });
        c.benchmark_group("mapping_give_back")
            .bench_function(BenchmarkId::new(name, n), |b| {
                b.iter_custom(|iterations| {
                    total(iterations, || {
                        let memory = filled(make(n));
                        timed(|| drop(memory)).0
                    })
                });
            });
    }
}

fn sources(c: &mut Criterion) {
    measure(c, "boxed", boxed);
    measure(c, "mapped", mapped);
    measure(c, "huge_pages", huge);
}

criterion_group!(benches, sources);
criterion_main!(benches);
