//! Benchmarks of plain allocation with mimalloc. `../pool.rs` runs the same with the system's allocator.
#![allow(missing_docs)]

#[path = "../contenders/mod.rs"]
mod contenders;
#[path = "../measure/mod.rs"]
mod measure;

use criterion::{criterion_group, criterion_main};
use measure::fresh;

const VEC_ZEROED: &str = "vec_zeroed_mimalloc";
const VEC_RESERVED: &str = "vec_reserved_mimalloc";

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion_group!(benches, fresh);
criterion_main!(benches);
