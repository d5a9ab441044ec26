//! Benchmarks of plain allocation with jemalloc. `../pool.rs` runs the same with the system's allocator.
#![allow(missing_docs)]

#[path = "../contenders/mod.rs"]
mod contenders;
#[path = "../measure/mod.rs"]
mod measure;

use criterion::{criterion_group, criterion_main};
use measure::fresh;

const VEC_ZEROED: &str = "vec_zeroed_jemalloc";
const VEC_RESERVED: &str = "vec_reserved_jemalloc";

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

criterion_group!(benches, fresh);
criterion_main!(benches);
